"""Make all checks, each within a time limit. What cannot be looked at is a finding too.

See docs/adr/0033.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import copy_context
from queue import Empty, SimpleQueue
from threading import Thread
from types import ModuleType
from typing import Final, TypeAlias

from tasks.custody.incident.readiness import Finding, Readiness, loss
from tasks.readiness import host, people, server, store, workload
from tasks.readiness.check_target import CheckTarget

Check: TypeAlias = Callable[[CheckTarget], Finding]

_CHECK: Final = "check_"


def _checks_in(module: ModuleType) -> list[Check]:
    """Return a module's own functions whose names begin with `check_`, in the order in which they stand there."""
    own = (each for each in vars(module).values() if getattr(each, "__module__", "") == module.__name__)
    return [each for each in own if each.__name__.startswith(_CHECK)]


_MODULES: Final = {"host": host, "workload": workload, "store": store, "prefect": server, "people": people}
PARTS: Final[Mapping[str, Sequence[Check]]] = {part: _checks_in(module) for part, module in _MODULES.items()}
"""In the order in which they are made: the API is asked for a model that was judged before."""
_SECONDS: Final = 90.0
_MATTERS: Final = "what could not be looked at may be broken"
_CURE: Final = "run it again as the worker's user; if it stays, look at what the finding names"


def name_of(check: Check) -> str:
    """Return the name of a check in the findings: that of its function without `check_`."""
    return check.__name__.removeprefix(_CHECK)


def examine(target: CheckTarget, parts: Mapping[str, Sequence[Check]] = PARTS, seconds: float = _SECONDS) -> Readiness:
    """Return the findings of all checks. Never raises."""
    return Readiness(tuple(_findings(target, parts, seconds)))


def _findings(target: CheckTarget, parts: Mapping[str, Sequence[Check]], seconds: float) -> Iterator[Finding]:
    for part, checks in parts.items():
        for check in checks:
            answers: SimpleQueue[Finding] = SimpleQueue()
            Thread(target=copy_context().run, args=(_ask, check, target, answers), daemon=True).start()
            try:
                finding = answers.get(timeout=seconds)
            except Empty:
                finding = loss(f"not looked at: no answer within {seconds:g} s", _MATTERS, _CURE)
            yield finding.of(part, name_of(check))


def _ask(check: Check, target: CheckTarget, answers: "SimpleQueue[Finding]") -> None:
    try:
        answers.put(check(target))
    except Exception as error:  # noqa: BLE001  whatever it is, it is found
        error_line = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        answers.put(loss(f"not looked at: {error_line}", _MATTERS, _CURE))
