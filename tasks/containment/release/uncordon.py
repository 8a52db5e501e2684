"""§1 undone: end the guard and the newcomers that it froze, and resume Prefect's side."""

import logging
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGKILL
from typing import TYPE_CHECKING, Any, Final

from tasks.containment.members import description_of
from tasks.containment.release.control_groups import release_groups
from tasks.containment.release.resume_prefect import resume
from tasks.custody.containment.identity import ContainerIdentity, Identity
from tasks.custody.containment.pause import Resume
from tasks.custody.errors import EngineError
from tasks.custody.incident.log import CustodyLog
from tasks.custody.step_result import StepResult
from tasks.host.host import Host, send_signal
from tasks.host.process.membership import Exceptions, Members
from tasks.host.process.process import Process, process_line
from tasks.host.process.table import untouchable
from tasks.host.wrappers import continue_above
from tasks.incident.directory import bases, cordon_base, homes
from tasks.incident.last_word import THAWED, last_word
from tasks.incident.layout import ABOVE, CAUGHT, CORDON, FROZEN, FROZEN_CONTAINERS, RETURNED
from tasks.system.files.atomic_files import caught_lines, identities, read_marker, read_private, rows_of, why_not_ours
from tasks.system.polling import poll_until

if TYPE_CHECKING:
    from blocks.workload_fields import WorkloadFields
    from tasks.host.container.docker_engine import Engine
    from tasks.prefect_side.scheduler import Scheduler

logger = logging.getLogger(__name__)

_GONE_SECONDS: Final = 5.0
_LATE_SECONDS: Final = 2.0
_SHOWN: Final = 80


@dataclass(frozen=True, repr=False)
class Uncordoned(StepResult):
    """Result of an uncordon: whether a cordon stood, which newcomers were ended, and Prefect's side.

    `remaining` says what a person has to look at: what stays frozen, as it may not have been frozen by us, and why.
    `units` are the systemd units that may be started again.
    """

    stood: bool
    ended: tuple[str, ...]
    resumed: Resume
    remaining: tuple[str, ...] = ()
    units: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """True if nothing of ours hinders a training any more."""
        return self.resumed.is_complete

    @property
    def summary(self) -> str:
        """What was ended, resumed and left."""
        words = ["the lock is given back" if self.stood else "no cordon stood"]
        words += [f"ended, it was caught under the cordon: {each}" for each in self.ended]
        words += [f"systemd may start {unit} again" for unit in self.units]
        words += self.remaining
        return "; ".join([*words, self.resumed.summary])


def uncordon(
    host: Host, scheduler: "Scheduler", workload: "WorkloadFields", log: CustodyLog, engine: "Engine | None" = None
) -> Uncordoned:
    """Undo the cordon. Idempotent; without a cordon it does nothing.

    Ends the newcomers that were caught: under the cordon they were refused, and may be started again now. Processes
    older than the guard, and containers older than the cordon, are no newcomers but the workload itself, left by a run
    that died or was cancelled before its freeze: they stay frozen. The guard ends first, because it would freeze them
    again. What an incident has stopped stays stopped, back in its former control group.
    """
    marker = cordon_base(workload) / CORDON
    incident = str(read_marker(marker).get("incident", ""))
    since, cordoned = _guarded_since(marker), _cordoned_since(marker)
    stood = host.release(marker)
    units = host.systemd.release(marker)
    found, others = _frozen_newcomers(host, workload, since)
    before = [ran_before(line) for identity, line in found.items() if identity.start < since]
    containers, paused = _end_containers(engine, workload, cordoned) if engine else ([], [])
    ended = (*_end_newcomers(host, workload, found, since), *containers)
    doubts = (line for base in bases(workload) for line in doubtful(base / CAUGHT))
    remaining = (*before, *paused, *map(left_frozen, others.values()), *doubts, *release_groups(host, workload))
    for each in remaining:
        logger.warning("%s", each)
    result = Uncordoned(stood, ended, resume(scheduler, marker), remaining, units)
    log.write("uncordoned", incident, result=result.summary, ended=list(ended), left=list(remaining), units=list(units))
    return result


