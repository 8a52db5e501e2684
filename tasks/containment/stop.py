"""§3: end what was frozen (signal, thaw, grace, SIGKILL), with a receipt for each process."""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from signal import SIGCONT, SIGINT, SIGKILL, SIGSTOP, SIGTERM, Signals
from typing import Any, Final

from blocks.workload import Workload
from tasks.collectors.tree import read_writing
from tasks.containment.containers.stop import stop_containers
from tasks.containment.control_groups import Groups
from tasks.containment.cordon import IncidentCordon
from tasks.containment.files_before_stop import NOT_HELD, NOT_KNOWN, hold_files, list_files
from tasks.containment.freeze import halt
from tasks.containment.gpu import look_at_gpus
from tasks.containment.members import inside
from tasks.containment.release.wrappers import Wrappers
from tasks.containment.silence import listen
from tasks.containment.units import ASKED, Units
from tasks.custody.containment.identity import Identity, Way
from tasks.custody.containment.receipt import End, Frozen, Stop, Stopped
from tasks.host.descent import DescendantTracker
from tasks.host.host import lives, send_signal
from tasks.host.process.known_programs import SHELLS, WRAPPERS, program
from tasks.host.process.membership import Member
from tasks.host.process.newcomer import Newcomer, classify_newcomer
from tasks.host.process.process import Process, copies, descendants, gentle_signal, pids_of, process_line
from tasks.host.wrappers import wake
from tasks.runtime.context import FirstTry, RunContext
from tasks.runtime.frozen import by_frozen, frozen_containers, load_announced, load_frozen, load_stopped
from tasks.runtime.state import IncidentState
from tasks.runtime.step import step
from tasks.system.cancellation import run_in_thread

_SETTLE_SECONDS: Final = 2.0
_HOLD_SECONDS: Final = 2.0
"""A file of a mount that does not answer holds up no stop."""
_LOOK_AGAIN_SECONDS: Final = 0.1
_KILL_ROUNDS: Final = 20
_WAITS: Final = "it waits for what it started during the stop, which is held 停止中に起動した子を待機"


@dataclass
class StopTarget:
    """A process that a stop has to end: what it was sent, whether it is left, and when it was gone.

    A `newcomer` was found during the stop. One that is `held` is frozen, and not waited for in the grace, nor is one
    that is `stuck`. `delay` says why it does not end by itself. `announced` are signals that an earlier run was about
    to send, and may have died before. `writing` is what it had open for writing when it was killed.
    """

    identity: Identity
    role: str
    command: str
    newcomer: bool = False
    held: bool = False
    alive: bool = True
    sent: list[tuple[str, datetime]] = field(default_factory=list)
    gone_at: datetime | None = None
    reason: str = ""
    announced: tuple[tuple[str, datetime], ...] = ()
    way: Way = Way.SIGNALS
    stuck: bool = False
    delay: str = ""
    writing: list[dict[str, Any]] = field(default_factory=list)
    seen_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def end(self) -> End:
        """How the process ended, by what it was sent."""
        if self.alive:
            return End.SURVIVED
        if any(name == SIGKILL.name for name, _ in self.signals):
            return End.KILLED
        return End.STOPPED if self.signals else End.GONE

    @property
    def signals(self) -> tuple[tuple[str, datetime], ...]:
        """Signals that it was sent, after those that an earlier run had announced."""
        return (*self.announced, *self.sent)

    @property
    def ran(self) -> Mapping[str, object]:
        """How long it ran during the stop, and until when at the latest; nothing if it stood frozen until its end.

        A newcomer that was not held ran from when it was seen. Also what it was `writing`.
        """
        since: datetime | None = self.seen_at if self.newcomer else None
        until: datetime | None = None
        seconds = 0.0
        moments = [each for each in self.signals if each[0] in {SIGCONT.name, SIGSTOP.name}]
        for name, at in (*moments, (SIGSTOP.name, self.gone_at or datetime.now(UTC))):
            if name == SIGCONT.name:
                since = since or at
            elif since:
                seconds, until = seconds + (at - since).total_seconds(), at
                since = None
        times = {"ran_s": round(seconds, 3), "ran_until": until.isoformat()} if until else {}
        return times | ({"writing": self.writing} if self.writing else {})

    def note_guard(self, at: datetime) -> None:
        """Note the SIGKILL that the guard of the cordon sent to a process that was thawed again and again."""
        self.sent = sorted([*self.sent, (SIGKILL.name, at)], key=lambda each: each[1])
        reason = f"{SIGKILL.name} by the guard: it was thawed again and again (ガードが強制終了)"
        self.reason = "; ".join(filter(None, (reason, self.reason)))

    def receipt(self, *planned: Signals) -> Stopped:
        """Return what was done, and how the process ended; with the `planned` signals as if sent."""
        now = datetime.now(UTC)
        signals = (*self.signals, *((number.name, now) for number in planned))
        names = ", ".join(name for name, _ in self.announced)
        ended = "" if self.alive or self.gone_at else ", and it ended at an unknown moment"
        doubt = f"{names} announced by an earlier run{ended} (以前の実行が送信を予告)" if names else ""
        reason = "; ".join(filter(None, (doubt, self.reason, self.delay)))
        return Stopped(self.identity, self.role, self.command, signals, self.end, self.gone_at, reason, self.way)


