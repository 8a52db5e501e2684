"""Define the results of freeze, stop, watch, containment check and recovery (runbook §2, §3, §7)."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from tasks.custody.containment.gpu import GpuUse
from tasks.custody.containment.identity import ContainerIdentity, Identity, Way
from tasks.custody.step_result import StepResult
from tasks.custody.visible import visible

_SHORT: Final = 12


class End(StrEnum):
    """How a process or container ended."""

    STOPPED = "stopped"
    KILLED = "killed"
    GONE = "ended by itself"
    REBOOT = "ended by a reboot"
    HELD = "left frozen"
    SURVIVED = "survived"


@dataclass(frozen=True)
class FrozenContainer:
    """A container of the workload, as the freeze found it.

    `paused_at` is None if it was not paused: `denied` is the reason, empty if it had ended. `stood` says that it was
    already paused.
    """

    identity: ContainerIdentity
    name: str
    image: str
    restart: str
    auto_remove: bool
    why: str
    seen_at: datetime
    paused_at: datetime | None
    denied: str = ""
    stood: bool = False

    @property
    def summary(self) -> str:
        """Name, short id and image, to find it in `docker ps`."""
        return f"container {self.name} ({self.identity.id[:_SHORT]}, {self.image})"


@dataclass(frozen=True)
class StoppedContainer:
    """Receipt of one stopped container: the signals sent, with times, and how it ended.

    `removed` says that the engine removed it at its end (`docker run --rm`); other containers stay, stopped, for
    inspection.
    """

    identity: ContainerIdentity
    name: str
    image: str
    signals: tuple[tuple[str, datetime], ...]
    end: End
    exit_code: int | None
    gone_at: datetime | None
    removed: bool
    reason: str = ""

    @property
    def summary(self) -> str:
        """Name and image, and whether it was removed."""
        return f"{self.name} ({self.image}){', removed with its end' if self.removed else ''}"


@dataclass(frozen=True)
class Source:
    """What started a process: a process that still lives, or a systemd unit (then `identity` is None)."""

    name: str
    identity: Identity | None = None

    def __str__(self) -> str:
        """Return a text by which a person can find it."""
        if self == BETWEEN:
            return self.name
        return f"process {self.identity.pid} ({self.name})" if self.identity else visible(f"systemd unit {self.name}")


BETWEEN: Final = Source("generations that are not listed")
"""Placeholder in a long lineage, for all but the nearest and outermost sixteen."""


@dataclass(frozen=True)
class Frozen:
    """A process of the workload, as the freeze found it.

    `frozen_at` is None if SIGSTOP failed: `denied` is the reason, empty if the process had ended. `why` says what it
    was recognised by, `lineage` what started it, nearest first, and `run` for which Prefect flow run. `way` says what
    froze it besides the signal. `stood` says that it was already stopped, and not by us. `since` is when its memory may
    have begun to be filled, in clock ticks since boot: of one that was forked that is its parent's, or the boot if that
    has ended. `group` is the control group of one that nobody who lives is seen to have started: who has may be there.
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
    since: int = 0
    group: str = ""


@dataclass(frozen=True, repr=False)
class Freeze(StepResult):
    """Everything of the workload that this incident has frozen, including earlier runs.

    `settled` is False if new processes appeared as fast as they were frozen, until the time limit. `engine` says why
    the container engine could not be asked. `waiting` names processes still in uninterruptible sleep (state D) after
    two seconds: they stop before doing anything else, at an unknown time. `gpu` is None without nvidia-smi, here and
    below.
    """

    at: datetime
    processes: tuple[Frozen, ...]
    settled: bool
    containers: tuple[FrozenContainer, ...] = ()
    engine: str = ""
    waiting: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    gpu: GpuUse | None = None

    @property
    def is_complete(self) -> bool:
        """Whether nothing was denied and the last pass found no new process."""
        return self.settled and not self.engine and not self._denials

    @property
    def _denials(self) -> list[str]:
        processes = [f"{process.identity.pid}: {process.denied}" for process in self.processes if process.denied]
        return processes + [f"{each.summary}: {each.denied}" for each in self.containers if each.denied]

    @property
    def summary(self) -> str:
        """Counts of frozen processes and containers, and what was not frozen."""
        if not self.settled:
            return f"{len(self.processes)} processes frozen, and new ones still come"
        words = [f"{sum(1 for each in self.processes if each.frozen_at)} processes frozen"] if self.processes else []
        if self.containers:
            words.append(f"{sum(1 for each in self.containers if each.paused_at)} containers paused")
        if self._denials:
            words.append(f"not frozen: {', '.join(self._denials)}")
        if self.engine:
            words.append(f"containers unknown: {self.engine}")
        if self.waiting:
            words.append(f"in state D, not frozen yet (割り込み不可の待ち状態): {', '.join(self.waiting)}")
        if self.gpu and self.gpu.held:
            words.append("what was submitted to the GPU may still finish (GPU に投入済みの処理は続くことがあります)")
        return "; ".join(words) or "nothing of the workload runs"


