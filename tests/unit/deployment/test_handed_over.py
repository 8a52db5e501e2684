"""What automations and fleets hand over is in no person's form, and is refused at no deployment of ours."""

from datetime import UTC, datetime
from typing import Any, Final

import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate

from tasks.custody.fleet.host_order import Order
from tasks.custody.incident.alarm import Alarm
from tasks.runtime.ordered import given_order
from tasks.system.files.shared_files import SHARED

ENTRIES: Final = yaml.safe_load((SHARED / "prefect.yaml").read_text())["deployments"]
TRIGGERED: Final = {
    each["entrypoint"]: {name: value for trigger in each["triggers"] for name, value in trigger["parameters"].items()}
    for each in ENTRIES
    if "triggers" in each
}
AT: Final = datetime(2026, 11, 29, 10, tzinfo=UTC)
ORDER: Final = Order(
    "FL-20261129T100000Z-lab-0a1b", "gpu1", 1, not_after=AT, ask_from=AT, ask_seconds=60, unanswered="stop"
)
GIVEN: Final = {"workload": "gpu1", "store": "gpu1"}


def flow_of(entrypoint: str) -> Any:
    return load_flow_from_entrypoint(entrypoint)


@pytest.mark.parametrize("entrypoint", TRIGGERED)
def test_the_form_asks_for_nothing_that_its_deployment_or_a_trigger_hands_over(entrypoint: str) -> None:
    form = parameter_schema(flow_of(entrypoint)).properties.keys()
    assert form
    assert not form & {*GIVEN, *TRIGGERED[entrypoint], "alarm", "order"}


def test_no_form_asks_what_its_deployment_says_and_that_of_the_evacuation_asks_first_whether_it_is_a_rehearsal() -> (
    None
):
    forms = {each["entrypoint"]: parameter_schema(flow_of(each["entrypoint"])) for each in ENTRIES}
    for each in ENTRIES:
        assert not forms[each["entrypoint"]].properties.keys() & each["parameters"].keys()
    asked = forms["flows.evacuate.evacuate"].properties
    assert min(asked, key=lambda name: asked[name]["position"]) == "dry_run"


@pytest.mark.parametrize("entrypoint", TRIGGERED)
def test_neither_server_nor_engine_refuses_what_a_trigger_hands_over(entrypoint: str) -> None:
    flow, given = flow_of(entrypoint), {**GIVEN, **TRIGGERED[entrypoint]}
    schema = parameter_schema(flow).model_dump(exclude_unset=True)
    assert validate(given, schema) == []
    assert {name: flow.validate_parameters(given)[name] for name in given} == given
    assert validate(dict.fromkeys(schema["properties"], ...), schema), "the server looks at the form"


def test_an_alarm_and_an_order_come_through_the_engine_as_they_were_given() -> None:
    alarm = {"event": "training.failed", "occurred": "2026-11-29T10:00:00Z", "payload": {"exit_code": 137, "pid": 1}}
    taken = flow_of("flows.evacuate.evacuate").validate_parameters({**GIVEN, "alarm": alarm, "order": ORDER.parameters})
    heard, ordered = Alarm.of(taken["alarm"]), given_order(taken["order"])
    assert heard
    assert (heard.exit_code, heard.occurred) == (137, AT)
    assert ordered == ORDER


@pytest.mark.parametrize("empty", [{}, {"alarm": None, "order": None}])
def test_a_person_hands_nothing_over(empty: dict[str, None]) -> None:
    taken = flow_of("flows.evacuate.evacuate").validate_parameters({**GIVEN, **empty})
    assert Alarm.of(taken.get("alarm")) is None
    assert given_order(taken.get("order")) is None
