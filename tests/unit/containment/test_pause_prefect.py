"""What the cordon pauses on Prefect's side and lets go again, and what stays on disk between the two."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from tasks.containment.pause_prefect import pause_named
from tasks.containment.release.resume_prefect import read_prior, resume
from tasks.custody.containment.pause import Launcher, LauncherKind, LauncherState
from tasks.incident.layout import PRIOR
from tasks.runtime.context import RunContext
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload

if TYPE_CHECKING:
    from tasks.prefect_side.scheduler import Scheduler

NIGHTLY, STOPPED = Launcher(LauncherKind.POOL, "nightly"), Launcher(LauncherKind.POOL, "stopped")
POOLS = [NIGHTLY.name, STOPPED.name]


class PaperScheduler:
    """A server that knows which pools are paused. `deaf` are those that it does not pause or resume."""

    def __init__(self, **paused: bool) -> None:
        """Know these pools."""
        self.paused = {Launcher(LauncherKind.POOL, name): state for name, state in paused.items()}
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


@pytest.mark.parametrize("way", ["of another user", "writable for others", "a link"])
def test_a_list_that_another_account_may_have_written_resumes_nothing_and_is_told(
    small: SmallWorkload, tmp_path: Path, way: str
) -> None:
    """Root resumed what the workload's account had put into it."""
    with case_of(small.block()) as run:
        server, path = server_of(run), run.cordon_files.marker.with_name(PRIOR)
        text = json.dumps([{"kind": STOPPED.kind, "name": STOPPED.name, "paused_before": False}])
        (tmp_path / "list").write_text(text)
        if way == "a link":
            path.symlink_to(tmp_path / "list")
        else:
            path.write_text(text)
            path.chmod(0o666 if way == "writable for others" else 0o600)
        if way == "of another user":
            if os.geteuid():
                pytest.skip("needs root to give a file away")
            os.chown(path, 12345, 12345)
        released = resume(run.adapters.scheduler, run.cordon_files.marker)
        assert not released.is_complete
        assert f"{path} is not followed" in released.summary
        assert server.paused[STOPPED]
        assert read_prior(run.cordon_files.marker) == {}
        assert path.exists()


def test_a_list_is_ours_alone_whatever_the_umask(small: SmallWorkload) -> None:
    before = os.umask(0)
    try:
        with case_of(small.block(pause_pools=POOLS)) as run:
            server_of(run)
            pause_named(run)
            assert resume(run.adapters.scheduler, run.cordon_files.marker).kept == (STOPPED,)
    finally:
        os.umask(before)


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