@dataclass(frozen=True)
class Stopped:
    """Receipt of one process: the signals sent, with times, how it ended, and what held it until then."""

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
    """Receipts of one stop; empty if there was nothing to stop."""

    at: datetime
    processes: tuple[Stopped, ...]
    containers: tuple[StoppedContainer, ...] = ()
    warnings: tuple[str, ...] = ()
    gpu: GpuUse | None = None

    @property
    def is_complete(self) -> bool:
        """Whether none survived, and none holds a GPU."""
        ends = [*(each.end for each in self.processes), *(each.end for each in self.containers)]
        return End.SURVIVED not in ends and not (self.gpu and self.gpu.held)

    @property
    def summary(self) -> str:
        """Counts by how processes and containers ended."""
        words = [_count_ends(each.end for each in self.processes)] if self.processes else []
        if self.containers:
            words.append(f"containers: {_count_ends(each.end for each in self.containers)}")
        words += self.gpu.held if self.gpu else ()
        return "; ".join(words) or "nothing to stop"


def _count_ends(ends: Iterable[End]) -> str:
    counts = Counter(ends)
    return ", ".join(f"{counts[end]} {end}" for end in End if counts[end])


@dataclass(frozen=True)
class Returned:
    """A process of the workload that was started after the stop; `source` says what started it, if known."""

    identity: Identity
    role: str
    command: str
    source: str
    end: End


