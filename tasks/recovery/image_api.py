"""§7: make a new container of the block's image for the API, whatever it ran as before."""

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Final

from blocks.workload import Workload
from tasks.adapters.container_engine import Engine
from tasks.containment.containers import api_container, kept_config
from tasks.custody.containment.container import Container, ContainerIdentity, Mount, belongs, mounted, published
from tasks.custody.containment.new_container import host_folder, is_pinned, mount_of, new_container
from tasks.custody.evidence.pattern import fits
from tasks.custody.incident.description import leads_to
from tasks.recovery.api_client import failure
from tasks.recovery.container_api import EngineApi, inside
from tasks.recovery.process_api import api_user
from tasks.runtime.context import RunContext
from tasks.system.accounts import groups_of

_PATH: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ImageApi(EngineApi):
    """The API as a new container of the block's image. One that failed stays, stopped, for its logs."""

    def __init__(self, context: RunContext) -> None:
        """Choose a name that this incident has not used; makes nothing."""
        self._names = f"{context.incident.id}-api-"
        super().__init__(context, f"{self._names}{len(context.state.made_containers.read()) + 1}")

    def _is_ours(self, now: Container) -> bool:
        return now.name.startswith(self._names)

    @cached_property
    def _about(self) -> dict[str, Any]:
        if self._id:
            return self.engine.inspect(self._id)
        return described(self.context.workload, self.engine, api_user(self.context, container=True))

    @property
    def unproven(self) -> str:
        """That it runs another image than the container that was frozen, unless the block pins its own."""
        block, now = self.context.workload, self._about["Image"]
        was = api_container(self.context, leads_to(block.api_address)[1])
        before = kept_config(self.context.directory.path, was.identity)["Image"] if was else now
        if before == now or is_pinned(block.api_image):
            return ""
        cure = "pin the one that you want in api_image; 使うイメージを api_image で固定してください"
        return f"that it runs the image of the freeze, {before}: {block.api_image} is {now} now ({cure})"

    def rehearse(self) -> str:
        """Name image and account."""
        user = self._about["Config"].get("User") or "its image's own"
        return f"a container of {self.context.workload.api_image} ({self._about['Image']}), by user {user}"

    def prepare(self) -> None:
        """Create the container. Raises NotRecovered for what the block or this host lacks, before anything is made."""
        self._made = True
        self._id = self._create()

    def start(self) -> None:
        """Start the container. Raises NotRecovered if another folder than the root's is mounted into it."""
        self.engine.start(self._id)
        image = f"{self.context.workload.api_image} ({self._about['Image']})"
        self.context.log.write("restarted", self._id, name=self.container, image=image, how="made of api_image")
        for mount in self._folders if not os.geteuid() else ():
            if not _is_mounted(self.context.workload, mount, self.identity.pid) and self.lives():
                expected = f"{mount.source} of {self.context.workload.root} at {mount.target} of {self.container}"
                raise failure(expected, "another folder: a link has led the engine there since it was looked at")

    @cached_property
    def _folders(self) -> list[Mount]:
        """The root's folders that are mounted, by their names in the root."""
        root = os.path.realpath(self.context.workload.root)
        below = (each for each in mounted(self.engine.inspect(self._id)) if each.source.startswith(f"{root}/"))
        return [Mount(os.path.relpath(each.source, root), each.target, each.writable) for each in below]

    def known_as(self, name: str) -> str:
        """Return the path of a model inside the container, also of one in a folder of the root that is mounted."""
        path = PurePosixPath(name)
        for mount in self._folders:
            there = mount.target / path.relative_to(mount.source) if path.is_relative_to(mount.source) else path
            if found := inside(str(mount.target), str(there)):
                return found
        return super().known_as(name)

    def listed(self, sealed: Iterable[str]) -> list[str]:
        """Return the sealed models that exist in the container now.

        Of two names that lead to one file, that in a mounted folder of the root counts, then that in the container that
        was frozen.
        """
        patterns, folders, found = self.context.workload.models, self._folders, dict[str, str]()

        def rank(name: str) -> int:
            path = PurePosixPath(name)
            if any(path.is_relative_to(each.source) for each in folders):
                return 2
            return int(path.is_absolute() and not any(path.is_relative_to(each.target) for each in folders))

        models = [name for name in sealed if name.startswith("/") or any(fits(name, each) for each in patterns)]
        for name in sorted(models, key=rank):
            if path := super().known_as(name) if name.startswith("/") else self.known_as(name):
                found[path] = name
        return [name for path, name in found.items() if self.engine.archive(self._id, path)]


def described(block: Workload, engine: Engine, account: int) -> dict[str, Any]:
    """Return the container that would be made, run by this account; by the image's own user if that is root.

    Raises NotRecovered if image or folders are missing, if it would not publish the API's port, or if `containers` does
    not name it: nothing would contain it.
    """
    if not (name := block.api_image):
        raise failure("api_image in the workload block, for a new container", "none: leave start_as out, or name it")
    if not (image := engine.image(name)):
        raise failure(f"the image {name} on this host: nothing is pulled", "no such image (docker load, docker build)")
    for each in block.api_mounts:
        if folder := host_folder(mount_of(each)):
            os.close(_open_folder(block, folder))
    port = leads_to(block.api_address)[1]
    about = new_container(
        image,
        name,
        root=os.path.realpath(block.root),
        ports=block.api_ports or [f"{port}:{port}"],
        mounts=block.api_mounts,
        environment=block.api_environment,
        user=f"{account}:{groups_of(account)[0]}" if account else "",
    )
    if port not in (ports := published(about)):
        raise failure(f"api_ports to publish port {port}, where api_url is", ", ".join(map(str, sorted(ports))))
    made = Container(ContainerIdentity("", ""), "", name, image["Id"], "", labels=about["Config"]["Labels"])
    if not any(belongs(made, entry) for entry in block.containers):
        cure = f'"image={name}"'
        raise failure(f"containers to name what is made, as by {cure}: nothing else contains it", str(block.containers))
    return about


def _open_folder(block: Workload, folder: str) -> int:
    """Open a folder of the root over no link. Raises NotRecovered: the engine, which is root, would follow one."""
    place = os.open(block.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in folder.split("/"):
        above = place
        try:
            place = os.open(part, _PATH, dir_fd=above)
        except OSError as error:
            raise failure(f"{folder} in api_mounts to be a folder of {block.root}, and no link", str(error)) from error
        finally:
            os.close(above)
    return place


def _is_mounted(block: Workload, mount: Mount, pid: int) -> bool:
    """Return whether the container has the root's own folder there. False if its first process has ended."""
    place = _open_folder(block, mount.source)
    try:
        return os.path.samestat(Path(f"/proc/{pid}/root", *mount.target.parts[1:]).stat(), os.fstat(place))
    except (FileNotFoundError, ProcessLookupError):
        return False
    finally:
        os.close(place)
