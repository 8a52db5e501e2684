"""What a run raises once it knows whether its workload is contained, and when it is silent."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from threading import Event
from types import SimpleNamespace
from typing import Any, Final

import pytest
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Failed

from tasks.custody.containment.receipt import Containment, Stop
from tasks.people import announce
from tasks.people.announce import announce_containment
from tasks.runtime.context import RunContext
from tests.support.run_context import INCIDENT, case_of
from tests.support.workloads import SmallWorkload
from tests.unit.custody.fleet.test_order import INCIDENT as FLEET

NOW = datetime.now(UTC)
CONTAINED = Containment(NOW, (), cordoned=True)
STOPPED: Final[State[Any]] = Completed(data=Stop(NOW, ()))


def done(state: State[Any]) -> Any:
    future = SimpleNamespace(state=state, wait=lambda: None)
    future.add_done_callback = lambda call: call(future)
    return future


@pytest.fixture
def run(small: SmallWorkload) -> Iterator[RunContext]:
    """A run of a server that is named, and never asked here."""
    with case_of(small.block()) as context, temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        yield context


@pytest.fixture
def raised(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What is raised, without a thread."""
    monkeypatch.setattr(announce, "run_in_thread", lambda body: body())
    events = list[dict[str, str]]()
    monkeypatch.setattr(announce, "emit_event", lambda _, resource, **__: events.append(resource))
    return events


@pytest.mark.parametrize(
    ("found", "state"), [(CONTAINED, "Contained"), (Containment(NOW, ("7: x",), cordoned=True), "NotContained")]
)
def test_the_check_is_announced_as_it_ended(
    run: RunContext, raised: list[dict[str, str]], found: Containment, state: str
) -> None:
    ends = Completed if found.is_contained else Failed
    announce_containment(run.incident, run.run, "evacuate a", done(STOPPED), done(ends(data=found)))
    assert raised[0]["prefect.resource.id"] == "prefect.flow-run.run-1"
    assert (raised[0]["prefect.resource.name"], raised[0]["prefect.state-name"]) == ("evacuate a", state)
    assert raised[0]["prefect.state-message"].startswith(f"{INCIDENT}: test on ")


@pytest.mark.parametrize(
    ("change", "checked"),
    [
        (lambda run: replace(run, dry_run=True), Completed(data=CONTAINED)),
        (lambda run: replace(run, order=FLEET.order(FLEET.hosts[0], 1, NOW)), Completed(data=CONTAINED)),
        (lambda run: run, Completed(data=replace(CONTAINED, recovered=True))),
        (lambda run: run, Failed(message="not begun: the run was cancelled")),
    ],
    ids=["a rehearsal", "a host of a fleet", "what was recovered", "a cancelled run"],
)
def test_there_is_nothing_to_announce(
    run: RunContext,
    raised: list[dict[str, str]],
    change: Callable[[Any], Any],
    checked: State[Any],
) -> None:
    run.run = change(run.run)
    announce_containment(run.incident, run.run, "evacuate a", done(STOPPED), done(checked))
    assert raised == []


def test_without_a_server_there_is_nobody_to_announce_it_to(run: RunContext, raised: list[dict[str, str]]) -> None:
    with temporary_settings({PREFECT_API_URL: None}):
        announce_containment(run.incident, run.run, "evacuate a", done(STOPPED), done(Completed(data=CONTAINED)))
    assert raised == []


def test_nothing_waits_for_a_server_that_hangs(run: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, hangs = Event(), Event()

    def emit(*_: object, **__: object) -> None:
        asked.set()
        hangs.wait(60)

    monkeypatch.setattr(announce, "emit_event", emit)
    announce_containment(run.incident, run.run, "evacuate a", done(STOPPED), done(Completed(data=CONTAINED)))
    assert asked.wait(60), "it is asked, and this was not held up by it"
    hangs.set()