@dataclass(frozen=True, repr=False)
class Watch(StepResult):
    """Whether the workload came back after the stop: what came, what started it, and which of that was stopped.

    `standing` are supervisors that still run, `stopped` those stopped because the workload block allows it.
    `containers` are those started again, and how each was ended. `again` says what the guard has found to start it
    again and again, and how a person ends that.
    """

    at: datetime
    returned: tuple[Returned, ...]
    standing: tuple[str, ...]
    stopped: tuple[str, ...]
    containers: tuple[StoppedContainer, ...] = ()
    gpu: GpuUse | None = None
    again: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether nothing starts it any more."""
        ends = {*(each.end for each in self.returned), *(each.end for each in self.containers)}
        return not self.standing and not ends & {End.HELD, End.SURVIVED}

    @property
    def summary(self) -> str:
        """What came back, and by which supervisor."""
        came = len(self.returned) + len(self.containers)
        words = [f"{came or 'nothing'} came back", *(self.gpu.held if self.gpu else ()), *self.again]
        words += [f"brought by {name}, which still stands" for name in self.standing]
        words += [f"brought by {name}, which was stopped" for name in self.stopped]
        return "; ".join(words)


@dataclass(frozen=True)
class Unknown:
    """A process that nothing proves harmless, and that is not known to be the workload's. A person answers it.

    It is in the root, or not proven outside; or it has started what was stopped, and may do so again.

    `why` says what is known of it, `line` is the line of the block that names it as a bystander.
    """

    identity: Identity
    command: str
    why: str
    line: str

    @property
    def summary(self) -> str:
        """What it is, and why it is not known."""
        return f"{self.identity.pid} is not known: {self.command}: {self.why}"


KNOWN_STOPPED: Final = "everything that is known of the workload is stopped"


def describe_stopped(unknown: Sequence[Unknown]) -> str:
    """Return what may be claimed of a workload while these processes live."""
    count = len(unknown)
    return f"{KNOWN_STOPPED}; {count} {'processes' if count > 1 else 'process'} not known to be harmless"


@dataclass(frozen=True, repr=False)
class Containment(StepResult):
    """The check after the stop: what of the workload is alive, and whether the lock refuses new training.

    `left_alone` are processes with a matching command line outside the workload's root. `recovered` says that this
    incident has brought the API back, which is no contradiction. `notes` say how the block would name each suspect,
    which processes are excused, and which may not be inspected. `unknown` are processes that a person has to answer,
    `suspects` those that a fact ties to the workload, and that a person may answer.
    """

    at: datetime
    alive: tuple[str, ...]
    cordoned: bool
    reason: str = ""
    left_alone: tuple[str, ...] = ()
    recovered: bool = False
    notes: tuple[str, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    suspects: tuple[Unknown, ...] = ()

    @property
    def is_contained(self) -> bool:
        """Whether nothing that is known of the workload runs, and the lock refuses new training."""
        return not self.alive and self.cordoned

    @property
    def is_complete(self) -> bool:
        """Whether the workload is contained, and no process is left for a person to answer."""
        return self.is_contained and not self.unknown

    @property
    def summary(self) -> str:
        """Whether the workload is contained, and what contradicts it."""
        if self.is_contained and self.recovered:
            return "recovered: what this incident brought back is at work, and training is let in"
        notes = "".join(f"; {note}" for note in self.notes[:3])
        if self.is_contained and self.unknown:
            named = "; ".join(each.summary for each in self.unknown[:3])
            return f"{describe_stopped(self.unknown)}: {named}{notes}. {self.reason}".strip()
        if self.is_contained:
            others = f"; {len(self.left_alone)} left alone: {self.left_alone[0]}" if self.left_alone else ""
            return f"contained: nothing of the workload runs{others}{notes}. {self.reason}".strip()
        return f"not contained: {'; '.join(self.alive[:3]) or self.reason}{notes}"


PUT_BACK: Final = "凍結時のモデル: --model "
BOOT: Final = 1
"""The time of the boot, in clock ticks since it."""
NOT_AS_BEFORE: Final = "that it serves what it served at the freeze"
"""How the reason begins why a recovery is not complete whose model nobody has named."""


@dataclass(frozen=True, repr=False)
class Recovery(StepResult):
    """The recovered API: the process that we started, the model it serves, and its answers.

    `unproven` names what could not be proven; the API stays up nevertheless. `before` is the model that was served at
    the freeze and how that is known. `changed` are other models there that are not as sealed, which the API does not
    serve as far as that is proven. `brought` are processes that its own start has started besides, as a container's
    entry may start a training. Each is empty if there is nothing to name.
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
    before: str = ""
    changed: tuple[str, ...] = ()
    brought: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether everything was proven."""
        return not self.unproven

    @property
    def model_to_name(self) -> str:
        """The model that the API serves, if all that lacks is a person's word that it is the right one; else empty.

        Where that was changed since, the one of the freeze, by its snapshot.
        """
        alone = len(self.unproven) == 1 and self.unproven[0].startswith(NOT_AS_BEFORE)
        back = self.unproven[0].partition(PUT_BACK)[2].removesuffix(")") if alone else ""
        return back or (self.model if alone and " or " not in self.model else "")

    @property
    def summary(self) -> str:
        """Process, model and prediction, and what is not proven."""
        what = f"container {self.container}" if self.container else f"pid {self.process.pid}"
        words = f"the API {f'at {self.url} ' if self.url else ''}answers ({what}) with {self.model}"
        words += f", sha256 {self.sha256[:12]} as in the manifest" if self.sha256 else ""
        words += f"; at the freeze: {self.before or 'not known'}"
        words += f", and predicts {self.prediction}" if self.prediction else ""
        brought = f"{'; '.join(self.brought[:3])}{f' (+{len(self.brought) - 3})' * bool(self.brought[3:])}"
        words += f"; its own start has started besides API 以外も起動: {brought}" if brought else ""
        words += f"; beside it, not as sealed 証跡と異なる: {', '.join(self.changed[:3])}" if self.changed else ""
        return f"{words}; not proven: {'; '.join(self.unproven)}" if self.unproven else words
