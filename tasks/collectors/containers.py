"""Collect configuration, processes and file changes of each paused container before it is stopped."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from tasks.acquisition.collector import Collector, FunctionItems, Target
from tasks.acquisition.procfs import printable
from tasks.acquisition.room import Room
from tasks.custody.errors import EngineError, EngineUnreachable
from tasks.custody.evidence.acquisition import Loss, Outcome, StoredFile
from tasks.custody.evidence.keys import CONTAINERS, stored_name
from tasks.custody.evidence.redact import redact, redact_command, redact_environment, redact_fields, redact_value
from tasks.custody.evidence.words import secret_name
from tasks.custody.store.manifest import canonical, digest_bytes
from tasks.host.container.docker_engine import DockerEngine, Engine
from tasks.host.container.membership import find_living

_GIVEN: Final = frozenset(
    {"Labels", "Config", "Options", "DriverOpts", "Sysctls", "Annotations", "StorageOpt", "Tmpfs", "GenericResources"}
)
"""Fields of what people configure; Config is that of a log driver too."""
_OWN: Final = frozenset(
    """
    Id Name Image ImageID Created StartedAt FinishedAt Start End Status Path PathInContainer PathOnHost Source
    Destination Target Type Driver Platform Mode Propagation CgroupPermissions ResolvConfPath HostnamePath HostsPath
    LogPath ContainerIDFile Binds Mounts VolumesFrom VolumeDriver NetworkMode IpcMode PidMode UTSMode UsernsMode
    CgroupnsMode Cgroup CgroupParent Isolation Runtime CapAdd CapDrop Capabilities DeviceIDs DeviceCgroupRules
    CpusetCpus CpusetMems MaskedPaths ReadonlyPaths MountLabel ProcessLabel AppArmorProfile ExecIDs ID LowerDir
    MergedDir UpperDir WorkDir Bridge SandboxID SandboxKey HostIp HostPort Gateway IPAddress IPv6Gateway
    GlobalIPv6Address LinkLocalIPv6Address MacAddress NetworkID EndpointID IPv4Address IPv6Address Aliases DNSNames Dns
    DnsSearch ExtraHosts Links mediaType digest architecture os variant
    """.split()  # noqa: SIM905
)
"""Fields of the engine: names, ids, digests, addresses, times, folders and modes. Shown like a log."""


def gather(target: Target, folder: Path) -> Iterator[StoredFile | Loss]:
    """Yield an index of all containers, and for each its inspection, processes and difference from its image."""
    room = target.limit
    for item in _gather_files(target, folder):
        if isinstance(item, StoredFile) and item.size > room:
            (Path(item.where or folder) / item.stored).unlink()
            yield Loss(item.stored, Outcome.TRUNCATED, f"{item.size} bytes where {room} may still be stored")
            continue
        room -= item.size if isinstance(item, StoredFile) else 0
        yield item


def _gather_files(target: Target, folder: Path) -> Iterator[StoredFile | Loss]:
    room = Room.of(target, folder)
    with closing(DockerEngine(target.docker_host)) as engine:
        names = to_look_into(target, engine)
        yield store(room, f"{CONTAINERS}.json", canonical([{"id": id_, "name": name} for id_, name in names.items()]))
        for id_, name in names.items():
            for file, ask in _ASKED.items():
                try:
                    yield store(room, place(name, file), ask(engine, id_))
                except EngineUnreachable:
                    raise
                except EngineError as error:
                    yield Loss(place(name, file), Outcome.FAILED, error.got)


_ASKED: Final[Mapping[str, Callable[[Engine, str], bytes]]] = {
    "inspect.json": lambda engine, id_: canonical(redact_inspection(engine.inspect(id_))),
    "top.txt": lambda engine, id_: table(engine.top(id_)),
    "diff.json": lambda engine, id_: canonical(engine.diff(id_)),
}


def to_look_into(target: Target, engine: Engine) -> dict[str, str]:
    """Return ids and names of the paused containers, and of any started since."""
    living = find_living(engine, target.container_selectors)
    return {**dict(target.containers), **{each.id: each.name for each in living}}


def place(name: str, file: str) -> str:
    """Return where a file that we make of a container is stored."""
    return f"{CONTAINERS}/{stored_name(name.encode())}/{file}"


def store(room: Room, stored: str, data: bytes) -> StoredFile:
    """Write such a file."""
    return StoredFile(stored, "", len(data), digest_bytes(data), where=room.where(room.keep(stored, data)))


def redact_inspection(value: Any, name: str = "", parent: str = "") -> Any:
    """Return an inspection without secrets: what is not the engine's own is shown as in an environment or command."""
    if isinstance(value, Mapping):
        commands = _redact_start(value, "Path", "Args") | _redact_start(value, "Entrypoint", "Cmd")
        fields = {key: redact_inspection(each, key, name) for key, each in value.items() if key not in commands}
        return {redact(key, digests=True): each for key, each in (fields | commands).items()}
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        if name == "Env":
            pairs = (word.partition("=") for word in value)
            return [f"{key}{mark}{redact_environment({key: item})[key]}" for key, mark, item in pairs]
        if name in {"Test", "Shell"}:
            command = ["sh", "-c", *value[1:]] if value[:1] == ["CMD-SHELL"] else value[1:]
            return [*value[:1], *redact_command(command)[len(command) - len(value) + 1 :]]
    if isinstance(value, list):
        return [redact_inspection(item, name, parent) for item in value]
    if not isinstance(value, str) or secret_name(name, alone=True) or (name in _OWN and parent not in _GIVEN):
        return redact_fields(value, name, digests=True)
    return redact_value(value)


def _redact_start(fields: Mapping[str, Any], first: str, rest: str) -> dict[str, Any]:
    """Return two fields that are one command: the first has the program, and options of it may stand in the other."""
    given = [field if isinstance(field := fields.get(key), list) else [field] if field else [] for key in (first, rest)]
    shown = redact_command([str(word) for words in given for word in words])
    parts = {first: shown[: len(given[0])], rest: shown[len(given[0]) :]}
    words = {
        key: part if isinstance(fields.get(key), list) else "".join(part) or fields.get(key)
        for key, part in parts.items()
    }
    return {key: each for key, each in words.items() if key in fields}


def table(top: Mapping[str, Any]) -> bytes:
    """Format the processes as `docker top` prints them, a process a line."""
    rows = ([*row[:-1], *redact_command(row[-1].split())] for row in top["Processes"] or [])
    return "".join(f"{printable(row)}\n" for row in (top["Titles"], *rows)).encode(errors="backslashreplace")


COLLECTOR = Collector(
    name="containers",
    answers="What did each container of the workload run, mount, publish and change?",
    order=13,
    sources=(FunctionItems(gather, "containers"),),
    deadline=60.0,
    stalled=60.0,
    while_frozen=True,
    unhurried=True,
    of_containers=True,
)