def end_held(host: Host, workload: "WorkloadFields") -> tuple[str, ...]:
    """End the newcomers that stand frozen under the cordon, as an uncordon does; return them."""
    since = _guarded_since(cordon_base(workload) / CORDON)
    return _end_newcomers(host, workload, _frozen_newcomers(host, workload, since)[0], since)


def _end_newcomers(
    host: Host, workload: "WorkloadFields", found: Mapping[Identity, str], since: int
) -> tuple[str, ...]:
    """End those of the found that were started under the cordon, and continue what stopped itself above them.

    What stopped itself above the processes that an incident has ended goes on too.
    """
    newcomers = {identity: line for identity, line in found.items() if identity.start >= since}
    for identity in newcomers:
        send_signal(host, identity, SIGKILL)
    remaining = host.wait_gone(newcomers, _GONE_SECONDS)
    rows = [row for row in _caught(workload) if row.get("killed") or Identity.of(row) in newcomers]
    above = [each for row in rows for each in row.get("above", ())]
    ran = {process for each in (*above, *read_journals(workload, ABOVE)) if (process := Identity.of(each))}

    def all_go_on() -> bool:  # on a busy host one stops itself only after its child has ended, and would stand for ever
        waiting = continue_above(host, ran, held_by_incidents(workload))
        return not any(host.get_process(identity) for identity in ran - waiting)

    poll_until(all_go_on, _LATE_SECONDS, 0)  # each look takes a moment itself
    return tuple(line for identity, line in newcomers.items() if identity not in remaining)


def _guarded_since(marker: Path) -> int:
    """Return when the marker's guard was started, in clock ticks since boot; 0 if unknown."""
    guard = Identity.of(read_marker(marker))
    return guard.start if guard else 0


def _cordoned_since(marker: Path) -> datetime:
    """Return when the marker's cordon began; the latest time if unknown, so that no container counts as newer."""
    with suppress(KeyError, TypeError, ValueError):
        return datetime.fromisoformat(read_marker(marker)["since"]).astimezone(UTC)
    return datetime.max.replace(tzinfo=UTC)


def find_held(host: Host, workload: "WorkloadFields") -> dict[Identity, str]:
    """Return the workload's newcomers that are still frozen, by the guard or by a run, with their command lines."""
    return _frozen_newcomers(host, workload, _guarded_since(cordon_base(workload) / CORDON))[0]


def _frozen_newcomers(
    host: Host, workload: "WorkloadFields", since: int
) -> tuple[dict[Identity, str], dict[Identity, str]]:
    """Return the frozen processes that our files name: those of the workload, and all others.

    The workload's account may own a parent folder and put an older file there, so only what the evacuation itself would
    freeze may be ended. What an incident froze is left to that incident.
    """
    known, now = held_by_incidents(workload), living(host, workload, since)
    own: dict[Identity, str] = {}
    others: dict[Identity, str] = {}
    for row in (*_caught(workload), *read_journals(workload, RETURNED)):
        if not (identity := Identity.of(row)) or identity in known:
            continue
        if (process := host.get_process(identity)) and process.is_stopped:
            (own if identity in now else others)[identity] = f"process {identity.pid} ({row.get('command', '')})"
    return own, others


def held_by_incidents(workload: "WorkloadFields") -> set[Identity]:
    """Return the processes that incidents of this host have frozen as the workload itself."""
    return identities(home / FROZEN for home in homes(workload))


def still_held(workload: "WorkloadFields") -> set[Identity]:
    """Return those of them that no thaw has let go since: what stands of a thawed incident was frozen again."""
    return identities(home / FROZEN for home in homes(workload) if last_word(home) != THAWED)


