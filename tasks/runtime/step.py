"""Define a step of the runbook as a Prefect task: with retries, a cache for each incident, and log entries."""

import hashlib
import inspect
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeAlias, TypeVar

from prefect import Task, allow_failure
from prefect.cache_policies import NO_CACHE, CacheKeyFnPolicy
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed
from prefect.utilities.annotations import quote

from tasks.custody.incident.log import CustodyLog
from tasks.custody.incident.steps import StepId
from tasks.custody.step_result import StepResult
from tasks.custody.visible import LINE_LIMIT, visible
from tasks.runtime.context import RunContext
from tasks.runtime.own_results import keep_results
from tasks.runtime.retry import transient
from tasks.runtime.so_far import describe_so_far
from tasks.system.cancellation import PATIENCE_SECONDS, RunCancelled, await_result

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
N = TypeVar("N", bound=StepResult)
CacheKey: TypeAlias = Callable[[Any, Mapping[str, Any]], str]
Condition: TypeAlias = Callable[[Any, Any, State[Any]], bool]
_NOT_RUN: Final = "NotRun"
_ASKS_STORE: Final = frozenset[StepId]({"claim_store", "offload", "verify", "promote", "record"})


class Step(Task[P, R]):
    """A step of the runbook: a task with an id that does not depend on its title."""

    def __init__(  # noqa: PLR0913  what it is known by, and when it is done again
        self,
        body: Callable[P, R],
        step_id: StepId,
        section: str,
        title: str,
        *,
        condition: Condition,
        key: CacheKey | None = None,
        **options: Any,
    ) -> None:
        """Create the task: retried on this condition, cached under this key. `options` are those of a Prefect task."""
        self.step_id, self.section, self.condition, self.key = step_id, section, condition, key
        super().__init__(
            body,
            name=title.partition("{")[0].rstrip(),
            task_run_name=title,
            cache_policy=CacheKeyFnPolicy(cache_key_fn=partial(_cache_key, self)) if key else NO_CACHE,
            persist_result=bool(key),
            retry_condition_fn=partial(_unless_cancelled, condition),
            **options,
        )


class IncidentStep(Step[P, R]):
    """A step of an incident: its first argument is the context of the run that submits it."""

    def submit(self, *args: Any, wait_for: Iterable[Any] = (), **kwargs: Any) -> PrefectFuture[R]:  # type: ignore[override]
        """Start the step in the run that is entered here: `with StepRunner(context)`.

        Futures among the arguments are hard edges. Those in `wait_for` are soft within `allow_failure`. A step that
        waits for none comes after the opening of the incident.
        """
        return _RUN.get().start(self, args, kwargs, wait_for)


def step(  # noqa: PLR0913  what a step is known by, and Prefect's own keywords
    step_id: StepId,
    title: str,
    *,
    section: str,
    ja: str,
    retries: int,
    retry_delay_seconds: float = 1.0,
    retry_condition_fn: Condition = transient,
    cache_key_fn: CacheKey | None = None,
    last: bool = False,
    patience: float = PATIENCE_SECONDS,
) -> Callable[[Callable[Concatenate[RunContext, P], N]], IncidentStep[Concatenate[RunContext, P], State[N]]]:
    """Make a task of a function.

    `section` is the runbook's. Code, custody log and cache know the step by `step_id`, which never changes. `title` is
    for people and may name arguments in braces, as in "collect {collector}". `ja` is its key term in Japanese, which
    the state's message begins with.
    With `cache_key_fn` the result is cached for the incident, under what that returns for the step's arguments, the
    run's `context` among them; without it the step is a check or an idempotent act and is done again in every run.
    A cancelled run retries nothing, whatever `retry_condition_fn` says.
    `last` marks a step that a cancelled run still does, and does to its end; all others have `patience` seconds then.
    """
    full = f"{section} {title}"
    plain_title = full.partition("{")[0]
    options: dict[str, Any] = {"retries": retries, "retry_delay_seconds": retry_delay_seconds}
    options["result_serializer"] = "json"

    def decorate(body: Callable[Concatenate[RunContext, P], N]) -> IncidentStep[Concatenate[RunContext, P], State[N]]:
        @wraps(body)
        def run(context: RunContext, /, *args: P.args, **kwargs: P.kwargs) -> State[N]:
            context, *plain = map(_walkable, (context, *args))
            name = full.format(**inspect.signature(body).bind(context, *plain, **kwargs).arguments)
            details = {"step_id": step_id, **({"of": of} if (of := name.removeprefix(plain_title)) else {})}
            _tag(TaskRunContext.get(), task)
            if context.cancelled and not last:
                raise RunCancelled("not begun: the run was cancelled")
            act = partial(body, context, *plain, **kwargs)
            heading = f"{ja} (予行): would: " if context.run.dry_run else f"{ja}: "
            bounded = act if last else lambda: context.cancelled.run_bounded(act, patience)
            silence = _silence_of(context, step_id, retries, retry_delay_seconds)
            return _run_logged(context.log, name, details, heading, bounded, silence)

        task = IncidentStep(run, step_id, section, full, condition=retry_condition_fn, key=cache_key_fn, **options)
        return task

    return decorate


