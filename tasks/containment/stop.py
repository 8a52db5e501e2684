"""§3: end what was frozen (signal, thaw, grace, SIGKILL), with a receipt for each process."""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from signal import SIGCONT, SIGKILL, SIGSTOP, Signals
from typing import Final

from tasks.adapters.host import lives, send_signal
from tasks.containment.containers import stop_containers
from tasks.containment.control_groups import Groups
from tasks.containment.cordon import matchers
from tasks.containment.descent import Kin
from tasks.containment.freeze import collect_key, halt, load_frozen, load_stopped
from tasks.containment.members import find_members, inside, protected_pids
from tasks.custody.containment.ends import End
from tasks.custody.containment.groups import Way
from tasks.custody.containment.membership import Member
from tasks.custody.containment.newcomer import Newcomer, classify_newcomer
from tasks.custody.containment.process import Identity, Process, copies, gentle_signal, pids_of
from tasks.custody.containment.receipt import Frozen, Stop, Stopped
from tasks.custody.evidence.redact import command_line
from tasks.incident.layout import STOPPED
from tasks.runtime.context import RunContext
from tasks.runtime.step import step

_SETTLE_SECONDS: Final = 2.0
_LOOK_AGAIN_SECONDS: Final = 0.1
_KILL_ROUNDS: Final = 20
_HELPER: Final = Member("helper", "started during the stop")


@step("§3", "stop", "stop the workload", "停止", key=collect_key)
def stop(context: RunContext) -> Stop:
    """End everything that was frozen: the signal that each process heeds, a thaw, the grace, SIGKILL (runbook §3).

    Before, whoever may be moved goes into the incident's control group, so that nobody who is born meanwhile is lost.
    Policy kill, for a compromised host: SIGKILL while it is frozen, and no thaw.
    """
    processes = load_frozen(context)
    with ThreadPoolExecutor(1) as beside, Kin(context.host, processes) as kin:
        containers = beside.submit(stop_containers, context)
        stopping = Stopping(context, processes.values(), kin)
        stopping.hold()
        if context.policy == "graceful":
            stopping.ask()
            stopping.wait()
        stopping.kill()
        if context.cancelled:
            stopping.freeze_again()
    context.stopped_at = time.monotonic()
    earlier = load_stopped(context)
    fresh = [target.receipt() for target in stopping.targets.values() if target.identity not in earlier]
    receipts = sorted([*earlier.values(), *fresh], key=lambda receipt: receipt.identity)
    context.journal(STOPPED, list[Stopped], [receipt for receipt in receipts if receipt.end is not End.SURVIVED])
    for receipt in fresh:
        signals = [name for name, _ in receipt.signals]
        context.log.write("stopped", str(receipt.identity.pid), end=receipt.end, signals=signals, way=receipt.way)
    return Stop(datetime.now(UTC), tuple(receipts), containers.result())


@dataclass
class StopTarget:
    """A process that a stop has to end: what it was sent, whether it is there still, and when it was gone.

    A `newcomer` was met during the stop; one that is `held` is frozen, and not waited for in the grace.
    """

    identity: Identity
    role: str
    command: str
    newcomer: bool = False
    held: bool = False
    left: bool = True
    way: Way = Way.SIGNALS
    sent: list[tuple[str, datetime]] = field(default_factory=list)
    gone_at: datetime | None = None
    reason: str = ""

    @property
    def end(self) -> End:
        """How it ended, by what it was sent."""
        if self.left:
            return End.SURVIVED
        if any(name == SIGKILL.name for name, _ in self.sent):
            return End.KILLED
        return End.STOPPED if self.sent else End.GONE

    def receipt(self) -> Stopped:
        """What was done, and how it ended."""
        sent = tuple(self.sent)
        return Stopped(self.identity, self.role, self.command, sent, self.end, self.gone_at, self.reason, self.way)


