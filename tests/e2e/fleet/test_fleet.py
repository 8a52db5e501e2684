"""A fleet on a real server: one order a host, whatever happens to its run, and one end each."""

import json
import os
import signal
from datetime import UTC, datetime
from typing import Any

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from blocks.store_fields import StoreFields
from flows.command.commands import invoke
from tasks.audit.fleet import verify_fleet
from tasks.custody.audit.finding import AuditWord
from tasks.custody.audit.signers import read_signers
from tasks.custody.fleet.host_end import HostEnd
from tasks.custody.incident.news import EVENT_CONTAINED
from tasks.fleet.follow import FleetWatch
from tasks.fleet.opening import read_incident
from tasks.fleet.orders import give, order_again, rows_of
from tests.e2e.fleet.conftest import AWAY, FLEET, HERE, Lab
from tests.support.workloads import wait_until

pytestmark = pytest.mark.whole


def kill(lab: Lab, run: str) -> None:
    """The process of a run dies, with its children."""
    worker = psutil.Process(lab.worker.pid)
    found = [each for each in worker.children(recursive=True) if each.environ().get("PREFECT__FLOW_RUN_ID") == run]
    assert found
    for process in found:
        os.kill(process.pid, signal.SIGKILL)


def closing(lab: Lab, fleet_id: str, number: int) -> Any:
    """What a record's closing says; None while there is none."""
    path = lab.store / f"fleets/{fleet_id}/record/{number:03d}/closing.json"
    return json.loads(path.read_text()) if path.exists() else None


def paused(lab: Lab, fleet_id: str) -> bool:
    """Whether the hosts that are there ask."""
    hosts = lab.hosts(fleet_id)
    return all(hosts.get(name, {}).get("state_type") == "PAUSED" for name in HERE)


def asking(lab: Lab, run: str) -> bool:
    """Whether the fleet's run is at work on its incident, and asks."""
    claim = lab.ask(f"/variables/name/fleet_{FLEET}").json()["value"]
    return bool(claim["run"] == run and lab.run(run)["state_type"] == "PAUSED")


def announced(lab: Lab) -> list[dict[str, str]]:
    """What people are told of containment."""
    events = lab.post("/events/filter", {"filter": {"event": {"name": [EVENT_CONTAINED]}}})["events"]
    return [each["resource"] for each in events]


