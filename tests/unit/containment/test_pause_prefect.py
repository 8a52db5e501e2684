"""What the cordon pauses on Prefect's side and lets go again, and what stays on disk between the two."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import pytest

from tasks.containment.pause_prefect import pause_named
from tasks.containment.paused import read_prior, resume
from tasks.custody.containment.pause import Kind, Launcher, LauncherState
from tasks.incident.layout import PRIOR
from tasks.runtime.context import RunContext
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload

if TYPE_CHECKING:
    from tasks.adapters.prefect_scheduler import Scheduler

NIGHTLY, STOPPED = Launcher(Kind.POOL, "nightly"), Launcher(Kind.POOL, "stopped")
POOLS = [NIGHTLY.name, STOPPED.name]


class PaperScheduler:
    """A server that knows which pools are paused. `deaf` are those that it does not pause or resume."""

    def __init__(self, **paused: bool) -> None:
        """Know these pools."""
        self.paused = {Launcher(Kind.POOL, name): state for name, state in paused.items()}
        self.deaf: set[Launcher] = set()

    def list_states(self, launchers: Iterable[Launcher], seconds: float) -> tuple[LauncherState, ...]:
        """As they are."""
        assert seconds > 0
        return tuple(LauncherState(each, self.paused[each]) for each in launchers)

    def set_paused(self, launchers: Iterable[Launcher], seconds: float, *, paused: bool) -> tuple[LauncherState, ...]:
        """All but the deaf."""
        asked = list(launchers)
        self.paused |= {each: paused for each in asked if each not in self.deaf}
        return self.list_states(asked, seconds)


def server_of(run: RunContext) -> PaperScheduler:
    scheduler = PaperScheduler(nightly=False, stopped=True)
    run.adapters.scheduler = cast("Scheduler", scheduler)
    return scheduler


def test_what_ran_is_paused_and_resumed_and_what_stood_before_stays(small: SmallWorkload) -> None:
    with case_of(small.block(pause_pools=POOLS)) as run:
        server = server_of(run)
        made = pause_named(run)
        assert (made.is_complete, made.before) == (True, (STOPPED,))
        assert server.paused == {NIGHTLY: True, STOPPED: True}
        assert read_prior(run.cordon_files.marker) == {NIGHTLY: False, STOPPED: True}
        assert pause_named(run) == made
        assert read_prior(run.cordon_files.marker) == {NIGHTLY: False, STOPPED: True}
        released = resume(run.adapters.scheduler, run.cordon_files.marker)
        assert (released.is_complete, released.kept) == (True, (STOPPED,))
        assert server.paused == {NIGHTLY: False, STOPPED: True}
        assert not run.cordon_files.marker.with_name(PRIOR).exists()
        assert resume(run.adapters.scheduler, run.cordon_files.marker).states == ()


def test_what_could_not_be_paused_or_resumed_is_told_and_stays_written_down(small: SmallWorkload) -> None:
    with case_of(small.block(pause_pools=POOLS)) as run:
        server = server_of(run)
        server.deaf = {NIGHTLY}
        assert pause_named(run).open == ("work pool nightly is not paused: the server says so",)
        server.paused[NIGHTLY] = True
        assert not resume(run.adapters.scheduler, run.cordon_files.marker).is_complete
        assert read_prior(run.cordon_files.marker) == {NIGHTLY: False}


def test_a_disk_that_takes_no_list_is_told_and_pauses_all_the_same(
    small: SmallWorkload, caplog: pytest.LogCaptureFixture
) -> None:
    with case_of(small.block(pause_pools=POOLS)) as run:
        server = server_of(run)
        run.cordon_files.marker.with_name(PRIOR).mkdir()
        assert pause_named(run).is_complete
        assert server.paused[NIGHTLY]
    assert "could not be kept on disk" in caplog.text
