"""§7: make a new container of the block's image for the API, whatever it ran as before."""

import os
import re
import stat
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from blocks.workload import Workload
from tasks.containment.containers.kept import kept_config
from tasks.containment.containers.pause import WorkloadContainers
from tasks.custody.containment.identity import ContainerIdentity
from tasks.custody.incident.description import leads_to
from tasks.host.container.docker_engine import Engine
from tasks.host.container.membership import Container, Mount, belongs, find_published_ports
from tasks.recovery.api_client import failure
from tasks.recovery.container_api import ContainerApi
from tasks.recovery.process_api import api_user
from tasks.runtime.context import RunContext
from tasks.system.accounts import groups_of


class ImageApi(ContainerApi):
    """The API as a new container of the block's image. One that failed stays, stopped, for its logs."""

    def __init__(self, context: RunContext) -> None:
        """Choose a name that this incident has not used; makes nothing."""
        self._names, self._folders = f"{context.incident.id}-api-", folders_of(context.workload)
        number = sum(map(len, context.state.made_containers.of_boots())) + 1
        super().__init__(context, f"{self._names}{number}", context.workload.api_image)

    def _is_ours(self, now: Container) -> bool:
        if ours := now.name.startswith(self._names):
            self.container, self.log = now.name, f"docker logs {now.name}"
        return ours

    @cached_property
    def config(self) -> dict[str, Any]:
        """The container that runs, else the one that would be made. Raises NotRecovered as `new_container` does.

        Also if another image ran at the freeze, and the block names its own by no id or digest.
        """
        if self._id:
            return self.engine.inspect(self._id)
        block = self.context.workload
        description = new_container(block, self.engine, api_user(block, self.context.state, container=True))
        former = WorkloadContainers(self.context).find_api(leads_to(block.api_address)[1])
        now = description["Image"]
        before = kept_config(self.context.directory.path, former.identity)["Image"] if former else now
        if before != now and not re.fullmatch(r"(.+@)?sha256:[0-9a-f]{64}", block.api_image):
            raise failure(f"{block.api_image} to be the image that ran, {before}, or an id as api_image", now)
        return description

    def start(self) -> None:
        """Start the container. Raises NotRecovered if a link has led the engine to another folder than the root's."""
        self.image += f" ({self.config['Image']})"
        super().start()
        for target, folder in self._folders.items() if not os.geteuid() else ():
            mount = Path(f"/proc/{self.identity.pid}/root{target}")
            if self.lives() and not (mount.exists() and os.path.samestat(mount.stat(), folder.lstat())):
                raise failure(f"{folder} at {target} of {self.container}", "another folder")

    @cached_property
    def mounts(self) -> tuple[Mount, ...]:
        """What the block has mounted: folders of the root, and volumes, which have nothing of it."""
        rows = (each.split(":") for each in self.context.workload.api_mounts)
        return tuple(
            Mount(str(self._folders.get(target, "")), PurePath(target), writable=not mode) for _, target, *mode in rows
        )


def folders_of(block: Workload) -> dict[str, Path]:
    """Return the folders of the root that `api_mounts` names, by target."""
    rows = (each.split(":") for each in block.api_mounts)
    return {target: Path(os.path.realpath(block.root), source[2:]) for source, target, *_ in rows if source[:2] == "./"}


def new_container(block: Workload, engine: Engine, account: int) -> dict[str, Any]:
    """Return the container as `inspect` would: of the block, run by this account; for root by the image's own user.

    Raises NotRecovered for a missing image or folder, if it does not publish the API's port, or if `containers` does
    not name it: nothing would contain it.
    """
    name, port, folders = block.api_image, leads_to(block.api_address)[1], folders_of(block)
    if not name or not (image := engine.image(name)):
        raise failure(f"the image api_image = {name!r} on this host: nothing is pulled", "no such image")
    for folder in folders.values():
        if not folder.is_dir() or stat.S_ISLNK(folder.lstat().st_mode):
            raise failure(f"{folder} in api_mounts to be a folder, and no link", "something else, or nothing")
    bindings, mounts, config = dict[str, list[dict[str, str]]](), [], image["Config"]
    for *address, host, within in (each.split(":") for each in block.api_ports or [f"{port}:{port}"]):
        bindings.setdefault(f"{within}/tcp", []).append({"HostIp": (address or ["127.0.0.1"])[0], "HostPort": host})
    for source, target, *mode in (each.split(":") for each in block.api_mounts):
        kind, place = ("bind", str(folders[target])) if target in folders else ("volume", source)
        mounts.append({"Type": kind, "Source": place, "Target": target, "ReadOnly": bool(mode)})
    variables = dict(each.split("=", 1) for each in config.get("Env") or []) | block.api_environment
    host_config: dict[str, Any] = {"PortBindings": bindings, "Mounts": mounts, "SecurityOpt": ["no-new-privileges"]}
    options: dict[str, Any] = {"Env": [f"{key}={value}" for key, value in variables.items()]}
    options["ExposedPorts"] = {each: {} for each in bindings}
    if account:
        options["User"], host_config["CapDrop"] = f"{account}:{groups_of(account)[0]}", ["ALL"]
    start = {"Path": "", "Args": [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]}
    description = {"Id": "", "Image": image["Id"], **start, "Config": options, "HostConfig": host_config}
    if port not in find_published_ports(description):
        raise failure(f"api_ports to publish port {port}, where api_url is", str(block.api_ports))
    container = Container(ContainerIdentity("", ""), "", name, image["Id"], "", labels=config.get("Labels") or {})
    if not any(belongs(container, each) for each in block.containers):
        raise failure(f'containers to have "image={name}", so that it is contained', str(block.containers))
    return {**description, "NetworkSettings": {"Networks": {}}}
