"""Print what a drill does: a table for each run, whose rows come as the steps end, and one last line for scripts."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.client.schemas.sorting import TaskRunSort

from tasks.system.polling import poll_until

_POLL_SECONDS: Final = 0.3
_LATE_SECONDS: Final = 5.0
_WIDTH: Final = 110
_NAME: Final = 42


def say(text: str) -> None:
    """Print one line at once."""
    print(text, flush=True)


def follow(client: SyncPrefectClient, run_id: UUID, deadline: float, tell: Callable[[str], None]) -> FlowRun:
    """Pass each step to `tell` as it ends, until the run has ended, and then those that never did.

    Raises TimeoutError after `deadline` seconds.
    """
    reported: set[UUID] = set()

    def look() -> FlowRun | None:
        run = client.read_flow_run(run_id)
        every_step = steps(client, run_id)
        for step in every_step:
            if step.id not in reported and step.state is not None and step.state.is_final():
                reported.add(step.id)
                tell(line(step))
        # the server hears of a run's last steps later, and some never run
        long_ago = run.end_time is None or (datetime.now(UTC) - run.end_time).total_seconds() > _LATE_SECONDS
        if not (run.state and run.state.is_final() and (len(reported) == len(every_step) or long_ago)):
            return None
        for step in every_step:
            if step.id not in reported:
                tell(line(step))
        return run

    if ended := poll_until(look, deadline, _POLL_SECONDS):
        return ended
    state = client.read_flow_run(run_id).state_name
    raise TimeoutError(f"flow run {run_id} has not ended after {deadline:g} s; it is {state}")


def steps(client: SyncPrefectClient, run_id: UUID) -> Sequence[TaskRun]:
    """Return the run's steps in the order in which they ended."""
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
    task_runs = client.read_task_runs(flow_run_filter=of_run, sort=TaskRunSort.END_TIME_DESC)
    return sorted(task_runs, key=lambda step: (step.end_time is None, step.end_time))


def heading() -> str:
    """Format the head of a run's table."""
    return f"  {'step':{_NAME}} {'state':9}  {'seconds':>7}  result\n  {'-' * _WIDTH}"


def line(step: TaskRun) -> str:
    """Format one step as a row: name, end, seconds, message."""
    words = (step.state.message if step.state else "") or ""
    end = f"{step.state_name or '':9}  {step.total_run_time.total_seconds():7.2f}  {words}"[:_WIDTH]
    return f"  {step.name:{_NAME}} {end}"


def last_line(word: str, facts: Mapping[str, Any]) -> str:
    """Format the verdict, then name=value; seconds with two decimals."""
    parts = [f"{name}={value:.2f}" if isinstance(value, float) else f"{name}={value}" for name, value in facts.items()]
    return " ".join([word, *parts])
