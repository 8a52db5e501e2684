"""Define a step of the runbook as a Prefect task: with retries, a cache for each incident, and log entries."""

import hashlib
import inspect
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from prefect import Task, allow_failure
from prefect.cache_policies import NO_CACHE, CacheKeyFnPolicy
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed
from prefect.utilities.annotations import quote

from tasks.custody.incident.steps import StepId
from tasks.custody.step_result import StepResult
from tasks.custody.visible import LINE_LIMIT, visible
from tasks.runtime.context import RunContext
from tasks.runtime.own_results import keep_results
from tasks.system.cancellation import PATIENCE_SECONDS, RunCancelled, await_result

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
N = TypeVar("N", bound=StepResult)


class Step(Task[P, R]):
    """A step of the runbook: a task with an id that does not depend on its title."""

    def __init__(self, step_id: StepId, body: Callable[P, R], **options: Any) -> None:
        """Create the task. `options` are those of a Prefect task."""
        super().__init__(body, **options)
        self.step_id = step_id


def step(  # noqa: PLR0913  what a step is known by, and how it is tried again
    section: str,
    step_id: StepId,
    title: str,
    ja: str,
    *,
    key: Callable[..., str] | None = None,
    retries: int = 0,
    delay: float = 1.0,
    retry_if: Callable[[object], bool] | None = None,
    last: bool = False,
    patience: float = PATIENCE_SECONDS,
) -> Callable[[Callable[Concatenate[RunContext, P], N]], Step[Concatenate[RunContext, P], State[N]]]:
    """Make a task of a function.

    `section` is the runbook's. Code, custody log and cache know the step by `step_id`, which never changes. `title` is
    for people and may name arguments in braces, as in "collect {collector}". `ja` is its key term in Japanese, which
    the state's message begins with.
    `key` names what the step's result depends on, given its arguments: with it the result is cached for the
    incident; without it the step is a check or an idempotent act and is done again in every run.
    `retry_if` is asked with the error, or with what an incomplete step made.
    `last` marks a step that a cancelled run still does, and does to its end; all others have `patience` seconds then.
    """
    full = f"{section} {title}"
    plain_title = full.partition("{")[0]

    def decorate(body: Callable[Concatenate[RunContext, P], N]) -> Step[Concatenate[RunContext, P], State[N]]:
        @wraps(body)
        def run(context: RunContext, /, *args: P.args, **kwargs: P.kwargs) -> State[N]:
            plain = tuple(_walkable(argument) for argument in args)
            name = _title(full, body, (context, *plain), kwargs)
            about = {"step_id": step_id, **({"of": of} if (of := name.removeprefix(plain_title)) else {})}
            if context.cancelled and not last:
                raise RunCancelled("not begun: the run was cancelled")
            act = partial(body, context, *plain, **kwargs)
            return _told(context, name, about, ja, act if last else lambda: context.cancelled.bounded(act, patience))

        return Step(
            step_id,
            run,
            name=plain_title.rstrip(),
            task_run_name=full,
            cache_policy=CacheKeyFnPolicy(cache_key_fn=partial(_cache_key, step_id, key)) if key else NO_CACHE,
            persist_result=bool(key),
            result_serializer="json",
            retries=retries,
            retry_delay_seconds=delay,
            retry_condition_fn=partial(_may_retry, retry_if) if retry_if else None,
        )

    return decorate


@dataclass(frozen=True)
class _Edge:
    """A hard edge. Wraps a future, because for a bare one Prefect asks the server, which may be down."""

    future: Any


def _unwalked(argument: Any) -> Any:
    """Keep Prefect from searching thousands of records for futures, which takes 0.8 s a step for 20,000 files."""
    if isinstance(argument, PrefectFuture):
        return _Edge(argument)
    return quote(argument) if isinstance(argument, tuple | StepResult) else argument


def _walkable(argument: Any) -> Any:
    if isinstance(argument, _Edge):
        return argument.future
    return argument.unquote() if isinstance(argument, quote) else argument


def end_of(future: PrefectFuture[Any]) -> State[Any]:
    """Wait for a step and return its final state. Does not ask the server, which may be down, and does not raise."""
    done = Future[PrefectFuture[Any]]()
    future.add_done_callback(done.set_result)
    try:
        await_result(done).wait()
    except Exception as error:  # noqa: BLE001  whatever becomes of one step, the run goes on to its record
        return Failed(message=f"it could not be run: {type(error).__name__}: {error}")
    return future.state


