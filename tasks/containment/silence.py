"""§3: listen, from the last signal of the stop until recovery begins or the run ends, for what still writes."""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Final

from tasks.adapters.host import Host, LinuxHost
from tasks.adapters.listening import Listening
from tasks.containment.cordon import caught
from tasks.containment.freeze import load_frozen, load_stopped
from tasks.containment.members import excused_pids, find_members, own_pids
from tasks.custody.containment.membership import runs_ours
from tasks.custody.containment.process import Identity, Process, ancestry, descendants
from tasks.custody.containment.program import interactive
from tasks.custody.containment.receipt import Containment
from tasks.custody.containment.silence import Change, Silence, Trial, judge_silence
from tasks.custody.evidence.redact import command_line
from tasks.custody.step_result import StepResult
from tasks.incident.directory import bases
from tasks.runtime.context import RunContext
from tasks.runtime.step import step
from tasks.system.processes import untouchable

_REHEARSED_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.1


def listen(context: RunContext) -> None:
    """Start the witnesses before the first signal, so that no time passes after the last one."""
    if not context.listening and not context.state.recovered.read():
        context.listening = context.adapters.host.listen(context.directory.root, ours_below(context))


def arm(context: RunContext) -> None:
    """Count what changes from now on: the last signal has been sent."""
    listen(context)
    if context.listening and not context.listening.armed:
        context.listening.arm()
        context.listening.met = _met(context)


def with_silence(context: RunContext, seen: Containment, *, compare: bool = True) -> Containment:
    """Return the check with what was changed since the stop, each change logged once."""
    listening = context.listening
    if not listening or not listening.armed:
        return seen
    silence = _judged(context, listening, compare=compare)
    for change in (each for each in silence.broken if (each.file, each.pid) not in listening.logged):
        listening.logged.add((change.file, change.pid))
        context.log.write("changed", change.file, at=change.at.isoformat(), pid=change.pid, result=str(change))
    notes = dict.fromkeys((*seen.notes, *silence.notes))
    return replace(seen, alive=(*seen.alive, *silence.contradictions), notes=tuple(notes))


def stop_listening(context: RunContext) -> None:
    """End the witnesses: what changes from now on is a recovery's."""
    if context.listening:
        context.listening.end()
        context.listening = None


def _judged(context: RunContext, listening: Listening, *, compare: bool) -> Silence:
    heard = listening.hear(_met(context), compare=compare)
    ended = {*load_frozen(context.state), *load_stopped(context.state)}
    ended |= {each.identity for each in context.state.returned.read()}
    ended |= {who for row in caught(context.cordon_files, context.incident.opened_at) if (who := Identity.of(row))}
    found = replace(heard, differences=_with_holders(context, heard.differences))
    return judge_silence(found, excuses(context), listening.trials, ended, lambda who: _is_at_work(context, who))


def _is_at_work(context: RunContext, who: Identity) -> bool:
    process = context.adapters.host.get_process(who)
    return process is not None and process.alive and not process.stopped


def _met(context: RunContext) -> int:
    """Return how many of the workload have come back, or were caught, since the incident was opened."""
    return len(context.state.returned.read()) + len(caught(context.cordon_files, context.incident.opened_at))


def _with_holders(context: RunContext, changes: Iterable[Change]) -> tuple[Change, ...]:
    """Return the changes of unknown writers, with a process that has the file open or mapped for writing, if any."""
    unknown = tuple(changes)
    snapshot = context.adapters.host.snapshot() if unknown else {}
    written = {
        path: snapshot[who.pid]
        for who, traces in context.adapters.host.traces(snapshot.values()).items()
        for path in traces.written
    }
    holders = ((each, written.get(str(context.directory.root / each.file))) for each in unknown)
    return tuple(replace(each, pid=who.pid, lineage=(who,)) if who else each for each, who in holders)


