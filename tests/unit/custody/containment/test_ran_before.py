"""What a thaw lets go: what one of us saw running; what stood whenever it was met is somebody else's."""

from datetime import UTC, datetime

import pytest

from tasks.custody.containment.pause import Launcher, LauncherKind, LauncherState, Resume
from tasks.custody.containment.thaw import Thawed, ran_before

NOW = datetime(2026, 1, 2, tzinfo=UTC)
RESUMED = Resume(())
STILL = Resume((LauncherState(Launcher(LauncherKind.POOL, "p"), None, "no answer"),))

RAN, STOOD = False, True


@pytest.mark.parametrize(
    ("seen", "ran", "stood"),
    [
        ([], "", ""),
        ([("frozen", RAN)], "frozen", ""),
        ([("a person's", STOOD)], "", "a person's"),
        ([("the guard was first", STOOD), ("the guard was first", RAN)], "the guard was first", ""),
        ([("a start was first", RAN), ("a start was first", STOOD)], "a start was first", ""),
        ([("met twice", STOOD), ("met twice", STOOD)], "", "met twice"),
    ],
)
def test_one_who_saw_it_run_is_enough(seen: list[tuple[str, bool]], ran: str, stood: str) -> None:
    assert ran_before(seen) == (frozenset(filter(None, [ran])), frozenset(filter(None, [stood])))


@pytest.mark.parametrize(
    ("made", "complete", "told"),
    [
        (
            Thawed(NOW, ("process 1", "process 2"), (), (), (), RESUMED),
            True,
            "2 let go, the lock is given back; nothing of",
        ),
        (Thawed(NOW, (), ("process 3",), (), (), RESUMED), True, "; stopped before us, so left: process 3; "),
        (Thawed(NOW, (), (), ("process 4",), (), RESUMED), True, "; ended while frozen: process 4; "),
        (Thawed(NOW, (), (), (), ("process 5 stays frozen: denied",), RESUMED), False, "; process 5 stays frozen"),
        (Thawed(NOW, (), (), (), (), STILL), False, "work pool p is still paused: no answer"),
    ],
)
def test_the_receipt_tells_what_was_not_let_go(made: Thawed, *, complete: bool, told: str) -> None:
    assert made.is_complete is complete
    assert told in made.summary