def step_without_incident(
    step_id: StepId, title: str, *, section: str = "", retries: int, retry_delay_seconds: float | list[float] = 1.0
) -> Callable[[Callable[P, T]], Step[P, T]]:
    """Make a task of a function that no incident's run is given, as the opening of one: no custody log, no cache."""
    full = f"{section} {title}".lstrip()
    options: dict[str, Any] = {"retries": retries, "retry_delay_seconds": retry_delay_seconds}

    def decorate(body: Callable[P, T]) -> Step[P, T]:
        @wraps(body)
        def run(*args: P.args, **kwargs: P.kwargs) -> T:
            _tag(TaskRunContext.get(), task)
            return body(*args, **kwargs)

        task = Step(run, step_id, section, full, condition=transient, **options)
        return task

    return decorate


def _tag(running: TaskRunContext | None, task: Step[..., Any]) -> None:
    """Tag a task run that has begun. Of one that has tags before, Prefect asks the server for their limits."""
    if running:
        run = _RUN.get(None)
        incident = [f"incident:{run.context.incident.id}"] if run else []
        running.task_run.tags = [*filter(None, [task.section]), f"step:{task.step_id}", *incident]


@dataclass(frozen=True)
class _Edge:
    """A hard edge. Wraps a future, because for a bare one Prefect asks the server, which may be down."""

    future: Any


def _hide_futures(argument: Any) -> Any:
    """Keep Prefect from searching thousands of records for futures, which takes 0.8 s a step for 20,000 files.

    And from finding, in an empty text or a number, the result of another step: it knows those by their address.
    """
    if isinstance(argument, PrefectFuture):
        return _Edge(argument)
    return argument if isinstance(argument, list) else quote(argument)


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
        return Failed(name=_NOT_RUN, message=f"it could not be run: {type(error).__name__}: {error}")
    return future.state


def after(*futures: PrefectFuture[Any]) -> list[Any]:
    """Wait for steps, and return soft edges from them. None from one that crashed: Prefect lets nothing follow that."""
    ends = [(future, end_of(future)) for future in futures]
    ran = [future for future, end in ends if end.name not in {_NOT_RUN, "Crashed"} and not end.is_cancelled()]
    return [*map(allow_failure, ran)]


def result_of(future: PrefectFuture[Any] | None, kind: type[N]) -> N | None:
    """Return the result of a step, complete or not; None if there is none."""
    if future is None or not (state := end_of(future)).is_final():
        return None
    result = state.result(raise_on_failure=False)
    return result if isinstance(result, kind) else None


def result_or_reason(kind: type[N], future: PrefectFuture[Any], *before: PrefectFuture[Any]) -> N | str:
    """Return the result of a step, or why there is none: its own failure, or that of a step in `before`."""
    if result := result_of(future, kind):
        return result
    states = [end_of(each) for each in (*before, future)]
    return next((words(state) for state in states if state.is_failed()), words(states[-1]))


