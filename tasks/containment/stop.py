"""§3: end what was frozen (signal, thaw, grace, SIGKILL), with a receipt for each process."""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from signal import SIGCONT, SIGKILL, SIGSTOP, Signals
from typing import Final

from tasks.containment.containers import stop_containers
from tasks.containment.cordon import matchers
from tasks.containment.descent import Kin
from tasks.containment.freeze import collect_key, command_of, halt, load_frozen, load_stopped
from tasks.containment.members import find_members, protected_pids
from tasks.custody.containment.ends import End
from tasks.custody.containment.membership import Member
from tasks.custody.containment.process import Identity, Process, copies, gentle_signal
from tasks.custody.containment.receipt import Frozen, Stop, Stopped
from tasks.custody.containment.source import restarted
from tasks.incident.layout import STOPPED
from tasks.runtime.context import RunContext
from tasks.runtime.step import step

_SETTLE_SECONDS: Final = 2.0
_LOOK_AGAIN_SECONDS: Final = 0.1
_KILL_ROUNDS: Final = 20


@step("§3 stop the workload", "停止", key=collect_key)
def stop(context: RunContext) -> Stop:
    """End everything that was frozen: the signal that each process heeds, a thaw, the grace, SIGKILL (runbook §3).

    Policy kill, for a compromised host: SIGKILL while it is frozen, and no thaw.
    """
    processes = load_frozen(context)
    with ThreadPoolExecutor(1) as beside, Kin(context.host, processes) as kin:
        containers = beside.submit(stop_containers, context)
        stopping = Stopping(context, processes, kin)
        if context.policy == "graceful":
            stopping.ask()
            stopping.wait()
        stopping.kill()
        if context.cancelled:
            stopping.freeze_again()
    context.stopped_at = time.monotonic()
    earlier = load_stopped(context)
    fresh = [receipt for receipt in stopping.receipts() if receipt.identity not in earlier]
    receipts = sorted([*earlier.values(), *fresh], key=lambda receipt: receipt.identity)
    context.journal(STOPPED, list[Stopped], [receipt for receipt in receipts if receipt.end is not End.SURVIVED])
    for receipt in fresh:
        signals = [name for name, _ in receipt.signals]
        context.log.write("stopped", str(receipt.identity.pid), end=receipt.end, signals=signals)
    return Stop(datetime.now(UTC), tuple(receipts), containers.result())