def living(host: Host, workload: "WorkloadFields", since: int | None = None) -> dict[Identity, Process]:
    """Return every live process of the workload, as a freeze would find it now; with `since`, as a guard would."""
    snapshot = host.snapshot()
    found = Members.of(snapshot, description_of(workload), Exceptions(frozenset(untouchable(snapshot))), since)
    return {identity: snapshot[identity.pid] for identity in found}


def left_frozen(line: str) -> str:
    """Return why a process that our files name stays frozen, and what to do."""
    pid = line.split()[1]
    return (
        f"left frozen: {line}: expected a process of the workload, by the patterns and the root of its block; got "
        f"another one. It was neither ended nor thawed. See what it is: ps -fp {pid}; then kill -KILL {pid} or "
        f"kill -CONT {pid}. ワークロードと確認できないため終了していません。確認のうえ手動で終了または再開を。"
    )


def standing_strangers(host: Host, named: Iterable[Identity], known: Container[Identity]) -> dict[Identity, str]:
    """Return those of `named`, which we had stopped, that still stand and are not `known`; each with what to do."""
    found = (process for each in named if each not in known and (process := host.get_process(each)) and process.stands)
    return {each.identity: left_frozen(f"process {each.pid} ({process_line(each, _SHOWN)})") for each in found}


def ran_before(line: str, release: str = "") -> str:
    """Return why a process, or a container with its `release`, that ran before the cordon stays frozen; what to do."""
    return (
        f"left frozen: {line}: it ran before the cordon, and no run has taken it over. It was not ended. "
        f"Carry the incident on, or let it go on: {release or f'kill -CONT {line.split()[1]}'}. "
        "隔離前から動いていたため終了していません。インシデントを継続するか、手動で再開を。"
    )


def doubtful(path: Path) -> Iterator[str]:
    """Yield what is wrong with a file that another user may have written, and what to do; nothing if it is missing."""
    if why := why_not_ours(path):
        yield (
            f"expected {path} to be a file that only we can write; got: {why}. What it names stays frozen. "
            f"If it belongs to the user of the evacuation, run this as that user; else see who stands (ps -eo "
            f"pid,stat,user,args shows T), end each by hand with kill -KILL PID, and remove the file. "
            "信用できないファイルのため、記載されたプロセスは終了していません。ps で確認し、手動で終了してください。"
        )


def _end_containers(engine: "Engine", workload: "WorkloadFields", since: datetime) -> tuple[list[str], list[str]]:
    """End the containers that the guard has paused; return them, and why those that started before `since` stay.

    If the engine fails they stay paused.
    """
    from tasks.host.container.membership import find_living

    own = {entry["identity"]["id"] for entry in read_journals(workload, FROZEN_CONTAINERS)}
    caught = dict(containers_in(_caught(workload)))
    ended, remaining = list[str](), list[str]()
    with suppress(EngineError):
        for now in find_living(engine, workload.containers) if caught else ():
            if now.identity in caught and now.id not in own and now.state == "paused":
                if now.identity.started_before(since):
                    remaining.append(ran_before(now.summary, f"docker unpause {now.id}"))
                    continue
                engine.signal(now.id, SIGKILL.name)
                ended.append(now.summary)
    return ended, remaining


def containers_in(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[ContainerIdentity, bool]]:
    """Yield the containers that rows of the guard, or of an incident's journal, name, and whether each stood before."""
    for row in rows:
        with suppress(KeyError, TypeError):
            yield ContainerIdentity(**(row.get("container") or row["identity"])), bool(row.get("stood"))


def _caught(workload: "WorkloadFields") -> Iterator[dict[str, Any]]:
    for base in bases(workload):
        yield from caught_lines(base / CAUGHT)


def read_journals(workload: "WorkloadFields", *journals: str, thawed: bool = True) -> Iterator[dict[str, Any]]:
    """Yield the rows of the journals of these names, of all incidents or of all that were not `thawed`."""
    there = (home for home in homes(workload) if thawed or last_word(home) != THAWED)
    for path in (home / journal for home in there for journal in journals):
        yield from rows_of(path, read_private)
