"""Define the receipts of freeze, stop, watch, cordon, containment, stored objects and recovery."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from tasks.custody.containment.container import FrozenContainer, StoppedContainer
from tasks.custody.containment.ends import End
from tasks.custody.containment.groups import Way
from tasks.custody.containment.process import NOBODY, Identity
from tasks.custody.containment.source import Source
from tasks.custody.evidence.keys import SNAPSHOTS
from tasks.custody.step_result import StepResult


@dataclass(frozen=True)
class Frozen:
    """A process of the workload as the freeze found it.

    `frozen_at` is None where SIGSTOP did not take: `denied` says why, and is empty if the process had ended meanwhile.
    `why` says what it was recognised by, `lineage` who started it, nearest first, and `run` for which Prefect flow run.
    `way` says what held it beside the signal; `stood` that it was stopped when the freeze met it, and no start of ours
    had done that.
    """

    identity: Identity
    role: str
    command: str
    user: int
    seen_at: datetime
    frozen_at: datetime | None
    denied: str = ""
    why: str = ""
    lineage: tuple[Source, ...] = ()
    run: str = ""
    stood: bool = False
    way: Way = Way.SIGNALS


@dataclass(frozen=True, repr=False)
class Freeze(StepResult):
    """Everything of the workload that this incident has frozen, earlier runs included.

    `settled` is False where new processes came as fast as they were frozen, until the time was up. `engine` says why
    the container engine could not be asked, where the workload has containers. `waiting` names who was still in an
    uninterruptible wait (state D) after two seconds: it acts on the signal before anything else, but when is not known.
    """

    at: datetime
    processes: tuple[Frozen, ...]
    settled: bool
    containers: tuple[FrozenContainer, ...] = ()
    engine: str = ""
    waiting: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """True if none was denied, and the last look found no new one."""
        return self.settled and not self.engine and not self._denied

    @property
    def _denied(self) -> list[str]:
        processes = [f"{process.identity.pid}: {process.denied}" for process in self.processes if process.denied]
        return processes + [f"{each.summary}: {each.denied}" for each in self.containers if each.denied]

    @property
    def summary(self) -> str:
        """In a few words."""
        if not self.settled:
            return f"{len(self.processes)} processes frozen, and new ones still come"
        words = [f"{sum(1 for each in self.processes if each.frozen_at)} processes frozen"] if self.processes else []
        if self.containers:
            words.append(f"{sum(1 for each in self.containers if each.paused_at)} containers paused")
        if self._denied:
            words.append(f"not frozen: {', '.join(self._denied)}")
        if self.engine:
            words.append(f"containers are not known: {self.engine}")
        if self.waiting:
            words.append(f"in state D, not frozen yet (割り込み不可の待ち状態): {', '.join(self.waiting)}")
        return "; ".join(words) or "nothing of the workload runs"


@dataclass(frozen=True)
class Stopped:
    """Receipt of one process: the signals it was sent with their times, how it ended, and what held it until then."""

    identity: Identity
    role: str
    command: str
    signals: tuple[tuple[str, datetime], ...]
    end: End
    gone_at: datetime | None
    reason: str = ""
    way: Way = Way.SIGNALS


@dataclass(frozen=True, repr=False)
class Stop(StepResult):
    """Receipts of one stop; empty if there was nothing to stop, which is a result too."""

    at: datetime
    processes: tuple[Stopped, ...]
    containers: tuple[StoppedContainer, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """True if none survived."""
        ends = [*(each.end for each in self.processes), *(each.end for each in self.containers)]
        return End.SURVIVED not in ends

    @property
    def summary(self) -> str:
        """In a few words."""
        told = [_counted(each.end for each in self.processes)] if self.processes else []
        if self.containers:
            told.append(f"containers: {_counted(each.end for each in self.containers)}")
        return "; ".join(told) or "nothing to stop"


def _counted(ends: Iterable[End]) -> str:
    counts = Counter(ends)
    return ", ".join(f"{counts[end]} {end}" for end in End if counts[end])


@dataclass(frozen=True)
class Returned:
    """A process of the workload that was started after the stop; `source` says by what, as far as it can be known."""

    identity: Identity
    role: str
    command: str
    source: str
    end: End


@dataclass(frozen=True, repr=False)
class Watch(StepResult):
    """Whether anything brought the workload back: what came, what brings it, and which of that was stopped.

    `standing` are the supervisors that still stand, `stopped` those that were stopped at the workload block's word.
    `containers` are those that were started anew, and how each was ended.
    """

    at: datetime
    returned: tuple[Returned, ...]
    standing: tuple[str, ...]
    stopped: tuple[str, ...]
    containers: tuple[StoppedContainer, ...] = ()

    @property
    def is_complete(self) -> bool:
        """True if nothing brings it back any more."""
        ends = {*(each.end for each in self.returned), *(each.end for each in self.containers)}
        return not self.standing and not ends & {End.HELD, End.SURVIVED}

    @property
    def summary(self) -> str:
        """In a few words."""
        came = len(self.returned) + len(self.containers)
        if not came:
            return "nothing came back"
        words = [f"{came} came back"]
        words += [f"brought by {name}, which still stands" for name in self.standing]
        words += [f"brought by {name}, which was stopped" for name in self.stopped]
        return "; ".join(words)


@dataclass(frozen=True, repr=False)
class Challenge(StepResult):
    """A real launch against the cordon. `caught` is empty if nothing stopped it; `skipped` says why none was made."""

    at: datetime
    caught: str = ""
    skipped: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """True unless a training could be started."""
        return bool(self.caught or self.skipped)

    @property
    def summary(self) -> str:
        """In a few words."""
        if self.skipped:
            return f"no launch was tried: {self.skipped}"
        return f"a launch was caught: {self.caught}" if self.caught else "a training could be started under the cordon"


@dataclass(frozen=True, repr=False)
class Cordon(StepResult):
    """Who holds the training lock. `held` is False where somebody else does; `reason` then says who."""

    lock: str
    held: bool
    guard: Identity | None
    since: str
    incident: str
    reason: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """True if the lock is ours."""
        return self.held

    @property
    def summary(self) -> str:
        """In a few words."""
        if self.guard == NOBODY:
            return f"{self.lock} would be held by a guard"
        if self.held:
            return f"{self.lock} is held by guard {self.guard.pid if self.guard else '?'} since {self.since}"
        return f"{self.lock} is not ours: {self.reason}"


@dataclass(frozen=True, repr=False)
class Containment(StepResult):
    """The check after the stop: what of the workload was found alive, and whether the lock refuses.

    `left_alone` names processes with a matching command line that have nothing to do with the workload's root.
    `recovered` says that this incident has brought the API back: that is no life that contradicts it. `notes` tell how
    the block names each suspect, who was excused, and who may not be looked into.
    """

    at: datetime
    alive: tuple[str, ...]
    cordoned: bool
    reason: str = ""
    left_alone: tuple[str, ...] = ()
    recovered: bool = False
    notes: tuple[str, ...] = ()

    @property
    def contained(self) -> bool:
        """Contained means: nothing of the workload runs, and the lock refuses new training."""
        return not self.alive and self.cordoned

    @property
    def is_complete(self) -> bool:
        """The check holds."""
        return self.contained

    @property
    def summary(self) -> str:
        """In a few words."""
        if self.contained and self.recovered:
            return "recovered: what this incident brought back is at work, and training is let in"
        notes = "".join(f"; {note}" for note in self.notes[:3])
        if self.contained:
            others = f"; {len(self.left_alone)} left alone: {self.left_alone[0]}" if self.left_alone else ""
            return f"contained: nothing of the workload runs{others}{notes}. {self.reason}".strip()
        return f"not contained: {'; '.join(self.alive[:3]) or self.reason}{notes}"


@dataclass(frozen=True)
class ObjectReceipt:
    """One object and what the store itself says of it. `proven` only if the store's own digest agrees.

    `lost` is one that was never sent: for want of room it was hashed in the workload, and has changed or gone since.
    `read` is one whose bytes were read back and hashed: as was asked, or for want of a digest that could be compared.
    `exclusive` is False where it is not the store's own word that nothing was overwritten: it has no condition for it.
    """

    key: str
    sha256: str
    size: int
    proven: bool
    reason: str = ""
    lost: bool = False
    read: bool = False
    exclusive: bool = True


@dataclass(frozen=True, repr=False)
class Receipts(StepResult):
    """Receipts of many objects: of an offload, a verification or a promotion."""

    objects: tuple[ObjectReceipt, ...]
    reason: str = ""

    @property
    def is_complete(self) -> bool:
        """True if the store vouches for every object."""
        return not unproven(self.objects)

    @property
    def summary(self) -> str:
        """In a few words."""
        size = sum(receipt.size for receipt in self.objects if receipt.proven)
        bad, gone = unproven(self.objects), lost(self.objects)
        words = f"{len(self.objects) - len(bad) - len(gone)} objects, {size} bytes"
        if bad:
            words += f"; {len(bad)} not: {bad[0].key}: {bad[0].reason}"
        if gone:
            words += f"; {len(gone)} lost: {gone[0].key}: {gone[0].reason}"
        return f"{words}; {self.reason}" if self.reason else words


@dataclass(frozen=True, repr=False)
class Recovery(StepResult):
    """The API is back: the process we started, the model that it answers with, what it said when it was asked.

    `unproven` names what could not be proven of it, empty if all was; the API stays up all the same.
    """

    at: datetime
    process: Identity
    model: str
    sha256: str
    health: str = ""
    prediction: str = ""
    unproven: tuple[str, ...] = ()
    container: str = ""
    url: str = ""

    @property
    def is_complete(self) -> bool:
        """True if everything of it was proven."""
        return not self.unproven

    @property
    def summary(self) -> str:
        """In a few words."""
        what = f"container {self.container}" if self.container else f"pid {self.process.pid}"
        words = f"the API {f'at {self.url} ' if self.url else ''}answers ({what}) with {self.model}"
        words += f", sha256 {self.sha256[:12]} as in the manifest" if self.sha256 else ""
        words += f", and predicts {self.prediction}" if self.prediction else ""
        return f"{words}; not proven: {'; '.join(self.unproven)}" if self.unproven else words


def unproven(receipts: Iterable[ObjectReceipt]) -> list[ObjectReceipt]:
    """Objects that the store did not vouch for although they are there to be sent."""
    return [receipt for receipt in receipts if not (receipt.proven or receipt.lost)]


def lost(receipts: Iterable[ObjectReceipt]) -> list[ObjectReceipt]:
    """Objects that nobody has any more as they were sealed."""
    return [receipt for receipt in receipts if receipt.lost]


def lost_once(receipts: Iterable[ObjectReceipt]) -> list[ObjectReceipt]:
    """The same without their copies in snapshots, which were lost with them."""
    return [receipt for receipt in lost(receipts) if not receipt.key.startswith(SNAPSHOTS)]