class Stopping:
    """One stop in progress."""

    def __init__(self, context: RunContext, processes: Iterable[Frozen], kin: Kin) -> None:
        """Begin with what was frozen, and with who descends from it."""
        self.context, self.host, self.kin, self.groups = context, context.host, kin, Groups(context)
        self.protected_pids = protected_pids(context, self.host.snapshot())
        self.targets = {
            each.identity: StopTarget(each.identity, each.role, each.command, left=lives(self.host, each.identity))
            for each in processes
        }

    @property
    def left(self) -> list[StopTarget]:
        """Those that are not gone, by their pids."""
        return sorted((target for target in self.targets.values() if target.left), key=lambda each: each.identity)

    def hold(self) -> None:
        """Hold by control groups whom signals hold; name those whose group is not ours to empty."""
        self._take_in_newcomers()
        snapshot = self.host.snapshot()
        self.groups.hold_in_place(snapshot)
        self.groups.move(snapshot[pid] for pid in pids_of(snapshot, {target.identity for target in self.left}))
        self.groups.freeze()
        self._take_in_newcomers()
        for target in self.left:
            target.reason = self.groups.refused.get(target.identity, target.reason)

    def ask(self) -> None:
        """Queue each its gentle signal while it is frozen, then thaw: it acts on the signal before anything else."""
        for target in self._thawed():
            process = self.host.get_process(target.identity)
            if process and (gentle := gentle_signal(process.masks)):
                self._send(target, gentle)
        self.groups.thaw()
        for target in self._thawed():
            self._send(target, SIGCONT)
        if self.left:
            self.context.log.write("deviation", "thaw", reason="policy graceful: asked to end before it is killed")

    def wait(self) -> None:
        """Wait out the grace and take in who is born meanwhile; those of them that are frozen are not waited for."""
        deadline = time.monotonic() + self.context.workload.grace_seconds
        while self._thawed() and not self.context.cancelled and (rest := deadline - time.monotonic()) > 0:
            self._wait_gone(min(_LOOK_AGAIN_SECONDS, rest))
            self._take_in_newcomers()
            self._thaw_again()

    def _thawed(self) -> list[StopTarget]:
        return [target for target in self.left if not target.held]

    def _thaw_again(self) -> None:
        """A guard that looked before our journal was written may stop once more whom we have just thawed."""
        for target in self._thawed():
            process = self.host.get_process(target.identity)
            if process and process.stopped:
                self._send(target, SIGCONT)

    def kill(self) -> None:
        """Kill who is left, again until nobody new is found."""
        for _ in range(_KILL_ROUNDS):
            self.groups.freeze()  # so that all who are in it get a receipt
            self._take_in_newcomers()
            if not self.left or self.context.cancelled:
                break
            for target in self.left:
                self._send(target, SIGKILL)
            self.groups.kill()
            for target in self.left:
                if target.way is not Way.SIGNALS and SIGKILL.name not in dict(target.sent):
                    target.sent.append((SIGKILL.name, datetime.now(UTC)))  # by the kernel, where a signal was denied
            self._wait_gone(_SETTLE_SECONDS)
        if not self.left and not self.context.cancelled:
            self.groups.let_go()

    def freeze_again(self) -> None:
        """Leave nobody thawed: under a standing cordon no other run and no guard would stop them."""
        for _ in range(_KILL_ROUNDS):
            self.groups.freeze()
            self._take_in_newcomers()
            runs = [each for each in self.left if (now := self.host.get_process(each.identity)) and not now.stopped]
            if not runs:
                break
            for target in runs:
                self._send(target, SIGSTOP)
            self.groups.thaw()
            self._wait_gone(_LOOK_AGAIN_SECONDS)

    def _take_in_newcomers(self) -> None:
        """Take in what was started anew; leave alone what a process of ours needs to end by.

        loky ends its workers with the help of pgrep: frozen, it held up the training's own end for the whole grace.
        """
        snapshot = self.host.snapshot()
        self.kin.meet(snapshot)
        found, kin = find_members(self.context, snapshot), self.kin.known
        kin |= {pid: snapshot[pid].identity for pid in inside(snapshot, self.groups.paths)}
        everyone = dict.fromkeys([*found, *(process.identity for process in snapshot.values())])  # parents first
        for identity in (who for who in everyone if who not in self.targets):
            process, member = snapshot[identity.pid], found.get(identity, _HELPER)
            made = classify_newcomer(snapshot, identity, found, kin, self.protected_pids)
            if made is Newcomer.TAKEN_IN:
                command = command_line(process.command)
                self.targets[identity] = StopTarget(identity, member.role, command, newcomer=True)
            elif made is Newcomer.TOLD:
                halt(self.host, process, member)
        for target in self.left:
            if (now := snapshot.get(target.identity.pid)) and now.identity == target.identity:
                target.way = self.groups.way(now)
        self._hold_newcomers(snapshot)

    def _hold_newcomers(self, snapshot: Mapping[int, Process]) -> None:
        """Freeze those of them that are the workload anew; not one that is still the copy of who starts a helper."""
        becoming = copies(snapshot, {target.identity.pid for target in self.left if not target.newcomer})
        for target in self._thawed():
            process = snapshot.get(target.identity.pid)
            if not target.newcomer or not process or process.identity != target.identity or process.pid in becoming:
                continue
            if any(matcher.recognises(process, self.context.root) for matcher in matchers(self.context.workload)):
                target.held = True
                self._send(target, SIGSTOP)

    def _wait_gone(self, seconds: float) -> None:
        waiting = self.left
        alive, now = self.host.wait_gone([target.identity for target in waiting], seconds), datetime.now(UTC)
        for target in waiting:
            if target.identity not in alive:
                target.left, target.gone_at = False, now

    def _send(self, target: StopTarget, number: Signals) -> None:
        denied = send_signal(self.host, target.identity, number)
        if denied:
            target.reason = denied
        elif denied is not None:
            target.sent.append((number.name, datetime.now(UTC)))
