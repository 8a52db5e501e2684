"""The graph of a run without a server and without threads: each step runs where it is submitted."""

import hashlib
import inspect
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.serializers import JSONSerializer
from prefect.states import Completed, Failed, Pending

from tasks.custody.evidence.acquisition import Evidence
from tasks.record.write import Record
from tasks.runtime.step import StepRunner, result_or_reason

ACQUIRED = set[str]()
"""What the collectors of this process's run have brought, by the names in the evidence."""


_result = State.result


def result_of(state: State[Any], raise_on_failure: bool = True, **about: Any) -> Any:  # noqa: FBT001, FBT002
    """Return a state's result at once if it has one, as Prefect does on another thread."""
    done = state.is_completed() or (not raise_on_failure and state.is_failed())
    return state.data if done else _result(state, raise_on_failure=raise_on_failure, **about)


class PaperFuture(PrefectFuture[Any]):
    """Of a step that has ended."""

    def __init__(self, state: State[Any]) -> None:
        self.end = state

    @property
    def state(self) -> State[Any]:
        return self.end

    def wait(self, timeout: float | None = None) -> None:
        """It has."""

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> Any:  # noqa: ARG002, FBT001, FBT002
        """What it returned."""
        return self.end.result(raise_on_failure=raise_on_failure)

    def add_done_callback(self, fn: Callable[[PrefectFuture[Any]], object]) -> None:
        fn(self)


class PaperRunner(StepRunner):
    """Runs the steps in the order of the flow, with hard edges, retries and cached results as Prefect has them.

    A soft edge leads to what has ended, as all has that was submitted before.
    """

    def __enter__(self) -> Self:
        if enter := getattr(StepRunner, "__enter__", None):
            enter(self)
        return self

    def __exit__(self, *error: object) -> None:
        if leave := getattr(StepRunner, "__exit__", None):
            leave(self, *error)

    def submit(self, body: Any, *args: Any, after: Iterable[Any] = ()) -> Any:
        return self.start(body, args, {}, after)

    def start(self, body: Any, args: Iterable[Any], kwargs: Mapping[str, Any], wait_for: Iterable[Any]) -> Any:
        del wait_for
        bound = inspect.signature(body.fn).bind(self.context, *args, **kwargs)
        bound.apply_defaults()
        future = PaperFuture(self._end_of(body, bound.arguments))
        self.submitted.append((body.step_id, str(body.task_run_name).format(**bound.arguments), future))
        return future

    def _end_of(self, body: Any, given: Mapping[str, Any]) -> State[Any]:
        plain = dict[str, Any]()
        for name, value in given.items():
            several = value if isinstance(value, list) else [value]
            edges = [each for each in several if isinstance(each, PaperFuture)]
            if any(not each.end.is_completed() for each in edges):
                return Pending(name="NotReady", message=f"Upstream task run of {name} did not reach 'COMPLETED'.")
            made = [each.end.data if isinstance(each, PaperFuture) else each for each in several]
            plain[name] = made if isinstance(value, list) else made[0]
        key = body.cache_policy.cache_key_fn(None, plain) if body.persist_result else ""
        path = self.context.directory.results / hashlib.sha256(key.encode()).hexdigest()
        if key and path.exists():
            return Completed(name="Cached", data=JSONSerializer().loads(path.read_bytes()))
        state = _tried(body, plain)
        if body.step_id == "collect" and isinstance(state.data, Evidence):
            ACQUIRED.update(file.stored for file in state.data.files)
        if key and state.is_completed():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(JSONSerializer().dumps(state.data))
        return state


def _tried(body: Any, plain: Mapping[str, Any]) -> State[Any]:
    for left in range(body.retries, -1, -1):
        try:
            state: State[Any] = body.fn(*plain.values())
        except Exception as error:  # noqa: BLE001  as Prefect does
            state = Failed(message=f"{type(error).__name__}: {error}", data=error)
        ask = body.retry_condition_fn
        if state.is_completed() or not left or (ask and not ask(body, None, state)):
            break
        time.sleep(body.retry_delay_seconds or 0)
    return state


def published(recorded: Any) -> Any:
    """Show nothing."""
    return result_or_reason(Record, recorded) if isinstance(recorded, PaperFuture) else None
