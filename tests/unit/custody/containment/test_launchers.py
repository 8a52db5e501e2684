"""What of Prefect's starts training: what of it is paused, released, and what is told of that."""

import pytest

from tasks.custody.containment.pause import UNKNOWN, Launcher, LauncherKind, LauncherState, Pause, Resume, launchers
from tasks.custody.containment.pause import with_first_seen as first_seen

NIGHTLY, QUEUE, POOL = (
    Launcher(LauncherKind.DEPLOYMENT, "f/n"),
    Launcher(LauncherKind.QUEUE, "p/q"),
    Launcher(LauncherKind.POOL, "p"),
)


def test_each_is_named_once_with_its_kind() -> None:
    assert launchers(["f/n", "f/n"], ["p/q"], ["p"]) == (NIGHTLY, QUEUE, POOL)
    assert [str(each) for each in (NIGHTLY, QUEUE, POOL)] == ["deployment f/n", "work queue p/q", "work pool p"]


def test_what_was_written_down_first_counts_and_what_could_not_be_asked_does_not() -> None:
    seen = (LauncherState(NIGHTLY, True), LauncherState(QUEUE, False), LauncherState(POOL, None, "no answer"))
    assert first_seen({}, seen) == {NIGHTLY: True, QUEUE: False}
    assert first_seen({NIGHTLY: False, POOL: True}, seen) == {NIGHTLY: False, QUEUE: False, POOL: True}


@pytest.mark.parametrize(
    ("pause", "complete", "told"),
    [
        (Pause(()), True, "the workload names nothing of Prefect's to pause"),
        (Pause((), reason="not on this server"), True, "not on this server"),
        (Pause((LauncherState(NIGHTLY, True), LauncherState(POOL, True))), True, "paused: deployment f/n, work pool p"),
        (Pause((LauncherState(POOL, True),), (POOL,)), True, "paused: work pool p (1 of them before us)"),
        (
            Pause((LauncherState(POOL, True), LauncherState(QUEUE, None, "no answer"))),
            False,
            "paused: work pool p; work queue p/q is not paused: no answer",
        ),
        (Pause((LauncherState(QUEUE, False),)), False, "work queue p/q is not paused: the server says so"),
    ],
)
def test_a_pause_tells_what_may_still_start_training(pause: Pause, *, complete: bool, told: str) -> None:
    assert (pause.is_complete, pause.summary) == (complete, told)


@pytest.mark.parametrize(
    ("resume", "complete", "told"),
    [
        (Resume(()), True, "nothing of Prefect's was paused by us"),
        (Resume((LauncherState(POOL, False),)), True, "resumed: work pool p"),
        (Resume((LauncherState(POOL, None, UNKNOWN),)), True, "nothing of Prefect's was paused by us"),
        (
            Resume((LauncherState(POOL, False),), (QUEUE, NIGHTLY)),
            True,
            "resumed: work pool p; paused before us, so left: work queue p/q, deployment f/n",
        ),
        (Resume((LauncherState(POOL, True),)), False, "work pool p is still paused: the server says so"),
        (Resume((LauncherState(POOL, None, "no answer"),)), False, "work pool p is still paused: no answer"),
    ],
)
def test_a_release_tells_what_is_still_paused(resume: Resume, *, complete: bool, told: str) -> None:
    assert (resume.is_complete, resume.summary) == (complete, told)