class Stopping:
    """One stop in progress: whom it has to end, what was sent to whom, who was born meanwhile, who is gone."""

    def __init__(self, context: RunContext, processes: Mapping[Identity, Frozen], kin: Kin) -> None:
        """Begin with what was frozen, and with who descends from it."""
        self.context, self.host, self.kin = context, context.host, kin
        self.processes = dict(processes)
        self.spared = protected_pids(context, self.host.snapshot())
        self.sent: dict[Identity, list[tuple[str, datetime]]] = {identity: [] for identity in processes}
        self.gone: dict[Identity, datetime] = {}
        self.reasons: dict[Identity, str] = {}
        self.held: frozenset[Identity] = frozenset()
        self.asked = frozenset(processes)
        self.left = frozenset(who for who in processes if (now := self.host.get_process(who)) and now.alive)

    def ask(self) -> None:
        """Queue each its gentle signal while it is frozen, then thaw: it acts on the signal before anything else."""
        for identity in sorted(self.left):
            process = self.host.get_process(identity)
            if process and (gentle := gentle_signal(process.masks)):
                self._send(identity, gentle)
        for identity in sorted(self.left):
            self._send(identity, SIGCONT)
        if self.left:
            self.context.log.write("deviation", "thaw", reason="policy graceful: asked to end before it is killed")

    def wait(self) -> None:
        """Wait out the grace and take in who is born meanwhile; those of them that are frozen are not waited for."""
        deadline = time.monotonic() + self.context.workload.grace_seconds
        while self.left - self.held and not self.context.cancelled and (rest := deadline - time.monotonic()) > 0:
            self._wait_gone(min(_LOOK_AGAIN_SECONDS, rest))
            self._take_in_newcomers()
            self._thaw_again()

    def _thaw_again(self) -> None:
        """A guard that looked before our journal was written may stop once more whom we have just thawed."""
        for identity in self.left - self.held:
            process = self.host.get_process(identity)
            if process and process.stopped:
                self._send(identity, SIGCONT)

    def kill(self) -> None:
        """Kill who is left, again until nobody new is found."""
        for _ in range(_KILL_ROUNDS):
            self._take_in_newcomers()
            if not self.left or self.context.cancelled:
                break
            for identity in sorted(self.left):
                self._send(identity, SIGKILL)
            self._wait_gone(_SETTLE_SECONDS)

    def freeze_again(self) -> None:
        """Leave nobody thawed: under a standing cordon no other run and no guard would stop them."""
        for _ in range(_KILL_ROUNDS):
            self._take_in_newcomers()
            runs = {who for who in self.left if (now := self.host.get_process(who)) and not now.stopped}
            if not runs:
                break
            for identity in sorted(runs):
                self._send(identity, SIGSTOP)
            self._wait_gone(_LOOK_AGAIN_SECONDS)

    def receipts(self) -> Iterable[Stopped]:
        """One receipt a process."""
        return [self._receipt(process) for process in self.processes.values()]

    def _take_in_newcomers(self) -> None:
        """Take in what was started anew; leave alone what a process of ours needs to end by.

        loky ends its workers with the help of pgrep: frozen, it held up the training's own end for the whole grace.
        What a supervisor has started again is frozen and left to the watch: killed here, it would only come back.
        What somebody else has started in the root, and does not match, is not ours to end: a person may copy files.
        """
        snapshot = self.host.snapshot()
        self.kin.meet(snapshot)
        found = find_members(self.context, snapshot)
        living = (process.identity for process in snapshot.values() if process.alive)
        helpers = dict.fromkeys(filter(self.kin.__contains__, living), Member("helper", "started during the stop"))
        known = self.kin.pids
        for identity, member in (helpers | found).items():
            process = snapshot[identity.pid]
            if identity in self.processes or identity.pid in self.spared or process.container:
                continue
            if identity in helpers or not restarted(snapshot, identity.pid, known):
                self._take_in(process, member)
            else:
                halt(self.host, process, member)
        self._hold_newcomers(snapshot)

    def _hold_newcomers(self, snapshot: Mapping[int, Process]) -> None:
        """Freeze those of them that are the workload anew; not one that is still the copy of who starts a helper."""
        becoming = copies(snapshot, {who.pid for who in self.asked & self.left})
        for identity in self.left - self.asked - self.held:
            process = snapshot.get(identity.pid)
            if not process or process.identity != identity or process.pid in becoming:
                continue
            if any(matcher.recognises(process, self.context.root) for matcher in matchers(self.context.workload)):
                self.held |= {identity}
                self._send(identity, SIGSTOP)

    def _take_in(self, process: Process, member: Member) -> None:
        now, identity = datetime.now(UTC), process.identity
        self.processes[identity] = Frozen(
            identity, member.role, command_of(process), process.user, now, None, why=member.why
        )
        self.sent[identity] = []
        self.left |= {identity}

    def _wait_gone(self, seconds: float) -> None:
        before, self.left = self.left, self.host.wait_gone(self.left, seconds)
        self.gone |= dict.fromkeys(before - self.left, datetime.now(UTC))

    def _receipt(self, process: Frozen) -> Stopped:
        identity = process.identity
        return Stopped(
            identity=identity,
            role=process.role,
            command=process.command,
            signals=tuple(self.sent[identity]),
            end=self._end(identity),
            gone_at=self.gone.get(identity),
            reason=self.reasons.get(identity, ""),
        )

    def _end(self, identity: Identity) -> End:
        if identity in self.left:
            return End.SURVIVED
        if any(name == SIGKILL.name for name, _ in self.sent[identity]):
            return End.KILLED
        return End.STOPPED if self.sent[identity] else End.GONE

    def _send(self, identity: Identity, number: Signals) -> None:
        try:
            self.host.signal(identity, number)
        except ProcessLookupError:
            return
        except PermissionError:
            self.reasons[identity] = f"{number.name} denied"
        else:
            self.sent[identity].append((number.name, datetime.now(UTC)))
