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
from tasks.custody.evidence.redact import redact_command, redact_environment, redact_fields, redact_value
from tasks.custody.store.manifest import canonical, digest_bytes
from tasks.host.container.docker_engine import DockerEngine, Engine
from tasks.host.container.membership import find_living

_COMMANDS: Final = frozenset({"Cmd", "Entrypoint", "Args", "Command", "Test"})
_GIVEN: Final = frozenset({"Labels", "Config", "Options", "DriverOpts", "Sysctls"})
"""Fields of what people configure; Config is that of a log driver."""


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


def redact_inspection(value: Any, name: str = "") -> Any:
    """Return an inspection without secrets: of environment, labels, options and command lines what may be shown."""
    if isinstance(value, Mapping):
        may_hold_secrets = name in _GIVEN
        return {
            key: redact_value(each) if may_hold_secrets and isinstance(each, str) else redact_inspection(each, key)
            for key, each in value.items()
        }
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        if name == "Env":
            pairs = (word.partition("=") for word in value)
            return [f"{key}{mark}{redact_environment({key: item})[key]}" for key, mark, item in pairs]
        if name in _COMMANDS:
            return redact_command(["sh", "-c", *value[1:]])[1:] if value[:1] == ["CMD-SHELL"] else redact_command(value)
    if isinstance(value, list):
        return [redact_inspection(item, name) for item in value]
    return redact_fields(value, name, digests=True)


def table(top: Mapping[str, Any]) -> bytes:
    """Format the processes as `docker top` prints them, a process a line."""
    rows = ([*row[:-1], *redact_command(row[-1].split())] for row in top["Processes"] or [])
    return "".join(f"{printable(row)}\n" for row in (top["Titles"], *rows)).encode(errors="backslashreplace")


COLLECTOR = Collector(
    name="containers",
    answers="What did each container of the workload run, mount, publish and change?",
    order=13,
    sources=(FunctionItems(gather, "containers"),),
    while_frozen=True,
    of_containers=True,
)
