"""What is tried again, and what is not."""

import errno
import importlib
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest
from prefect.client.schemas.objects import State
from prefect.states import Failed

import flows
import tasks
from tasks.custody.containment.pause import UNKNOWN, Launcher, LauncherKind, LauncherState, Pause
from tasks.custody.containment.receipt import Stop
from tasks.custody.errors import (
    Conflict,
    Denied,
    EngineError,
    EngineUnreachable,
    PermanentStoreError,
    Refused,
    Tampered,
    TransientStoreError,
)
from tasks.custody.store.latest import Promotion
from tasks.recovery.api_client import NotRecovered
from tasks.runtime.retry import may_pass
from tasks.runtime.step import Step, StepRunner
from tasks.system.cancellation import RunCancelled
from tests.support.report_factory import NOW
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload

SAID = ("one thing", "another", "Nothing follows.", "Do this.")
QUEUE = Launcher(LauncherKind.QUEUE, "pool/queue")
PASSES: list[object] = [
    TransientStoreError(*SAID),
    EngineUnreachable(*SAID),
    OSError(errno.EAGAIN, "for a moment"),
    ProcessLookupError(errno.ESRCH, "gone"),
    TimeoutError("no answer"),
    KeyError(7),
    Promotion(again=True),
    Pause((LauncherState(QUEUE, None, "no answer"),)),
]
LASTS: list[object] = [
    PermanentStoreError(*SAID),
    Denied(*SAID),
    Conflict(*SAID),
    Tampered(*SAID),
    EngineError(*SAID),
    Refused("one thing", "another", "Do this."),
    NotRecovered(*SAID),
    PermissionError(errno.EACCES, "no"),
    OSError(errno.ENOSPC, "full"),
    OSError(errno.EROFS, "read only"),
    Promotion(),
    {"of": "no step"},
    Stop(NOW, ()),
    Pause((LauncherState(QUEUE, None, UNKNOWN),)),
    Pause((LauncherState(QUEUE, paused=False),)),
]


@pytest.fixture(scope="module")
def steps() -> dict[str, Step[Any, Any]]:
    """Every step by its id."""
    roots = [Path(folder) for package in (tasks, flows) for folder in package.__path__]
    files = [path.relative_to(root.parent) for root in roots for path in root.rglob("*.py") if _has_steps(path)]
    modules = [importlib.import_module(".".join(path.with_suffix("").parts)) for path in files]
    return {each.step_id: each for module in modules for each in vars(module).values() if isinstance(each, Step)}


def _has_steps(path: Path) -> bool:
    return "\n@step" in path.read_text()


@pytest.mark.parametrize("made", PASSES, ids=repr)
def test_what_may_pass(made: object) -> None:
    assert may_pass(made)


@pytest.mark.parametrize("made", LASTS, ids=repr)
def test_what_lasts(made: object) -> None:
    assert not may_pass(made)


def test_every_step_is_tried_again_after_a_delay_but_three_that_say_why(steps: dict[str, Step[Any, Any]]) -> None:
    assert {name for name, each in steps.items() if not each.retries} == {"challenge", "open_incident", "show_record"}
    for each in steps.values():
        assert each.retry_delay_seconds or not each.retries
        assert each.retries or "Not retried: " in (each.fn.__doc__ or ""), each.step_id


def test_no_step_is_tried_again_in_a_cancelled_run(steps: dict[str, Step[Any, Any]], small: SmallWorkload) -> None:
    """Those, too, that a cancelled run still does."""
    passes: State[Any] = Failed(data=OSError("for a moment"))
    cancelled: State[Any] = Failed(data=RunCancelled("not begun"))

    def tried_again(state: State[Any]) -> set[str]:
        conditions: dict[str, Any] = {name: each.retry_condition_fn for name, each in steps.items()}
        return {name for name, condition in conditions.items() if condition(None, None, state)}

    with case_of(small.block()) as context, StepRunner(context):
        assert tried_again(passes) == steps.keys()
        assert tried_again(cancelled) == set()
        context.cancelled.order(SIGTERM)
        assert tried_again(passes) == set()