@step("stop", "stop the workload", section="§3", ja="停止", retries=2, retry_delay_seconds=0.2, cache_key_fn=by_frozen)
def stop(context: RunContext) -> Stop:
    """End all that was frozen: the signal that each process heeds, a thaw, the grace, SIGKILL (runbook §3).

    First moves what may be moved into the incident's control group, so that no process born meanwhile is missed. Policy
    kill, for a compromised host, sends SIGKILL to frozen processes, and thaws nothing.

    A journal on disk announces the signals before each thaw and kill, for the run that follows if this one dies, and
    for a second try, which waits out what is left of the grace. What survives everything is no reason for one.
    """
    listen(context)
    processes = load_announced(context.state) | load_frozen(context.state)
    with ThreadPoolExecutor(1) as beside, DescendantTracker(context.adapters.host, processes) as kin:
        stopping = Stopping(context, processes.values(), kin)
        stopping.hold()
        waits = processes or frozen_containers(context.state)
        if waits and context.run.policy == "graceful" and not (context.cancelled or context.run.dry_run):
            context.losses.extend(_note_files(context.workload, context.state))
        containers = beside.submit(stop_containers, context)
        if not context.cancelled:
            stopping.ask_systemd()
        if context.run.policy == "graceful" and not context.cancelled:
            stopping.ask()
            stopping.wait()
        stopping.kill()
        if context.cancelled:
            stopping.freeze_again()
        else:
            stopping.units.kill()
    stopping.note_guard()
    stopping.wrappers.give_back()
    listen(context, armed=True)
    stopped_at, earlier = datetime.now(UTC), stopping.earlier
    new = [target for target in stopping.targets.values() if target.identity not in earlier]
    fresh, ran = [target.receipt() for target in new], {target.identity: target.ran for target in new}
    receipts = sorted([*earlier.values(), *fresh], key=lambda receipt: receipt.identity)
    context.state.stopped.write([receipt for receipt in receipts if receipt.end is not End.SURVIVED])
    context.state.stopping.write([receipt for receipt in fresh if receipt.end is End.SURVIVED])
    for receipt in fresh:
        signals = [name for name, _ in receipt.signals]
        details = {"signals": signals, "way": receipt.way, **ran[receipt.identity]}
        context.log.write("stopped", str(receipt.identity.pid), end=receipt.end, **details)
    gpu = look_at_gpus(context.adapters.host, context.state, context.log, "stop")
    result = Stop(stopped_at, tuple(receipts), containers.result(), (*stopping.units.warnings, *stopping.warnings), gpu)
    context.first_try = FirstTry()
    return result


