"""What a start has frozen, on disk until the run's own freeze takes it over, so that it can be thawed."""

import json
import os
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from tasks.custody.containment.identity import ContainerIdentity, Identity
from tasks.custody.errors import ContainerGone, EngineError
from tasks.custody.visible import say
from tasks.host.host import LinuxHost, thaw_process
from tasks.host.wrappers import continue_above, wake
from tasks.incident.run_lock import give_up_ownership, has_ownership, keep_ownership, owner, take_ownership
from tasks.system.files.atomic_files import read_ours, rows_of, write_whole

if TYPE_CHECKING:
    from tasks.host.container.docker_engine import Engine

K = TypeVar("K", Identity, ContainerIdentity)
Thawed: TypeAlias = tuple[Identity | ContainerIdentity, ...]

_unkept: Final[dict[Identity, datetime]] = {}
"""Processes that this one has stopped and could write down on no disk."""
_remaining: Final[dict[Identity, datetime]] = {}
"""Processes that `take_over` has left to a person and could write down on no disk."""


@dataclass(frozen=True)
class EarlyFreeze:
    """The processes and containers that this start has stopped. The file may also name those of a start that died."""

    path: Path
    frozen: tuple[Identity, ...]
    groups: tuple[str, ...] = ()
    """Control groups that it has frozen in place."""
    lock: int | None = None
    """The open lock file of the workload's runs, unless it is kept for this process's own run."""
    above: tuple[Identity, ...] = ()
    """What ran above these processes then, and may have stopped itself since."""
    losses: tuple[str, ...] = ()
    """What it did before the freeze that the evidence lacks: it may be another process's run that tells of it."""
    containers: tuple[ContainerIdentity, ...] = ()
    docker_host: str = ""
    """The address of their engine."""

    @property
    def holds(self) -> bool:
        """Whether anything stands by it."""
        return bool(self.frozen or self.groups or self.containers)


def count_held(number: int, containers: Collection[ContainerIdentity]) -> str:
    """Return for people how much a start holds, or held: `number` of processes and of these containers."""
    return f"{number} {'processes and containers' if containers else 'processes'}"


def keep(early: EarlyFreeze) -> EarlyFreeze:
    """Keep the lock for the run that follows in this process."""
    if early.lock is not None:
        keep_ownership(early.path.parent, early.lock)
    return replace(early, lock=None)


def close_lock(early: EarlyFreeze) -> EarlyFreeze:
    """Close this process's copy of the lock file."""
    if early.lock is not None:
        os.close(early.lock)
    return replace(early, lock=None)


def note_unkept(rows: dict[Identity, datetime]) -> None:
    """Remember in this process what could be written down on no disk."""
    _unkept.update(rows)


def unkept(early: EarlyFreeze) -> dict[Identity, datetime]:
    """Return which of its processes are written down on no disk, and when they were stopped."""
    return {identity: _unkept[identity] for identity in early.frozen if identity in _unkept}


def forget_unkept(early: EarlyFreeze) -> None:
    """Forget what another process remembers from now on."""
    for identity in early.frozen:
        _unkept.pop(identity, None)


def rows_for(stopped: Mapping[Identity, datetime], **more: object) -> list[dict[str, Any]]:
    """Return the rows that name these processes, with when each was stopped."""
    return [
        {"pid": identity.pid, "start": identity.start, "at": at.isoformat(), **more} for identity, at in stopped.items()
    ]


def rows_above(ran: Iterable[Identity]) -> list[dict[str, Any]]:
    """Return the rows that name what ran above the frozen processes, which is not frozen itself."""
    return [{"above": asdict(identity)} for identity in ran]


def rows_lost(losses: Iterable[str]) -> list[dict[str, Any]]:
    """Return the rows that say what the evidence lacks."""
    return [{"lost": loss} for loss in losses]


