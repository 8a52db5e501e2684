"""What counts as looked at: what was frozen before an attempt that took all, whichever run made it."""

from typing import Any

import pytest

from tasks.evidence.lost_look import frozen_in, looked_at


def frozen(pid: int) -> dict[str, Any]:
    return {"action": "frozen", "object": str(pid)}


def look(action: str = "step done", collector: str = "tree") -> dict[str, Any]:
    return {"action": action, "object": f"§4 collect {collector}", "step_id": "collect", "of": collector}


PAUSED = {"action": "container paused", "object": "c1"}


@pytest.mark.parametrize(
    ("entries", "seen"),
    [
        ([], set()),
        ([frozen(1)], set()),
        ([look(), frozen(1)], set()),
        ([frozen(1), look(), frozen(2)], {"1"}),
        ([frozen(1), look(), frozen(2), look()], {"1", "2"}),
        ([frozen(1), PAUSED, look()], {"1", "c1"}),
        ([frozen(1), look("step incomplete")], set()),
        ([frozen(1), look("step failed")], set()),
        ([frozen(1), look(collector="stacks")], set()),
        ([frozen(1), look(), frozen(2), look("step incomplete")], {"1"}),
    ],
)
def test_what_a_complete_attempt_came_after_is_looked_at(entries: list[dict[str, Any]], seen: set[str]) -> None:
    assert looked_at(entries, "tree") == seen


def test_processes_and_containers_are_frozen() -> None:
    assert frozen_in([frozen(1), {"action": "stopped", "object": "2"}, PAUSED]) == {"1", "c1"}