def result_of(future: PrefectFuture[Any] | None, kind: type[N]) -> N | None:
    """Return the result of a step, complete or not; None if there is none."""
    if future is None or not (state := end_of(future)).is_final():
        return None
    made = state.result(raise_on_failure=False)
    return made if isinstance(made, kind) else None


def result_or_reason(kind: type[N], future: PrefectFuture[Any], *before: PrefectFuture[Any]) -> N | str:
    """Return the result of a step, or why there is none: its own failure, or that of a step in `before`."""
    if made := result_of(future, kind):
        return made
    states = [end_of(each) for each in (*before, future)]
    return next((words(state) for state in states if state.is_failed()), words(states[-1]))


class StepRunner:
    """Start the steps of a run, and return their results."""

    def __init__(self, context: RunContext) -> None:
        """Begin without any step."""
        self.context = context
        self.submitted: list[tuple[StepId, str, PrefectFuture[Any]]] = []

    def submit(self, body: Step[..., Any], *args: Any, after: Iterable[Any] = ()) -> PrefectFuture[Any]:
        """Start a step. Futures among the arguments are hard edges; those in `after` are soft: they may have failed."""
        soft = [allow_failure(edge) for edge in after if edge is not None]
        started = body.with_options(result_storage=keep_results(self.context.directory.results))
        future = started.submit(self.context, *map(_unwalked, args), wait_for=soft)
        title = _title(str(body.task_run_name), body.fn, (self.context, *args), {})
        self.submitted.append((body.step_id, title, future))
        return future

    def futures(self, *step_ids: StepId) -> list[PrefectFuture[Any]]:
        """Return the submitted futures of these steps, in the order of `step_ids`."""
        return [future for wanted in step_ids for step_id, _, future in self.submitted if step_id == wanted]

    def made(self, kind: type[N], *step_ids: StepId) -> N | None:
        """Return the result of the first of these steps that was submitted; None if there is none."""
        return result_of(next(iter(self.futures(*step_ids)), None), kind)

    def warnings(self) -> tuple[str, ...]:
        """Return the warnings of all steps of the run, cached ones included."""
        states = [end_of(future) for _, _, future in self.submitted]
        results = [state.result(raise_on_failure=False) for state in states if state.is_final()]
        told = [each for made in results if isinstance(made, StepResult) for each in made.warnings]
        return tuple(dict.fromkeys(told))


def words(state: State[Any]) -> str:
    """Return why a step ended as it did."""
    reason = state.result(raise_on_failure=False) if state.is_final() else None
    if isinstance(reason, StepResult):
        return reason.summary
    return str(reason) if isinstance(reason, BaseException) else state.message or state.name or "it did not run"


def _told(context: RunContext, name: str, about: Mapping[str, str], ja: str, body: Callable[[], N]) -> State[N]:
    began = time.monotonic()
    context.log.write("step started", name, **about)
    try:
        made = body()
    except Exception as error:
        why = {"result": str(error), "error": type(error).__name__}
        context.log.write("step failed", name, **about, seconds=round(time.monotonic() - began, 3), **why)
        raise
    action = "step done" if made.is_complete else "step incomplete"
    context.log.write(action, name, **about, seconds=round(time.monotonic() - began, 3), result=made.summary)
    told = visible(made.summary, LINE_LIMIT)
    as_if, in_ja = ("would: ", " (予行)") if context.run.dry_run else ("", "")
    logger.info("%s: %s%s", name, as_if, told)
    message = f"{ja}{in_ja}: {as_if}{told}"
    return Completed(message=message, data=made) if made.is_complete else Failed(message=message, data=made)


def _title(title: str, body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    return title.format(**inspect.signature(body).bind(*args, **kwargs).arguments)


def _cache_key(step_id: StepId, key: Callable[..., str], _: Any, parameters: dict[str, Any]) -> str:
    context: RunContext = parameters["context"]
    rest = {name: _walkable(value) for name, value in parameters.items() if name != "context"}
    told = hashlib.sha256(key(context, **rest).encode()).hexdigest()[:32]
    return f"{context.incident.id}.{step_id}.{told}"


def _may_retry(retry_if: Callable[[object], bool], _: Any, __: Any, state: State[Any]) -> bool:
    made = state.result(raise_on_failure=False)
    return not isinstance(made, RunCancelled) and retry_if(made)
