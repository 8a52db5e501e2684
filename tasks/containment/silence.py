"""§3: listen, from the last signal of the stop until recovery begins or the run ends, for what still writes."""

import os
import shlex
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path, PurePath
from stat import S_ISREG
from typing import Any, Final

from blocks.workload_fields import WorkloadFields
from tasks.containment.containers.collected import collected_folders
from tasks.containment.containers.pause import WorkloadContainers
from tasks.containment.cordon import IncidentCordon
from tasks.containment.members import Membership
from tasks.containment.suspects import find_accounts
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Containment, End
from tasks.custody.step_result import StepResult
from tasks.custody.visible import LINE_LIMIT, visible
from tasks.host.cgroup.ownership import unit_of
from tasks.host.host import Host, lives
from tasks.host.judgement.suspect import excuse_for, keep_entries
from tasks.host.listening import Listening
from tasks.host.process.handles import FileId
from tasks.host.process.known_programs import interactive, keeps_container, runs_ours
from tasks.host.process.newcomer import living_source
from tasks.host.process.process import Process, ancestry, descendants, process_line
from tasks.host.process.table import untouchable
from tasks.host.silence import Change, Heard, Silence, first_of_each_source, is_below, judge_silence
from tasks.incident.directory import bases, evidence_of
from tasks.incident.paths import IncidentDirectory
from tasks.runtime.context import RunContext
from tasks.runtime.frozen import frozen_containers, load_frozen
from tasks.runtime.step import step

_REHEARSED_SECONDS: Final = 10.0
_HOLDS: Final = "no event says so, but it has the file open or mapped for writing 書込み用に開いている"
_NAMED: Final = 5
_LOGGED_FILES: Final = 100
"""Of how many files that bystanders write the log keeps an author: a later run attributes changes by these."""


def listen(context: RunContext, *, armed: bool = False, settles: bool = True) -> None:
    """Start the witnesses before the first signal, so that no time passes after the last one.

    With `armed`, count what changes from now on: the last signal has been sent, by this run if it `settles`.
    """
    if not context.listening and not context.state.recovered.read():
        ours = ours_below(context.workload, context.directory)
        context.listening = context.adapters.host.listen(
            context.directory.root, ours, _folders_beside(context.workload, WorkloadContainers(context))
        )
    if armed and context.listening and not context.listening.armed:
        context.listening.arm(settles=settles)


@contextmanager
def not_counting(listening: Listening | None) -> Iterator[None]:
    """Count nothing while we launch something of the workload; what is left of it counts afterwards."""
    if not listening or not listening.armed:
        yield
        return
    listening.pause()
    try:
        yield
    finally:
        listening.arm()


def with_silence(context: RunContext, seen: Containment, *, compare: bool = True) -> Containment:
    """Return the check with what was changed since the stop, each change logged once."""
    listening, host, state = context.listening, context.adapters.host, context.state
    if not listening or not listening.armed:
        return seen
    heard = listening.hear(compare=compare)
    heard = replace(
        heard, differences=(*heard.differences, *_written_since(context.directory.root, context.written_since, heard))
    )
    heard = replace(heard, differences=tuple(_attribute(host, context.directory.root, heard)))
    back = {each.identity for each in state.returned.read()}
    held = {identity for row in IncidentCordon(context).newcomers() if (identity := Identity.of(row))}

    def is_at_work(identity: Identity) -> bool:
        process = host.get_process(identity)
        return process is not None and process.alive and not process.is_stopped

    is_excused, is_bystanders = _excuses_now(Membership(context))
    ended = {*load_frozen(state), *back, *held, *_find_hooks(context.workload, heard)}
    if not all(each.lineage for each in heard.events):
        entries = context.log.entries()
        earlier = (*heard.earlier, *_read_recorded(host, entries))
        heard = replace(heard, earlier=earlier, killed=_read_killed(entries))
    silence = judge_silence(heard, is_excused, ended, is_at_work, is_bystanders)
    silence = replace(silence, broken=_with_sources(host, silence.broken))
    for change in _to_log(silence, listening.logged):
        listening.logged.add((change.file, change.pid))
        lineage = [asdict(each.identity) for each in change.lineage]
        at, result = change.at.isoformat(), str(change)
        writers = change.lineage if change in silence.broken else ()
        source = [asdict(each.identity) for each in islice((each for each in writers if lives(host, each.identity)), 1)]
        facts = {"pid": change.pid, "writer": change.writer, "lineage": lineage, "source": source, "how": change.how}
        context.log.write("changed", change.file, at=at, **facts, result=result)
    notes = dict.fromkeys((*seen.notes, *silence.notes))
    return replace(seen, alive=(*seen.alive, *silence.contradictions), notes=tuple(notes))