def write_rows(early: EarlyFreeze, rows: Sequence[dict[str, Any]]) -> None:
    """Write down what has to be thawed, after the rows of a start that died; remove the file if there is nothing.

    Of a start that died before its run could freeze only this file names what it stopped.
    """
    own = {*early.frozen, *early.groups, *early.above, *early.losses}
    others = [row for row in rows_of(early.path, read_ours) if _find_subject(row) not in own]
    stay = [row for row in others if rows or "answer" not in row]  # what it said goes with what it was thawed with
    _write(early.path, [*stay, *rows])


def note_answer(early: EarlyFreeze, answer: str) -> None:
    """Write down what the API had answered when it was frozen, in place of what is written there of an earlier one."""
    if answer and early.holds:
        with suppress(OSError):  # then it is not known
            rows = [row for row in rows_of(early.path, read_ours) if "answer" not in row]
            _write(early.path, [*rows, {"answer": answer}])


def _find_subject(row: Mapping[str, Any]) -> object:
    return Identity.of(row) or row.get("group") or row.get("lost") or Identity.of(row.get("above"))


@dataclass(frozen=True)
class EarlyJournal:
    """What the file of an early freeze names.

    `frozen` are the processes that it has stopped, and when, `containers` those that it has paused, or was about to,
    `groups` the control groups that it has frozen in place. `above` ran above these processes, and `losses` is what
    the evidence lacks by its doing. `answer` is what the API said of its health before it was frozen.
    """

    frozen: dict[Identity, datetime]
    containers: dict[ContainerIdentity, datetime]
    groups: list[str]
    above: set[Identity]
    losses: list[str]
    answer: str = ""


def read_early(path: Path) -> EarlyJournal:
    """Read the journal of an early freeze, with what this process could write down on no disk."""
    rows = rows_of(path, read_ours)
    return EarlyJournal(
        frozen=_unkept | _remaining | _read_times(rows, Identity.of),
        containers=_read_times(rows, _find_container),
        groups=[str(row["group"]) for row in rows if "group" in row],
        above={identity for row in rows if (identity := Identity.of(row.get("above")))},
        losses=[str(row["lost"]) for row in rows if "lost" in row],
        answer=next((str(row["answer"]) for row in rows if "answer" in row), ""),
    )


def _read_times(rows: Iterable[Mapping[str, Any]], subject_of: Callable[[Any], K | None]) -> dict[K, datetime]:
    """Return when each subject of these rows was stopped. A row that is not whole is left out."""
    found = dict[K, datetime]()
    for row in rows:
        with suppress(KeyError, TypeError, ValueError):
            if subject := subject_of(row):
                found[subject] = datetime.fromisoformat(row["at"])
    return found


def _find_container(row: Mapping[str, Any]) -> ContainerIdentity:
    return ContainerIdentity(**row["container"])


def write_containers(path: Path, paused: Mapping[ContainerIdentity, datetime]) -> None:
    """Write down that an early freeze has paused these and no others, beside what else the file names."""
    rows = [row for row in rows_of(path, read_ours) if "container" not in row]
    rows += [{"container": asdict(identity), "at": at.isoformat()} for identity, at in paused.items()]
    _write(path, rows)


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        write_whole(path, json.dumps(rows).encode(), 0o600, flush=False)
    else:
        path.unlink(missing_ok=True)


def not_taken_over(early: EarlyFreeze) -> EarlyFreeze:
    """Return what of it the journal still names, because the run it was for ended before its own freeze.

    What a run's freeze has left to a person is not part of it.
    """
    rows = [row for row in rows_of(early.path, read_ours) if not row.get("left")]
    named, paused = _unkept | _read_times(rows, Identity.of), _read_times(rows, _find_container)
    names = {row.get("group") for row in rows}
    frozen = tuple(identity for identity in early.frozen if identity in named)
    containers = tuple(identity for identity in early.containers if identity in paused)
    groups = tuple(group for group in early.groups if group in names)
    return replace(early, frozen=frozen, groups=groups, containers=containers)