def test_a_fleet_is_frozen_asked_about_carried_on_joined_and_evacuated_and_its_silent_host_named(
    lab: Lab, signing_key: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.change(ask_above=1, ask_seconds=600)
    for name in HERE:
        lab.small[name].start_all()
    first = lab.start(reason="credentials leaked")
    fleet_id = lab.opened()
    wait_until(lambda: paused(lab, fleet_id), 120, "both hosts to ask")
    wait_until(lambda: lab.hosts(fleet_id).keys() == {*HERE, AWAY}, what="an order for each host, and no other")
    runs = {name: run["id"] for name, run in lab.hosts(fleet_id).items()}
    for name in HERE:
        assert {process.status() for process in lab.small[name].living()} == {psutil.STATUS_STOPPED}
    kill(lab, first)
    assert lab.ended(first)["state_name"] == "Crashed"
    assert paused(lab, fleet_id), "its end touches no host"

    second = lab.start()
    wait_until(lambda: asking(lab, second), what="the second run to ask")
    joined = lab.ended(lab.start())
    assert joined["state_name"] == "Joined"
    assert joined["state"]["message"].startswith(f"{fleet_id}: run {second} is at work")
    answer = {"decision": "stop", "by": "ana", "why": "it is real", "fleet": "lob"}
    path = f"/flow_runs/{second}/resume"
    assert lab.ask(path, {"run_input": answer}).status_code == 200, "not accepted: another fleet's name was typed"
    assert lab.ask(path, {"run_input": {**answer, "fleet": FLEET}}).status_code == 201

    wait_until(lambda: closing(lab, fleet_id, 1), 120, "the record of all that answer")
    assert lab.run(second)["state_type"] == "RUNNING", "the order of the silent host stands"
    assert closing(lab, fleet_id, 1)["verdict"] == "Silent"
    assert lab.ask(f"/variables/name/fleet_{FLEET}").status_code == 404, "a new trigger is an incident of its own"
    hosts = lab.hosts(fleet_id)
    assert {name: run["id"] for name, run in hosts.items()} == runs, "one run a host, however often it was ordered"
    assert [hosts[name]["state_name"] for name in HERE] == ["Verified", "Verified"]
    assert all(hosts[name]["labels"]["evacuation.frozen"] for name in HERE)
    progress = lab.ask(f"/artifacts/fleet-{FLEET}/latest").json()["data"]
    for words in ("2 of 3 contained, 3 ended; all that answer are contained since", "  2  gpu[1-2] Verified"):
        assert words in progress
    assert "gpu3 Silent, never seen" in progress
    assert "1 orders of silent hosts stand until" in progress
    wait_until(lambda: announced(lab), what="the event, which the server writes down later")
    (told,) = announced(lab)
    assert told["prefect.resource.id"] == f"prefect.flow-run.{second}", "not a host's"
    assert "no sign of life from gpu3" in told["prefect.state-message"]
    assert {run["name"] for run in hosts.values()} == {f"evacuate {name} for {fleet_id}" for name in (*HERE, AWAY)}

    with temporary_settings({PREFECT_API_URL: lab.server.api}):
        assert invoke(["fleet", "cancel", FLEET]) == 0
    assert "cancelled before it began: gpu3; " in capsys.readouterr().out
    ended = lab.ended(second)
    assert (ended["state_name"], ended["state_type"]) == ("Cancelled", "FAILED")
    assert "2 of 3 hosts Verified: gpu[1-2] Verified; gpu3 Cancelled" in ended["state"]["message"]
    found = verify_fleet(
        StoreFields(folder=lab.store), fleet_id, read_signers(f"{signing_key.allowed_signers}\n"), deep=True
    )
    assert found.word is AuditWord.PROVEN, found.findings
    assert found.verdict == "Cancelled (record/002): 3 hosts"


def test_only_what_failed_is_ordered_again_and_an_order_past_its_time_expires(lab: Lab) -> None:
    """By the functions of the flow, on the incident of the test above: two hosts are Verified, and one is not."""
    with temporary_settings({PREFECT_API_URL: lab.server.api}), get_client(sync_client=True) as client:
        incident = next(
            found
            for run in lab.post("/flow_runs/filter", {"flows": {"name": {"any_": ["evacuate"]}}})
            if (found := read_incident(client, run["parameters"]["order"]["fleet"]))
        )
        before = {name: run["id"] for name, run in lab.hosts(incident.id).items()}
        assert order_again.fn(incident) == {}
        after = lab.hosts(incident.id)
        assert {name: after[name]["id"] for name in HERE} == {name: before[name] for name in HERE}
        order = after[AWAY]["parameters"]["order"]
        assert (after[AWAY]["id"] == before[AWAY], order["attempt"]) == (False, 2)
        assert [row.end for row in rows_of(client, incident)] == [HostEnd.VERIFIED, HostEnd.VERIFIED, HostEnd.SILENT]

        past = incident.__class__.of({**incident.facts, "id": incident.id[:-4] + "0000", "order_seconds": 0.001})
        assert give(past, [(past.hosts[2], 1)]) == {}
        assert give(past, [(past.hosts[2], 1)]) == {}, "made again, it is the same run"
        watch = FleetWatch(past, "00000000-0000-0000-0000-000000000000")
        watch.look(client)
        row = rows_of(client, past)[2]
        assert (row.end, row.stands) == (HostEnd.EXPIRED, False)
        assert len(lab.post("/flow_runs/filter", {"flow_runs": {"tags": {"all_": [f"fleet:{past.id}"]}}})) == 1
        assert (datetime.now(UTC) - past.opened_at).total_seconds() > 0