def excuses(context: RunContext) -> Callable[[Change], bool]:
    """Return a function that decides whether a change is ours, a bystander's, or a person's in an editor."""
    snapshot, root = context.adapters.host.snapshot(), context.directory.root

    def is_excused(change: Change) -> bool:
        seen = {**snapshot, **{each.pid: each for each in change.lineage}}
        us, writer = ancestry(seen, [os.getpid()]), change.lineage[0]
        ours = {pid for pid in untouchable(seen) if pid not in us or runs_ours(seen[pid])}
        ours |= {os.getpid()} | descendants(seen, [os.getpid()]) | own_pids(context, seen)
        return writer.pid in ours | excused_pids(context, seen) or (
            interactive(writer) and not PurePath(writer.executable).is_relative_to(root)
        )

    return is_excused


def ours_below(context: RunContext) -> tuple[str, ...]:
    """Return what is ours below the root, by its path there: incidents, the lock, and where our own output goes."""
    places = [*bases(context.workload), context.workload.evidence, context.directory.path, context.workload.lock]
    for descriptor in (1, 2):
        with suppress(OSError):
            places.append(Path(f"/proc/self/fd/{descriptor}").readlink())
    root = context.directory.root
    real = [PurePath(os.path.realpath(each)) for each in places]
    return tuple({str(each.relative_to(root)) for each in real if each.is_relative_to(root)} - {"."})


def before_trial(context: RunContext) -> None:
    """Compare until now, because what a launch of ours changes is not known from others' changes without its writer."""
    if context.listening and context.listening.armed:
        heard = context.listening.hear(_met(context))
        context.listening.compare_anew(heard, _met(context))


def after_trial(context: RunContext, launched: Identity, began: datetime) -> None:
    """Excuse what a launch of ours has changed, and compare anew."""
    if context.listening and context.listening.armed:
        context.listening.trials.append(Trial(launched, began.isoformat(), datetime.now(UTC)))
        context.listening.compare_anew(context.listening.hear(compare=False), _met(context))


@dataclass(frozen=True, repr=False)
class Writers(StepResult):
    """Who writes below the root and is neither workload nor excused, each with files; `deaf` says why it is unknown."""

    seconds: float
    writers: tuple[tuple[Process, tuple[str, ...]], ...] = ()
    deaf: str = ""

    @property
    def summary(self) -> str:
        """Pid, command and files of each."""
        told = [f"{who.pid}: {command_line(who.command)} writes {files[0]}" for who, files in self.writers]
        if self.deaf:
            return f"who writes is not known: {self.deaf}"
        return "; ".join(told) or f"in {self.seconds:g} s nothing writes but the workload and what is excused"

    @property
    def warnings(self) -> tuple[str, ...]:
        """The summary, if it is no good news."""
        return (self.summary,) if self.writers or self.deaf else ()


def writers_below(
    host: Host, root: PurePath, ours: Iterable[str], seconds: float, is_known: Callable[[Change], bool]
) -> Writers:
    """Listen for some seconds; return who writes below the root, without those known."""
    if not (listening := host.listen(root, ours)):
        return Writers(seconds)
    try:
        listening.arm()
        time.sleep(seconds)
        heard = listening.hear(compare=False)
    finally:
        listening.end()
    files: dict[Identity, tuple[Process, tuple[str, ...]]] = {}
    for change in (each for each in heard.events if each.lineage and not is_known(each)):
        who = change.lineage[0]
        files[who.identity] = who, (*files.get(who.identity, (who, ()))[1], change.file)
    return Writers(seconds, tuple(files.values()), heard.deaf)


@step("§3", "rehearse_silence", "listen: who else writes in the root?", "書込元の確認")
def rehearse_silence(context: RunContext) -> Writers:
    """Name, in a rehearsal, who would break the silence after the stop: what writes and is no member nor excused."""
    is_excused, snapshot = excuses(context), LinuxHost().snapshot()
    members = {*load_frozen(context.state), *find_members(context, snapshot)}

    def is_known(change: Change) -> bool:
        return is_excused(change) or not members.isdisjoint(change.identities)

    found = writers_below(LinuxHost(), context.directory.root, ours_below(context), _REHEARSED_SECONDS, is_known)
    for who, files in found.writers:
        why = f"it writes {', '.join(files[:3])}: a run would end NotContained unless the block names it"
        context.log.write("writes", str(who.pid), command=command_line(who.command), why=why)
    return found
