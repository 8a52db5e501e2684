"""Decide what the cordon pauses in Prefect; define the receipts of pause and release (runbook §1)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tasks.custody.step_result import StepResult

UNKNOWN: Final = "the Prefect server knows none of that name"


class LauncherKind(StrEnum):
    """What Prefect can pause."""

    DEPLOYMENT = "deployment"
    QUEUE = "work queue"
    POOL = "work pool"


@dataclass(frozen=True, order=True)
class Launcher:
    """A Prefect object that starts runs. The name is flow/deployment, pool/queue, or the pool's."""

    kind: LauncherKind
    name: str

    def __str__(self) -> str:
        """Return kind and name, for messages."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class LauncherState:
    """A launcher as the server shows it. `paused` is None if the server could not be asked; `reason` says why."""

    launcher: Launcher
    paused: bool | None
    reason: str = ""


@dataclass(frozen=True, repr=False)
class Pause(StepResult):
    """The launchers that the workload names, after the pause; `before` were already paused."""

    states: tuple[LauncherState, ...]
    before: tuple[Launcher, ...] = ()
    reason: str = ""

    @property
    def open(self) -> tuple[str, ...]:
        """Launchers that may still start training, with the reason."""
        running = (state for state in self.states if not state.paused)
        return tuple(f"{each.launcher} is not paused: {each.reason or 'the server says so'}" for each in running)

    @property
    def is_complete(self) -> bool:
        """Whether every launcher is paused."""
        return not self.open

    @property
    def is_transient(self) -> bool:
        """Whether the server could not be asked about a launcher."""
        return any(state.paused is None and state.reason != UNKNOWN for state in self.states)

    @property
    def summary(self) -> str:
        """The paused launchers and those still open."""
        if self.reason or not self.states:
            return self.reason or "the workload names nothing of Prefect's to pause"
        paused = ", ".join(str(state.launcher) for state in self.states if state.paused)
        kept = f" ({len(self.before)} of them before us)" if self.before else ""
        return "; ".join([f"paused: {paused}{kept}"] * bool(paused) + [*self.open])


@dataclass(frozen=True, repr=False)
class Resume(StepResult):
    """The launchers that we had paused, after the release; `kept` were paused before and stay paused.

    `doubt` says why the list of them was not followed.
    """

    states: tuple[LauncherState, ...]
    kept: tuple[Launcher, ...] = ()
    doubt: str = ""

    @property
    def still_paused(self) -> tuple[LauncherState, ...]:
        """Launchers not known to start runs again. One that no longer exists needs no release."""
        return tuple(state for state in self.states if state.paused is not False and state.reason != UNKNOWN)

    @property
    def is_complete(self) -> bool:
        """Whether everything that we had paused starts runs again."""
        return not self.still_paused and not self.doubt

    @property
    def summary(self) -> str:
        """The resumed launchers and those still paused."""
        resumed = ", ".join(str(state.launcher) for state in self.states if state.paused is False)
        kept = ", ".join(map(str, self.kept))
        words = [f"resumed: {resumed}"] * bool(resumed) + [f"paused before us, so left: {kept}"] * bool(kept)
        still = self.still_paused
        paused = [f"{each.launcher} is still paused: {each.reason or 'the server says so'}" for each in still]
        return self.doubt or "; ".join([*words, *paused]) or "nothing of Prefect's was paused by us"


def launchers(deployments: list[str], queues: list[str], pools: list[str]) -> tuple[Launcher, ...]:
    """Return the launchers that a workload block names, without duplicates."""
    named = {LauncherKind.DEPLOYMENT: deployments, LauncherKind.QUEUE: queues, LauncherKind.POOL: pools}
    return tuple(dict.fromkeys(Launcher(kind, name) for kind, names in named.items() for name in names))


def with_first_seen(prior: Mapping[Launcher, bool], seen: tuple[LauncherState, ...]) -> dict[Launcher, bool]:
    """Return whether each launcher was paused before us. The first record counts: later ones may see our own pause."""
    return {state.launcher: state.paused for state in seen if state.paused is not None} | dict(prior)
