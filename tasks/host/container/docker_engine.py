"""Ask and command the Docker engine within time limits. Its SDK is imported on first use: it would delay a freeze."""

import errno
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol

from tasks.custody.containment.identity import ContainerIdentity
from tasks.custody.errors import ContainerGone, EngineError, EngineUnreachable
from tasks.host.container.archive import Archive
from tasks.host.container.membership import ALIVE, Container, belongs, find_mounts, find_published_ports

SECONDS: Final = 5.0
_COMPARE_SECONDS: Final = 30.0
"""It reads the whole layer, with some storage drivers the whole image too."""
_SOCKET: Final = "unix://"
_CHUNK: Final = 1 << 20
_TAIL: Final = 100


class Engine(Protocol):
    """What the steps may do with an engine; a dry run has another implementation.

    Every method may raise EngineError; EngineUnreachable means that the next call would fail too.
    """

    @property
    def place(self) -> str:
        """The engine's address."""

    def close(self) -> None:
        """Close the connection."""

    def containers(self, entries: Sequence[str], *, others: bool = False) -> tuple[Container, ...]:
        """Return the living containers that an entry of `entries` may accept, and all `others` if they are wanted too.

        `descends_from` says which of the requested images are ancestors.
        """

    def get_container(self, id_: str) -> Container | None:
        """Return one container as it is now, None if it is gone."""

    def pause(self, id_: str) -> None:
        """Freeze all of its processes. Raises ContainerGone if it does not run."""

    def unpause(self, id_: str) -> None:
        """Resume its processes. Raises ContainerGone if it does not run."""

    def forbid_restart(self, id_: str) -> None:
        """Remove its restart policy."""

    def allow_restart(self, id_: str, policy: Mapping[str, Any]) -> None:
        """Restore its restart policy."""

    def signal(self, id_: str, name: str) -> None:
        """Send its first process a signal. A paused one gets it queued and is then thawed, so it handles that first."""

    def end_of(self, id_: str, seconds: float) -> int | None:
        """Wait up to `seconds` until it has ended; return its exit code. Raises TimeoutError if it still runs."""

    def inspect(self, id_: str) -> dict[str, Any]:
        """Return everything that the engine knows of it, its environment too: redact before showing."""

    def top(self, id_: str) -> dict[str, Any]:
        """Return its processes."""

    def logs(self, id_: str) -> Iterator[bytes]:
        """Yield what it has written to its output so far, each line with its time."""

    def follow(self, id_: str) -> Iterator[bytes]:
        """Return what it writes to its output until it has ended, each line with its time, after some that it wrote."""

    def diff(self, id_: str) -> list[dict[str, Any]]:
        """Return how its files differ from its image."""

    def archive(self, id_: str, path: str) -> Archive | None:
        """Return a file or folder of it, in its volumes and bind mounts too; None if there is none."""

    def start(self, id_: str) -> None:
        """Start a stopped container."""

    def remove(self, id_: str) -> None:
        """Remove a container that does not run."""

    def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Create it again from what `inspect` returned; return the new id."""

    def image(self, name: str) -> dict[str, Any] | None:
        """Return everything that the engine knows of an image of this host; None if it has none. Pulls nothing."""


class DockerEngine:
    """A Docker engine at `address`, else at DOCKER_HOST, else at the usual socket."""

    def __init__(self, address: str = "", seconds: float = SECONDS) -> None:
        """Take address and time limit in seconds; nothing is asked yet."""
        self._environment = {**os.environ, **({"DOCKER_HOST": address} if address else {})}
        self._seconds = seconds

    @property
    def place(self) -> str:
        """The engine's address."""
        return self._environment.get("DOCKER_HOST") or "unix:///var/run/docker.sock"

    @cached_property
    def _client(self) -> Any:
        """The SDK's client in the engine's API version; the SDK's own way to ask for that leaves a socket open."""
        from docker import APIClient, constants, utils

        if self.place.startswith(_SOCKET):  # a missing or denied socket raises the system's own error
            with socket.socket(socket.AF_UNIX) as door:
                door.settimeout(self._seconds)
                door.connect(self.place.removeprefix(_SOCKET))
        settings = {**utils.kwargs_from_env(environment=self._environment), "timeout": self._seconds}
        with closing(APIClient(version=constants.DEFAULT_DOCKER_API_VERSION, **settings)) as probe:
            version = probe.version(api_version=False)["ApiVersion"]
        return APIClient(version=version, **settings)

    def close(self) -> None:
        """Close the connection."""
        if client := self.__dict__.pop("_client", None):
            client.close()

    @contextmanager
    def _asking(self, what: str, seconds: float = 0.0) -> Iterator[Any]:
        """Yield the client, which waits at least `seconds` for an answer."""
        from docker import errors  # never docker.errors: Prefect's lazy docker would load a second copy of it
        from requests.exceptions import HTTPError, RequestException

        seconds = max(seconds, self._seconds)
        try:
            client = self._client
            client.timeout = seconds
            yield client
        except HTTPError as error:  # every copy's APIError is one
            raise _refusal(what, error) from error
        except (errors.DockerException, RequestException, OSError) as error:
            expected, got = f"the Docker engine at {self.place} to {what}", _cause(error, seconds)
            cure = "Start the engine, let this user use its socket, or correct docker_host in the workload block."
            raise EngineUnreachable(expected, got, "What its containers do is not known.", cure) from error

    def containers(self, entries: Sequence[str], *, others: bool = False) -> tuple[Container, ...]:
        """List, then inspect what may be asked for; a container that is gone meanwhile is left out.

        One that cannot be asked for is not inspected: an engine that fails to describe it hinders nothing.
        """
        with self._asking("list its containers") as client:
            rows = client.containers(all=True, filters={"status": sorted(ALIVE)})
            images = [entry.partition("=")[2] for entry in entries if entry.startswith("image=")]
            made_from = {
                image: {row["Id"] for row in client.containers(all=True, filters={"ancestor": image})}
                for image in images
            }
        found = []
        for row in rows:
            ancestors = tuple(image for image, ids in made_from.items() if row["Id"] in ids)
            wanted = others or any(_may_belong(row, ancestors, entry) for entry in entries)
            if wanted and (container := self.get_container(row["Id"], ancestors)):
                found.append(container)
        return tuple(container for container in found if container.alive)

    def get_container(self, id_: str, ancestors: tuple[str, ...] = ()) -> Container | None:
        """Inspect it. `ancestors` are the names of images that it is known to descend from."""
        with suppress(ContainerGone):
            return container_from(self.inspect(id_), ancestors)
        return None

    def pause(self, id_: str) -> None:
        """Do as `docker pause`; idempotent."""
        self._stand(id_, still=True)

    def unpause(self, id_: str) -> None:
        """Do as `docker unpause`; idempotent."""
        self._stand(id_, still=False)

    def _stand(self, id_: str, *, still: bool) -> None:
        """Pause or thaw it, also if the guard or the engine does so at the same moment."""
        if self._is_paused(id_) is still:
            return
        try:
            with self._asking("pause a container" if still else "thaw a container") as client:
                (client.pause if still else client.unpause)(id_)
        except EngineError:
            if self._is_paused(id_) is not still:
                raise

    def _is_paused(self, id_: str) -> bool:
        now = self.get_container(id_)
        return now is not None and now.state == "paused"

    def forbid_restart(self, id_: str) -> None:
        """Do as `docker update --restart no`."""
        self.allow_restart(id_, {"Name": "no"})

    def allow_restart(self, id_: str, policy: Mapping[str, Any]) -> None:
        """Do as `docker update --restart`."""
        with self._asking("change a container's restart policy") as client:
            client.update_container(id_, restart_policy=dict(policy))

    def signal(self, id_: str, name: str) -> None:
        """Do as `docker kill --signal`. The engine thaws only for the stop signal and SIGKILL; for others we do."""
        with self._asking(f"send {name} to a container") as client:
            client.kill(id_, name)
        self._stand(id_, still=False)

    def end_of(self, id_: str, seconds: float) -> int | None:
        """Return what `docker wait` returns; None if the container was gone before."""
        from requests.exceptions import ConnectionError as Broken
        from requests.exceptions import ReadTimeout

        try:
            with self._asking("wait for a container's end") as client:
                return int(client.wait(id_, timeout=seconds, condition="not-running")["StatusCode"])
        except ContainerGone:
            return None
        except EngineUnreachable as error:
            if isinstance(error.__cause__, (ReadTimeout, Broken)) and (now := self.get_container(id_)) and now.alive:
                raise TimeoutError(id_) from error
            raise

    def inspect(self, id_: str) -> dict[str, Any]:
        """Return what `docker inspect` shows."""
        with self._asking("describe a container") as client:
            return dict(client.inspect_container(id_))

    def top(self, id_: str) -> dict[str, Any]:
        """Return what `docker top` shows."""
        with self._asking("list a container's processes") as client:
            return dict(client.top(id_))

    def logs(self, id_: str) -> Iterator[bytes]:
        """Yield what `docker logs --timestamps` shows."""
        with self._asking("give a container's log") as client:
            yield from client.logs(id_, stdout=True, stderr=True, timestamps=True, stream=True, follow=False)

    def follow(self, id_: str) -> Iterator[bytes]:
        """Return what `docker logs --timestamps --follow --tail 100` shows; asked for before this returns."""
        with self._asking("give a container's log") as client:
            content = client.logs(id_, stdout=True, stderr=True, timestamps=True, stream=True, follow=True, tail=_TAIL)
        return self._read(content)

    def diff(self, id_: str) -> list[dict[str, Any]]:
        """Return what `docker diff` shows."""
        with self._asking("compare a container with its image", _COMPARE_SECONDS) as client:
            return client.diff(id_) or []

    def archive(self, id_: str, path: str) -> Archive | None:
        """Return what `docker cp CONTAINER:PATH -` writes."""
        try:
            with self._asking("give files of a container") as client:
                content, stat = client.get_archive(id_, path, chunk_size=_CHUNK)
        except ContainerGone:
            if self.get_container(id_):
                return None
            raise
        link = str(stat["linkTarget"]) if int(stat["mode"]) & (1 << 27) else ""  # Go's os.ModeSymlink
        return Archive(link, self._read(content))

    def _read(self, content: Iterator[bytes]) -> Iterator[bytes]:
        with self._asking("give files of a container"):
            yield from content

    def start(self, id_: str) -> None:
        """Do as `docker start`."""
        with self._asking("start a container") as client:
            client.start(id_)

    def remove(self, id_: str) -> None:
        """Do as `docker rm` of one that does not run."""
        with self._asking("remove a container") as client:
            client.remove_container(id_)

    def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Do as `docker create` with every option that the container had, from the exact image that it ran."""
        with self._asking("make a container") as client:
            return str(client.create_container_from_config(creation(config), name=name)["Id"])

    def image(self, name: str) -> dict[str, Any] | None:
        """Return what `docker image inspect` shows."""
        with suppress(ContainerGone), self._asking("describe an image") as client:
            return dict(client.inspect_image(name))
        return None


def container_from(details: Mapping[str, Any], descends_from: tuple[str, ...] = ()) -> Container:
    """Read a container from its inspection."""
    state, config, host = details["State"], details["Config"], details["HostConfig"]
    return Container(
        identity=ContainerIdentity(details["Id"], state["StartedAt"]),
        name=details["Name"].removeprefix("/"),
        image=config["Image"],
        image_id=details["Image"],
        state=state["Status"],
        pid=int(state["Pid"]),
        labels=config["Labels"] or {},
        restart=host["RestartPolicy"]["Name"] or "no",
        auto_remove=bool(host["AutoRemove"]),
        stop_signal=config.get("StopSignal") or "",
        exit_code=None if state["Status"] in ALIVE else int(state["ExitCode"]),
        folder=config["WorkingDir"] or "/",
        descends_from=descends_from,
        mounts=find_mounts(details),
        ports=find_published_ports(details),
    )


def may_be_there(place: str) -> bool:
    """Return whether an engine may be at this address: its socket exists, or it is no socket of this host.

    PermissionError if that is not known.
    """
    with suppress(FileNotFoundError):
        return not place.startswith(_SOCKET) or bool(Path(place.removeprefix(_SOCKET)).stat())
    return False


def _may_belong(row: Mapping[str, Any], ancestors: tuple[str, ...], entry: str) -> bool:
    """Return whether an entry of `containers` may accept the container of a row of the engine's list.

    If the name of its image means another image now, the row has the image's id instead: only the inspection tells.
    """
    names, image, image_id = row.get("Names"), row.get("Image") or "sha256:", row.get("ImageID") or ""
    if not names or (entry.startswith("image=") and (image == image_id or image.startswith("sha256:"))):
        return True
    identity, labels = ContainerIdentity(row["Id"], ""), row.get("Labels") or {}
    listed = Container(identity, "", image, image_id, "", labels=labels, descends_from=ancestors)
    return any(belongs(replace(listed, name=name.removeprefix("/")), entry) for name in names)


def creation(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `docker create` for the same container, without what the engine had generated."""
    config = dict(details["Config"])
    if config.get("Hostname") == details["Id"][:12]:
        del config["Hostname"]
    config["Image"] = details["Image"]
    networks = {
        name: {key: network[key] for key in ("Aliases", "Links", "IPAMConfig", "DriverOpts") if network.get(key)}
        for name, network in details["NetworkSettings"]["Networks"].items()
        if name not in {"bridge", "host", "none"}
    }
    return {**config, "HostConfig": details["HostConfig"], "NetworkingConfig": {"EndpointsConfig": networks}}


def _refusal(what: str, error: Any) -> EngineError:
    words, status = str(getattr(error, "explanation", None) or error), getattr(error.response, "status_code", None)
    gone = status == 404 or (status == 409 and "is not running" in words)  # noqa: PLR2004
    cure = "Look at it with `docker ps --all` and `docker inspect`."
    return (ContainerGone if gone else EngineError)(f"the engine to {what}", words, "It was not done.", cure)


def _cause(error: BaseException, seconds: float) -> str:
    """Return the system's own message, from below the exceptions that wrap it."""
    below = list(_below(error))
    if any(isinstance(each, TimeoutError) or "Timeout" in type(each).__name__ for each in below):
        return f"no answer within {seconds:g} s"
    system = [each for each in below if isinstance(each, OSError) and each.errno in errno.errorcode]
    return system[-1].strerror or str(system[-1]) if system else str(error)


def _below(error: BaseException) -> Iterator[BaseException]:
    yield error
    inner: Iterable[object] = (error.__cause__, error.__context__, *error.args)
    for each in inner:
        if isinstance(each, BaseException) and each is not error:
            yield from _below(each)
