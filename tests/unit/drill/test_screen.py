"""What a drill prints: under a heading for each run, each of its steps once."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from unittest.mock import Mock
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State, TaskRun
from prefect.states import Completed, Pending, Running

from tasks.drill import screen
from tasks.drill.screen import follow, heading

END = datetime(2026, 1, 2, tzinfo=UTC)


class Server:
    """A run as a server hears of it, one look after the other; the last look stays."""

    def __init__(self, *looks: tuple[State[Any], Sequence[TaskRun]], ended: datetime = END) -> None:
        """Begin with the first look."""
        self._looks, self._last = iter(looks), looks[-1]
        self._ended, self._seen = ended, self._last[1]

    def read_flow_run(self, run_id: UUID) -> FlowRun:
        """The run as it is now."""
        state, self._seen = next(self._looks, self._last)
        return FlowRun(id=run_id, flow_id=uuid4(), state=state, end_time=self._ended if state.is_final() else None)

    def read_task_runs(self, **_: object) -> Sequence[TaskRun]:
        """Its steps as they are now."""
        return self._seen


def step(name: str, state: State[Any], of: TaskRun | None = None, seconds: int = 0) -> TaskRun:
    """A step; with `of` that one later."""
    return TaskRun(
        id=of.id if of else uuid4(),
        name=name,
        task_key=name,
        dynamic_key="0",
        state=state,
        state_name=state.name,
        end_time=END + timedelta(seconds=seconds) if state.is_final() else None,
    )


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "_POLL_SECONDS", 0)


def printed(server: Server) -> list[str]:
    lines: list[str] = []
    follow(Mock(wraps=server), uuid4(), 5, lines.append)
    return [line.split()[0] for line in lines]


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_a_step_is_printed_once_in_whatever_order_the_server_hears_of_it(order: Sequence[int]) -> None:
    begun = [step(f"s{number}", Running()) for number in range(3)]
    done = [step(each.name, Completed(), each, seconds=number) for number, each in enumerate(begun)]
    now, looks = list(begun), list[tuple[State[Any], list[TaskRun]]]()
    for number in order:
        now[number] = done[number]
        looks.append((Running(), list(now)))
    assert sorted(printed(Server(*looks, (Completed(), done), (Completed(), done)))) == ["s0", "s1", "s2"]


def test_a_step_that_never_ended_is_printed_too_once_nothing_more_is_heard() -> None:
    steps = [step("done", Completed()), step("never", Pending())]
    assert printed(Server((Completed(), steps))) == ["done", "never"]


def test_the_heading_names_the_columns_of_the_lines() -> None:
    title, rule = heading().splitlines()
    (line,) = (screen.line(step("§1 cordon", Completed(message="held"))),)
    assert line.index("Completed") == title.index("state")
    assert line.index("held") == title.index("result")
    assert rule.strip("- ") == ""