def _find_hooks(workload: WorkloadFields, heard: Heard) -> Iterator[Identity]:
    """Yield who wrote as the workload's units ended, from within them: what systemd runs after a service's stop."""
    for each in (each for each in heard.events if each.lineage and each.at <= heard.settles):
        if unit_of(each.lineage[0].cgroup) in workload.units:
            yield each.lineage[0].identity


def _written_since(root: PurePath, files: Iterable[str], heard: Heard) -> Iterator[Change]:
    """Yield the files that were changed after they were taken, and so after the stop, if no comparison has them."""
    known = {each.file for each in heard.differences}
    for file in (each for each in files if each not in known):
        with suppress(OSError, ValueError):
            status = Path(root, file).stat()
            if status.st_ctime > heard.armed.timestamp():
                at = datetime.fromtimestamp(status.st_mtime, UTC)
                yield Change(file, at, inode=(status.st_dev, status.st_ino))


def _to_log(silence: Silence, logged: Collection[tuple[str, int]]) -> list[Change]:
    """Return the changes that the log lacks: those that count, and one by a bystander of each file."""
    files = {file for file, _ in logged}
    others = (each for each in silence.by_bystanders if each.lineage and each.file not in files)
    firsts = [*{each.file: each for each in others}.values()][: max(0, _LOGGED_FILES - len(files))]
    return [each for each in silence.broken if (each.file, each.pid) not in logged] + firsts


def _read_recorded(host: Host, entries: Iterable[Mapping[str, Any]]) -> list[Change]:
    """Return the changes of an incident's log, by what still lives of each writer and its ancestors."""
    living = {each.identity: each for each in host.snapshot().values() if each.alive}
    found = []
    for row in (each for each in entries if each["action"] == "changed"):
        lineage = tuple(living[each] for each in map(Identity.of, row.get("lineage", ())) if each in living)
        found.append(Change(row["object"], datetime.fromisoformat(row["at"]), row["pid"], lineage))
    return found


def _read_killed(entries: Iterable[Mapping[str, Any]]) -> dict[int, datetime]:
    """Return when each process that had come back was killed, by pid; the last to have it."""
    rows = (each for each in entries if each["action"] == "came back" and each.get("end") == End.KILLED)
    return {int(each["object"]): datetime.fromisoformat(each["utc"]) for each in rows if each["object"].isdecimal()}


