"""§3: the state of one process during a stop: what it was sent, and how it ended."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from signal import SIGKILL, Signals

from tasks.custody.containment.ends import End
from tasks.custody.containment.groups import Way
from tasks.custody.containment.process import Identity
from tasks.custody.containment.receipt import Stopped


@dataclass
class StopTarget:
    """A process that a stop has to end: what it was sent, whether it is left, and when it was gone.

    A `newcomer` was found during the stop. One that is `held` is frozen, and not waited for in the grace. `announced`
    are signals that an earlier run was about to send, and may have died before.
    """

    identity: Identity
    role: str
    command: str
    newcomer: bool = False
    held: bool = False
    left: bool = True
    sent: list[tuple[str, datetime]] = field(default_factory=list)
    gone_at: datetime | None = None
    reason: str = ""
    announced: tuple[tuple[str, datetime], ...] = ()
    way: Way = Way.SIGNALS

    @property
    def end(self) -> End:
        """How the process ended, by what it was sent."""
        if self.left:
            return End.SURVIVED
        if any(name == SIGKILL.name for name, _ in self.signals):
            return End.KILLED
        return End.STOPPED if self.signals else End.GONE

    @property
    def signals(self) -> tuple[tuple[str, datetime], ...]:
        """Signals that it was sent, after those that an earlier run had announced."""
        return (*self.announced, *self.sent)

    def note_guard(self, at: datetime) -> None:
        """Note the SIGKILL that the guard of the cordon sent to a process that was thawed again and again."""
        self.sent = sorted([*self.sent, (SIGKILL.name, at)], key=lambda each: each[1])
        told = f"{SIGKILL.name} by the guard: it was thawed again and again (ガードが強制終了)"
        self.reason = "; ".join(filter(None, (told, self.reason)))

    def receipt(self, *planned: Signals) -> Stopped:
        """Return what was done, and how the process ended; with the `planned` signals as if sent."""
        now = datetime.now(UTC)
        signals = (*self.signals, *((number.name, now) for number in planned))
        reason = "; ".join(filter(None, (self._doubt, self.reason)))
        return Stopped(self.identity, self.role, self.command, signals, self.end, self.gone_at, reason, self.way)

    @property
    def _doubt(self) -> str:
        if not self.announced:
            return ""
        names = ", ".join(name for name, _ in self.announced)
        ended = "" if self.left or self.gone_at else ", and it ended at an unknown moment"
        return f"{names} announced by an earlier run{ended} (以前の実行が送信を予告)"
