"""§1 undone: let training in again. The guard ends, the newcomers that it froze end, Prefect's side runs again."""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from signal import SIGKILL
from typing import TYPE_CHECKING, Any, Final

from tasks.case import CAUGHT, FROZEN, FROZEN_CONTAINERS, RETURNED
from tasks.custody.container import ContainerIdentity
from tasks.custody.errors import EngineError
from tasks.custody.log import CustodyLog
from tasks.custody.noun import Noun
from tasks.custody.pause import Resume
from tasks.custody.process import Identity
from tasks.engine import Engine
from tasks.home import CORDON, bases, cordon_base, homes
from tasks.host import Host
from tasks.marker import caught_lines, read_marker
from tasks.pause import resume
from tasks.scheduler import Scheduler

if TYPE_CHECKING:
    from blocks.workload import Workload

_GONE_SECONDS: Final = 5.0
_STOPPED: Final = frozenset("Tt")


@dataclass(frozen=True, repr=False)
class Uncordoned(Noun):
    """What was let go: whether a cordon stood, which newcomers were still held and were ended, Prefect's side."""

    stood: bool
    ended: tuple[str, ...]
    resumed: Resume

    @property
    def complete(self) -> bool:
        """True if nothing of ours is in the way of a training any more."""
        return self.resumed.complete

    @property
    def told(self) -> str:
        """In a few words."""
        words = ["the lock is free" if self.stood else "no cordon stood"]
        words += [f"ended, it was caught under the cordon: {each}" for each in self.ended]
        return "; ".join([*words, self.resumed.told])


def uncordon(
    host: Host, scheduler: Scheduler, workload: "Workload", log: CustodyLog, engine: Engine | None = None
) -> Uncordoned:
    """Undo the cordon. Done twice, or without a cordon, it is no error.

    Newcomers that were caught are ended, not thawed: under the cordon they were refused, whoever started them may do so
    again now. The guard goes first, else it would freeze them anew.
    """
    marker = cordon_base(workload) / CORDON
    incident = str(read_marker(marker).get("incident", ""))
    stood = host.release(marker)
    ended = (*_end(host, held(host, workload)), *(_end_containers(engine, workload) if engine else ()))
    made = Uncordoned(stood, ended, resume(scheduler, marker))
    log.write("uncordoned", incident, result=made.told, ended=list(ended))
    return made


def held(host: Host, workload: "Workload") -> dict[Identity, str]:
    """Newcomers that are still frozen, by the guard or by a run, with their command lines.

    What an incident froze as the workload itself is not among them: that is for the incident to stop.
    """
    own = {identity for identity, _ in _entries(workload, FROZEN)}
    newcomers = [*_read(_caught(workload)), *_entries(workload, RETURNED)]
    found = {}
    for identity, command in newcomers:
        process = host.look(identity)
        if identity not in own and process and process.state in _STOPPED:
            found[identity] = f"process {identity.pid} ({command})"
    return found


def _end(host: Host, newcomers: dict[Identity, str]) -> Iterator[str]:
    for identity in newcomers:
        with suppress(ProcessLookupError, PermissionError):
            host.signal(identity, SIGKILL)
    left = host.wait_gone(newcomers, _GONE_SECONDS)
    return (told for identity, told in newcomers.items() if identity not in left)


def _end_containers(engine: Engine, workload: "Workload") -> Iterator[str]:
    """The same for containers that the guard has paused; an engine that cannot be asked keeps them paused."""
    own = {entry["identity"]["id"] for entry in _kept(workload, FROZEN_CONTAINERS)}
    for entry in _caught(workload):
        with suppress(EngineError, KeyError, TypeError):
            caught = ContainerIdentity(**entry["container"])
            now = engine.look(caught.id)
            if caught.id not in own and now and now.identity == caught and now.state == "paused":
                engine.signal(caught.id, SIGKILL.name)
                yield now.told


def _caught(workload: "Workload") -> Iterator[dict[str, Any]]:
    for base in bases(workload):
        yield from caught_lines(base / CAUGHT)


def _entries(workload: "Workload", journal: str) -> Iterator[tuple[Identity, str]]:
    """What the journals of this name, one an incident, hold."""
    yield from _read(_kept(workload, journal))


def _kept(workload: "Workload", journal: str) -> Iterator[Any]:
    for home in homes(workload):
        with suppress(OSError, ValueError):
            yield from json.loads((home / journal).read_bytes())


def _read(entries: Iterable[Any]) -> Iterator[tuple[Identity, str]]:
    for entry in entries:
        with suppress(KeyError, TypeError):
            yield Identity(**entry["identity"]), str(entry.get("command", ""))