def _note_files(workload: Workload, state: IncidentState) -> Iterator[str]:
    """Note which files are there before the workload runs once more; yield what is not known: that delays no stop."""
    held = run_in_thread(lambda: hold_files(workload, state))[0]
    try:
        state.files.write({**list_files(workload), **state.files.read()})
    except OSError as error:
        yield f"{NOT_KNOWN}: {error}"
    try:
        if found := held.result(_HOLD_SECONDS):
            state.held_files.write([*state.held_files.read(), *found])
    except Exception as error:  # noqa: BLE001  whatever a mount answers
        yield f"{NOT_HELD}: {str(error) or f'no answer within {_HOLD_SECONDS:g} s'}"


class Stopping:
    """A stop in progress."""

    def __init__(self, context: RunContext, processes: Iterable[Frozen | Stopped], kin: DescendantTracker) -> None:
        """Begin with what was frozen, what earlier runs announced and have ended, and the descendants of these."""
        self.context, self.host, self.kin, self.groups = context, context.adapters.host, kin, Groups(context)
        self.units, self.earlier = Units(context), load_stopped(context.state)
        self.wrappers = Wrappers(self.host, context.state, IncidentCordon(context))
        self.membership = self.groups.membership
        self.protected_pids = self.membership.protected_pids(self.host.snapshot())
        announced = {identity: receipt.signals for identity, receipt in load_announced(context.state).items()}
        self.targets, self.warnings = dict[Identity, StopTarget](), list[str]()
        for each in processes:
            self.targets[each.identity] = target = StopTarget(each.identity, each.role, each.command)
            target.alive, target.announced = lives(self.host, each.identity), announced.get(each.identity, ())

    @property
    def remaining(self) -> list[StopTarget]:
        """Targets that are not gone, by pid."""
        return sorted((target for target in self.targets.values() if target.alive), key=lambda each: each.identity)

    def hold(self) -> None:
        """Hold by control groups what signals hold. Notes each process that may not be moved."""
        self._take_in_newcomers()
        snapshot = self.host.snapshot()
        self.groups.hold_in_place(snapshot)
        self.groups.move(snapshot[pid] for pid in pids_of(snapshot, {target.identity for target in self.remaining}))
        self.groups.freeze()
        self._take_in_newcomers()
        for target in self.remaining:
            target.reason = self.groups.refused.get(target.identity, target.reason)

    def ask_systemd(self) -> None:
        """Have systemd stop the block's services. Nothing in them runs before the thaw of `ask`."""
        seen = [(target, self.host.get_process(target.identity)) for target in self.remaining]
        self.units.stop()
        for target, process in seen:
            if process and self.units.holds(process):
                target.sent.append((ASKED, datetime.now(UTC)))

    def ask(self) -> None:
        """Queue each process its gentle signal while it is frozen, then thaw, so that it handles the signal first."""
        gentle_signals = dict[Identity, list[Signals]]()
        for target in self._find_unheld():
            process = self.host.get_process(target.identity)
            asked_before = target.sent or target.identity in self.context.first_try.signalled
            gentle = _choose_gentle(process) if process and not asked_before else None
            gentle_signals[target.identity] = [gentle] if gentle else []
            if process and not (gentle or asked_before):
                target.delay = "it ignores SIGINT and SIGTERM (終了要求を無視)"
        self._announce({identity: [*gentle, SIGCONT] for identity, gentle in gentle_signals.items()})
        for target in self._find_unheld():
            for gentle in gentle_signals[target.identity]:
                self._send(target, gentle)
                self.context.first_try.signalled.add(target.identity)
        self.groups.thaw()
        wake(self.host, self.context.state.above.read(), [target.identity for target in self.remaining if target.held])
        for target in self._find_unheld():
            self._send(target, SIGCONT)
        if self.remaining:
            self.context.log.write("deviation", "thaw", reason="policy graceful: asked to end before it is killed")

    def wait(self) -> None:
        """Wait out the grace, and take in new processes. Does not wait for those held frozen, nor for the stuck."""
        deadline = self.context.first_try.grace_until or time.monotonic() + self.context.workload.grace_seconds
        self.context.first_try.grace_until = deadline
        while (self._find_awaited() or self.units.still_stopping()) and not self.context.cancelled:
            if (rest := deadline - time.monotonic()) <= 0:
                self.warnings += [
                    f"the whole grace was waited for process {target.identity.pid} ({target.command}): {target.delay}"
                    for target in self._find_awaited()
                    if target.delay
                ]
                break
            self._wait_gone(min(_LOOK_AGAIN_SECONDS, rest))
            self._find_stuck(self._take_in_newcomers())
            self._thaw_again()

    def _find_unheld(self) -> list[StopTarget]:
        return [target for target in self.remaining if not target.held]

    def _find_awaited(self) -> list[StopTarget]:
        return [target for target in self._find_unheld() if not target.stuck]

    def _thaw_again(self) -> None:
        """Continue processes that a guard has stopped again, having looked before our journal was written."""
        for target in self._find_unheld():
            process = self.host.get_process(target.identity)
            if process and process.is_stopped:
                self._send(target, SIGCONT)

    def kill(self) -> None:
        """Kill all that is left, until a round finds no new process."""
        if self.context.run.policy == "kill" and not self.context.cancelled:
            self._kill_in_frozen_units()
        for _ in range(_KILL_ROUNDS):
            self.groups.freeze()  # so that all in it get a receipt
            self._take_in_newcomers()
            if not self.remaining or self.context.cancelled:
                break
            self._announce({target.identity: [SIGKILL] for target in self.remaining})
            for target in self.remaining:
                target.writing = target.writing or read_writing([target.identity.pid])
                self._send(target, SIGKILL)
            self.groups.kill()
            for target in self.remaining:
                if target.way is not Way.SIGNALS and SIGKILL.name not in dict(target.sent):
                    target.sent.append((SIGKILL.name, datetime.now(UTC)))  # by the kernel, if a signal was denied
            self._wait_gone(_SETTLE_SECONDS)
        if not self.remaining and not self.context.cancelled:
            self.groups.let_go()

    def _kill_in_frozen_units(self) -> None:
        """Kill all but each service's main process, which is stopped by signal; then have systemd thaw the service.

        A service whose main process ends while systemd has it frozen cannot be started again before a reboot.
        """
        self._take_in_newcomers()
        if mains := self.units.main_processes(self.host.snapshot()):
            for target in self.remaining:
                self._send(target, SIGSTOP if target.identity.pid in mains else SIGKILL)
            self.units.thaw()

    def freeze_again(self) -> None:
        """Freeze all that is left: under a standing cordon no other run and no guard would."""
        for _ in range(_KILL_ROUNDS):
            self.groups.freeze()
            self._take_in_newcomers()
            seen = ((each, self.host.get_process(each.identity)) for each in self.remaining)
            runs = [each for each, now in seen if now and not now.is_stopped]
            if not runs:
                break
            for target in runs:
                self._send(target, SIGSTOP)
            self.groups.thaw()
            self._wait_gone(_LOOK_AGAIN_SECONDS)

    def note_guard(self) -> None:
        """Note in the receipts which of the processes the guard has killed."""
        for identity, at in IncidentCordon(self.context).killed_newcomers().items():
            if identity in self.targets:
                self.targets[identity].note_guard(at)

    def _take_in_newcomers(self) -> Mapping[int, Process]:
        """Take in processes started meanwhile, except those that a process needs in order to end. Return the look.

        loky ends its workers with the help of pgrep: with that frozen, the training took the whole grace to end.
        """
        snapshot = self.host.snapshot()
        self.kin.add(snapshot)
        found, kin = self.membership.members(snapshot), self.kin.descendants
        excused = self.membership.excused_pids(snapshot)
        spared = self.protected_pids | excused | (descendants(snapshot, excused) - {each.pid for each in found})
        kin |= {pid: snapshot[pid].identity for pid in inside(snapshot, self.groups.paths)}
        everyone = dict.fromkeys([*found, *(process.identity for process in snapshot.values())])  # parents first
        for identity in (each for each in everyone if each not in self.targets):
            process, member = snapshot[identity.pid], found.get(identity, Member("helper", "started during the stop"))
            kind = classify_newcomer(snapshot, identity, found, kin, spared)
            if identity in found and self.units.holds(process):
                kind = Newcomer.TAKEN_IN
            if kind is Newcomer.TAKEN_IN:
                self.targets[identity] = StopTarget(identity, member.role, process_line(process), newcomer=True)
            elif kind is Newcomer.TOLD:
                self.wrappers.note(snapshot, [process.pid])
                halt(self.host, process, member)
        for target in self.remaining:
            if (now := snapshot.get(target.identity.pid)) and now.identity == target.identity:
                target.way = self.groups.way(now)
        self._hold_newcomers(snapshot)
        self._name_helpers_of_systemd(snapshot)
        return snapshot

    def _name_helpers_of_systemd(self, snapshot: Mapping[int, Process]) -> None:
        """Name the services' own stop commands in the journal that the guard reads, so that it does not freeze them."""
        new = [each.identity for each in self.targets.values() if each.newcomer and each.identity.pid in snapshot]
        helpers = [identity for identity in new if self.units.holds(snapshot[identity.pid])]
        if helpers != self.context.state.stopping_units.read():
            self.context.state.stopping_units.write(helpers)

    def _hold_newcomers(self, snapshot: Mapping[int, Process]) -> None:
        """Freeze newcomers that match the workload, but no fork that has not executed its own program yet."""
        becoming = copies(snapshot, {target.identity.pid for target in self.remaining if not target.newcomer})
        for target in self._find_unheld():
            process = snapshot.get(target.identity.pid)
            if not target.newcomer or not process or process.identity != target.identity or process.pid in becoming:
                continue
            if not self.units.holds(process) and self.membership.description.recognises(process):
                target.held = True
                self._send(target, SIGSTOP)

    def _find_stuck(self, snapshot: Mapping[int, Process]) -> None:
        """Find shells and wrappers that only wait for newcomers that are held: a loop has started it again.

        What is no shell may write meanwhile, and keeps its grace.
        """
        children = defaultdict[int, set[int]](set)
        for process in snapshot.values():
            if process.alive:
                children[process.parent].add(process.pid)
        held = {target.identity.pid for target in self.remaining if target.held}
        for target in sorted(self._find_unheld(), key=lambda each: each.identity.start, reverse=True):
            own, look = children[target.identity.pid], snapshot.get(target.identity.pid)
            target.stuck = bool(look and own and own <= held and program(look) in SHELLS | WRAPPERS)
            held |= {target.identity.pid} if target.stuck else set()
            target.delay = _WAITS if held & own else target.delay

    def _announce(self, planned: Mapping[Identity, Sequence[Signals]]) -> None:
        """Write down which signals each process gets, before they are sent."""
        if planned:
            rows = [target.receipt(*planned.get(identity, ())) for identity, target in self.targets.items()]
            self.context.state.stopping.write(rows)

    def _wait_gone(self, seconds: float) -> None:
        waiting = self.remaining
        alive, now = self.host.wait_gone([target.identity for target in waiting], seconds), datetime.now(UTC)
        for target in waiting:
            if target.identity not in alive:
                target.alive, target.gone_at = False, now

    def _send(self, target: StopTarget, number: Signals) -> None:
        denied = send_signal(self.host, target.identity, number)
        if denied:
            target.reason = denied
        elif denied is not None:
            target.sent.append((number.name, datetime.now(UTC)))


def _choose_gentle(process: Process) -> Signals | None:
    """Return what asks a process to end. A shell takes SIGINT as its child's: if that ends well, a loop goes on."""
    return gentle_signal(process.masks, SIGTERM if program(process) in SHELLS else SIGINT)