def take_over(path: Path, remaining: Container[Identity] = (), groups: Iterable[str] = ()) -> None:
    """Forget the early freeze once the run's own freeze has replaced it, so that it is not undone.

    What is `remaining`, and the control groups that could not be thawed, stay written down: only this file names them.
    So do containers: the run's freeze comes to them later.
    """
    stay = {identity: at for identity, at in read_early(path).frozen.items() if identity in remaining}
    _unkept.clear()
    _remaining.clear()
    try:
        paused = [row for row in rows_of(path, read_ours) if "container" in row]
        _write(path, [*rows_for(stay, left=True), *({"group": group, "left": True} for group in groups), *paused])
    except OSError:
        _remaining.update(stay)
        with suppress(OSError):
            path.unlink()


def leave_to_person(path: Path) -> int:
    """Have an early freeze stand though its run ends, by an error of ours; return how many stand.

    The next run takes them over, and `thaw` or `uncordon` lets them go.
    """
    rows = rows_of(path, read_ours)
    _remaining.update(_unkept)
    _unkept.clear()
    with suppress(OSError):
        _write(path, [row | {"left": True} for row in rows])
    return len(_remaining | _read_times(rows, Identity.of)) + len(_read_times(rows, _find_container))


def thaw_again(early: EarlyFreeze, is_over: Callable[[], bool] = lambda: True) -> Thawed:
    """Thaw what this process's own early freeze has stopped, if its run ended before its own freeze; return it.

    With the lock only, which is released: a refused run has given it up, and what is left may be another run's by now.
    """
    thawed = (_thaw if has_ownership(early.path.parent) else thaw_left)(early, is_over)
    give_up_ownership(early.path.parent)
    return thawed


def thaw_left(early: EarlyFreeze, is_over: Callable[[], bool]) -> Thawed:
    """Thaw what a run that is over has not taken over, once its process has ended; release the lock if it is here.

    If another evacuation is at work, what is left is its to take over. A recovery, a thaw or a release of the cordon
    takes nothing over.
    """
    remaining = not_taken_over(early)
    if remaining.lock is None:
        if not remaining.holds:
            return ()
        with suppress(OSError):  # no disk takes the lock
            lock = take_ownership(remaining.path.parent)
            if lock is None and owner(remaining.path.parent) in {"", "evacuation"}:
                return ()
            remaining = replace(remaining, lock=lock)
    return _thaw(remaining, is_over)


def _thaw(early: EarlyFreeze, is_over: Callable[[], bool]) -> Thawed:
    """Thaw it, unless another run has taken it over, and release the lock; return what was thawed.

    What was frozen for a run that is not over stays frozen, and written down for the next run and for `thaw`.
    """
    remaining, over = not_taken_over(early), False
    if remaining.holds and (over := is_over()):
        host = LinuxHost()
        wake(host, remaining.above, ())
        for identity in remaining.frozen:
            thaw_process(host, identity)
        for group in filter(None, map(host.group, remaining.groups)):
            group.thaw()
        continue_above(host, {*remaining.frozen, *remaining.above})
        forget_unkept(early)
        with suppress(OSError):
            write_rows(remaining, ())
        if remaining.containers:
            from tasks.host.container.docker_engine import DockerEngine  # delays no freeze

            with closing(DockerEngine(remaining.docker_host)) as engine:
                say(*resume_containers(remaining.path, engine, {*remaining.containers}), error=True)
    close_lock(early)
    return (*remaining.frozen, *remaining.containers) if over else ()


def resume_containers(path: Path, engine: "Engine", containers: AbstractSet[ContainerIdentity]) -> list[str]:
    """Resume these and take them out of the journal; return why others stay paused, which stay in it."""
    stay = dict[ContainerIdentity, str]()
    for identity in containers:
        try:
            now = engine.get_container(identity.id)
            if now and now.alive and now.identity == identity:
                engine.unpause(identity.id)
        except ContainerGone:
            continue
        except EngineError as error:
            stay[identity] = f"container {identity.id[:12]} stays paused 一時停止のまま: {error}"
    if done := containers - stay.keys():
        with suppress(OSError):
            write_containers(path, {each: at for each, at in read_early(path).containers.items() if each not in done})
    return [*stay.values()]