class StepRunner:
    """Start the steps of a run, and return their results. Entered by `with`, it is the run that `submit` starts in."""

    def __init__(self, context: RunContext) -> None:
        """Begin without any step."""
        self.context = context
        self.submitted: list[tuple[StepId, str, PrefectFuture[Any]]] = []

    def __enter__(self) -> Self:
        """Let `submit` of a step start it in this run."""
        self._before = _RUN.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        """End that."""
        _RUN.reset(self._before)

    def start(
        self, body: Step[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], wait_for: Iterable[Any]
    ) -> PrefectFuture[Any]:
        """Start a step, with the run's context before its arguments."""
        given = inspect.signature(body.fn).bind(self.context, *args, **kwargs)
        given.apply_defaults()
        title = str(body.task_run_name).format(**given.arguments)
        follows = any(isinstance(each, PrefectFuture | list) for each in args)
        edges = [*wait_for] or ([] if follows else [self.context])  # that is a part of what the opening has returned
        started = copy(body)  # Prefect's with_options reads the source of the function again
        started.result_storage, started.task_run_name = keep_results(self.context.directory.results), title
        arguments = {name: _hide_futures(value) for name, value in given.arguments.items()}
        future: PrefectFuture[Any] = Task.submit(started, **arguments, wait_for=edges)
        self.submitted.append((body.step_id, title, future))
        return future

    def futures(self, *step_ids: StepId) -> list[PrefectFuture[Any]]:
        """Return the submitted futures of these steps, in the order of `step_ids`."""
        return [future for wanted in step_ids for step_id, _, future in self.submitted if step_id == wanted]

    def result(self, kind: type[N], *step_ids: StepId) -> N | None:
        """Return the result of the first of these steps that was submitted; None if there is none."""
        return result_of(next(iter(self.futures(*step_ids)), None), kind)

    def warnings(self) -> tuple[str, ...]:
        """Return the warnings of all steps of the run, cached ones included."""
        states = [end_of(future) for _, _, future in self.submitted]
        results = [state.result(raise_on_failure=False) for state in states if state.is_final()]
        lines = [each for result in results if isinstance(result, StepResult) for each in result.warnings]
        return tuple(dict.fromkeys(lines))


def words(state: State[Any]) -> str:
    """Return why a step ended as it did."""
    reason = state.result(raise_on_failure=False) if state.is_final() else None
    if isinstance(reason, StepResult):
        return reason.summary
    return str(reason) if isinstance(reason, BaseException) else state.message or state.name or "it did not run"


def _silence_of(context: RunContext, step_id: StepId, retries: int, delay: float) -> Callable[[], str]:
    """Return what tells that the store which this try of a step asks does not answer, and what is known so far.

    Empty if it answers.
    """
    running = TaskRunContext.get()
    remaining = max(0, retries + 1 - (running.task_run.run_count if running else 1))

    def tell() -> str:
        silence = context.store.find_silence() if step_id in _ASKS_STORE else None
        words = (silence.tell_waiting(remaining, delay), describe_so_far(context, step_id)) if silence else ()
        return "; ".join(filter(None, words))

    return tell


def _run_logged(  # noqa: PLR0913, PLR0917  what a step is logged by
    log: CustodyLog,
    name: str,
    details: Mapping[str, str],
    heading: str,
    body: Callable[[], N],
    tell_silence: Callable[[], str],
) -> State[N]:
    began = time.monotonic()
    log.write("step started", name, **details)
    logger.debug("%s", name, extra={"begins": True, "silence": tell_silence})
    try:
        result = body()
    except Exception as error:
        why = {"result": str(error), "error": type(error).__name__}
        log.write("step failed", name, **details, seconds=round(time.monotonic() - began, 3), **why)
        raise
    finally:
        logger.debug("%s", name, extra={"begins": False})
    action = "step done" if result.is_complete else "step incomplete"
    log.write(action, name, **details, seconds=round(time.monotonic() - began, 3), result=result.summary)
    message = f"{heading}{visible(result.summary, LINE_LIMIT)}"
    logger.info("%s  %s", name, message, extra={"step_id": details["step_id"]})
    return Completed(message=message, data=result) if result.is_complete else Failed(message=message, data=result)


def _cache_key(task: Step[..., Any], running: TaskRunContext, parameters: dict[str, Any]) -> str:
    _tag(running, task)  # a step whose result is cached is not run
    given = {name: _walkable(value) for name, value in parameters.items()}
    digest = hashlib.sha256(task.key(running, given).encode()).hexdigest()[:32] if task.key else ""
    return f"{given['context'].incident.id}.{task.step_id}.{digest}"


def _unless_cancelled(condition: Condition, task: Any, task_run: Any, state: State[Any]) -> bool:
    run = _RUN.get(None)
    if (run and run.context.cancelled) or isinstance(state.result(raise_on_failure=False), RunCancelled):
        return False
    return condition(task, task_run, state)


_RUN: Final = ContextVar[StepRunner]("the run that steps are submitted in: with StepRunner(context)")