def _with_sources(host: Host, changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """Return the changes, those of writers that have ended with what has started these, if that lives."""
    snapshot = host.snapshot() if changes else {}
    living = {process.identity for process in snapshot.values() if process.alive}

    def with_source(change: Change) -> Change:
        ended = {each.pid: each for each in change.lineage if each.identity not in living}
        writer = next(iter(ended), 0)
        if not change.pid or writer != change.pid:
            return change
        return replace(change, source=living_source(snapshot, ended, writer), ended=True)

    return tuple(map(with_source, changes))


def _attribute(host: Host, root: PurePath, heard: Heard) -> Iterator[Change]:
    """Yield the differences that no event explains, once for each process that may have made one.

    That is who has the file open or mapped for writing now, under whatever name, and who has changed its times.
    """
    unexplained = _find_unexplained(root, heard)
    holders = host.find_holders() if unexplained else {}
    for change in unexplained:
        found = [*_by_touches(root, heard, change), *_by_holders(change, holders)]
        yield from found or [replace(change, how=_advise(root, change))]


def _find_unexplained(root: PurePath, heard: Heard) -> list[Change]:
    """Return the differences that no event explains: on the file, on a folder above it, or on another of its names."""
    explained = {change.file for change in heard.events}
    rest = [each for each in heard.differences if not is_below(each.file, explained)]
    others = {_inode_of(root / file) for file in explained} if rest else set()
    return [each for each in rest if each.inode is None or each.inode not in others]


def _by_touches(root: PurePath, heard: Heard, change: Change) -> Iterator[Change]:
    """Yield a difference in time alone, by each process that has changed the times or attributes of the file."""
    for touch in heard.touches if change.is_touch else ():
        if touch.file == change.file or (change.inode and _inode_of(root / touch.file) == change.inode):
            yield replace(touch, file=change.file, inode=change.inode)


def _by_holders(change: Change, holders: Mapping[FileId, Iterable[tuple[Process, ...]]]) -> Iterator[Change]:
    """Yield a difference by each process that has the file open or mapped for writing."""
    for lineage in holders.get(change.inode, ()) if change.inode else ():
        yield replace(change, pid=lineage[0].pid, lineage=lineage, how=_HOLDS)


def _inode_of(path: PurePath) -> FileId | None:
    with suppress(OSError, ValueError):
        status = os.lstat(path)
        return status.st_dev, status.st_ino
    return None


def _advise(root: PurePath, change: Change) -> str:
    """Return how a person finds who changes a file; empty if it is not there, or its name is not as it is shown."""
    path = root / change.file
    with suppress(OSError, ValueError):
        status = os.lstat(path)
        if S_ISREG(status.st_mode) and visible(str(path), LINE_LIMIT) == str(path):
            way = f"who has it open is shown to root by 開いているプロセスの確認: fuser -v {shlex.quote(str(path))}"
            found = f"find {shlex.quote(_mount_of(path))} -xdev -samefile {shlex.quote(str(path))}"
            names = f"; it has {status.st_nlink} names, those of its mount are listed by 別名の確認: {found}"
            return way + (names if status.st_nlink > 1 else "")
    return ""


def _mount_of(path: PurePath) -> str:
    return next(str(each) for each in path.parents if os.path.ismount(each))


def _excuses_now(membership: Membership) -> tuple[Callable[[Change], bool], Callable[[Change], bool]]:
    """Return, of one look at the host, `excuses` and `belongs_to_bystanders`."""
    snapshot = membership.host.snapshot()
    return excuses(membership, snapshot), belongs_to_bystanders(membership, snapshot)


def excuses(membership: Membership, snapshot: Mapping[int, Process]) -> Callable[[Change], bool]:
    """Return a function that decides whether a change is ours, or a person's in an editor.

    The workload's accounts may have an editor run code: what that writes counts, unless the account is root. Without a
    terminal nobody edits.
    """
    root = membership.description.root
    accounts = find_accounts(membership) - {0}

    def is_excused(change: Change) -> bool:
        seen = _seen_by(change, snapshot)
        us, writer = ancestry(seen, [os.getpid()]), change.lineage[0]
        ours = {pid for pid in untouchable(seen) if pid not in us or runs_ours(seen[pid])}
        ours |= {os.getpid()} | descendants(seen, [os.getpid()]) | membership.own_pids(seen)
        edits = interactive(seen[writer.pid]) and not PurePath(writer.executable).is_relative_to(root)
        return writer.pid in ours or (edits and writer.terminal and writer.user not in accounts)

    return is_excused


def belongs_to_bystanders(membership: Membership, snapshot: Mapping[int, Process]) -> Callable[[Change], bool]:
    """Return a function that decides whether a change is by a bystander, or by what one has started.

    Each writer is judged once: a file's authors are asked about for each change that nobody is known to have made.
    """
    known = dict[tuple[Identity, ...], bool]()

    def is_bystanders(change: Change) -> bool:
        key = tuple(each.identity for each in change.lineage)
        if key not in known:
            known[key] = key[0].pid in membership.bystander_pids(_seen_by(change, snapshot))
        return known[key]

    return is_bystanders


def _seen_by(change: Change, snapshot: Mapping[int, Process]) -> dict[int, Process]:
    """Return the snapshot with the writer and its ancestors as they were; who lives was looked at beside the root."""
    known = {process.identity: process for process in snapshot.values()}
    return {**snapshot, **{each.pid: known.get(each.identity, each) for each in change.lineage}}


def ours_below(workload: WorkloadFields, directory: IncidentDirectory) -> tuple[str, ...]:
    """Return what is ours below the root, by its path there: incidents, the lock, and where our own output goes."""
    root, places = directory.root, [*bases(workload), evidence_of(workload), directory.path, workload.lock]
    for descriptor in (1, 2):
        with suppress(OSError):
            places.append(Path(f"/proc/self/fd/{descriptor}").readlink())
    real = [PurePath(os.path.realpath(each)) for each in places]
    return tuple({str(each.relative_to(root)) for each in real if each.is_relative_to(root)} - {"."})


def _folders_beside(workload: WorkloadFields, containers: WorkloadContainers) -> list[str]:
    """Return the folders beside the root that are collected from containers, as far as they are seen from here."""
    found = collected_folders(workload, containers.read_views())
    return [each for each in found if Path(each).is_dir()]


@dataclass(frozen=True, repr=False)
class Writers(StepResult):
    """The first change of each process that writes below the root.

    `deaf` says why they are not known, `blind` why not all files were compared.
    `contradictions` are those by what has not ended, or is not known: after the stop it would write on.
    """

    changes: tuple[Change, ...]
    deaf: str = ""
    blind: str = ""
    contradictions: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """File and process of each, or that there are none."""
        deaf = [f"who else writes in the root is not known: {self.deaf}"] if self.deaf else []
        deaf += [f"its files could not be compared by size and time 比較不可: {self.blind}"] if self.blind else []
        return "; ".join([*map(str, self.changes), *deaf]) or "nothing but the workload and what is excused writes"

    @property
    def warnings(self) -> tuple[str, ...]:
        """The summary, if it is no good news."""
        return (self.summary,) if self.changes or self.deaf or self.blind else ()


def writers_below(  # noqa: PLR0913, PLR0917  what it listens to, and what it leaves out
    host: Host,
    root: PurePath,
    ours: Iterable[str],
    beside: Iterable[str],
    seconds: float,
    is_known: Callable[[Change], bool],
) -> Writers:
    """Listen for some seconds; return who writes below the root, and the folders beside it, without those known."""
    listening = Listening(root, ours, beside)
    try:
        listening.arm()
        before = host.find_holders()
        time.sleep(seconds)
        heard = listening.hear()
    finally:
        listening.end()
    after = host.find_holders() if heard.differences else {}
    holders = {file: (*after.get(file, ()), *before.get(file, ())) for file in {*before, *after}}
    differences = _differences_by_others(root, heard, holders, is_known)
    events = (each for each in reversed(heard.events) if each.lineage and not is_known(each))
    others = (*differences, *events)  # who is heard is named by that
    first = {each.lineage[0].identity if each.lineage else each: each for each in others}
    return Writers(tuple(first.values()), heard.deaf, heard.blind)


def _differences_by_others(
    root: PurePath,
    heard: Heard,
    holders: Mapping[FileId, Iterable[tuple[Process, ...]]],
    is_known: Callable[[Change], bool],
) -> Iterator[Change]:
    """Yield the differences while a workload is at work, by each that may have made one and is not known.

    `holders` are those before and after. What an event explains was written by whom it names, and perhaps by another
    that has the file open. Without events nothing is known of what nobody has open.
    """
    unexplained = {*_find_unexplained(root, heard)}
    for change in heard.differences:
        found = [*_by_holders(change, holders)]
        found += _by_touches(root, heard, change) if change in unexplained else ()
        yield from (each for each in found if each.lineage and not is_known(each))
        if not found and change in unexplained and not heard.deaf:
            yield replace(change, how=_advise(root, change))


@step("rehearse_silence", "listen: who else writes in the root?", section="§3", ja="書込元の確認", retries=1)
def rehearse_silence(context: RunContext) -> Writers:
    """Name, in a rehearsal, what writes below the root and is neither member nor excused (runbook §3)."""
    membership, members = Membership(context), load_frozen(context.state)
    leaders = {identity.pid for identity in members}
    ids = {identity.id for identity in frozen_containers(context.state)}
    host, known = context.adapters.host, dict[Identity, bool]()
    is_excused, is_bystanders = _excuses_now(membership)
    snapshot = host.snapshot()
    above = {each.parent for each in snapshot.values() if each.container in ids}
    keepers = {pid for pid in above if pid in snapshot and keeps_container(snapshot[pid])}

    def is_of_container(change: Change) -> bool:
        """Return whether the writer is in a container of the block, or, gone before its look, of what keeps one."""
        writer = change.lineage[0]
        return writer.container in ids or (not writer.container and writer.parent in keepers)

    def is_known(change: Change) -> bool:
        excused = is_excused(change) or is_bystanders(change) or is_of_container(change)
        own = any(each.identity in members or each.session in leaders for each in change.lineage)
        return excused or own or is_new_member(change)

    def is_new_member(change: Change) -> bool:
        """Return whether a process that was looked at beside the root belongs to the workload, which starts others."""
        writer = change.lineage[0]
        if writer.places is None:
            return False
        if writer.identity not in known:
            seen = {**snapshot, **{each.pid: each for each in change.lineage if each.places is not None}}
            known[writer.identity] = writer.identity in membership.members(seen)
        return known[writer.identity]

    ours = ours_below(context.workload, context.directory)
    beside = _folders_beside(context.workload, WorkloadContainers(context))
    heard = writers_below(host, context.directory.root, ours, beside, _REHEARSED_SECONDS, is_known)
    changes = tuple(first_of_each_source(_with_sources(host, heard.changes)))
    for change in changes:
        if change.lineage:
            line = keep_entries(excuse_for(change.lineage[0]), membership.description.bystanders)
            why = f"{change}; after the stop that would be NotContained, unless it is another's and excused: {line}"
            context.log.write("writes", str(change.pid), command=process_line(change.lineage[0]), why=why)
        else:
            context.log.write("writes", change.file, why=f"{change}; after the stop that would be NotContained")
    lasting = (each for each in changes if not each.lineage or each.source or lives(host, each.lineage[0].identity))
    lines = [*map(str, lasting)]
    more = [f"{len(lines) - _NAMED} more changes"] if len(lines) > _NAMED else []
    return replace(heard, changes=changes, contradictions=(*lines[:_NAMED], *more))
