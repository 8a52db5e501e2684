"""Each trigger on a real server and worker; one incident for one cause, however many speak up; and no loop."""

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.custody.fleet.host_order import Order, new_fleet_id
from tasks.drill.deployment import POOL
from tasks.drill.store_and_worker import Worker
from tasks.host.process.table import start_of
from tests.e2e.triggers.conftest import NAME, Stage
from tests.support.workloads import wait_until

DOCS = Path(__file__).parents[3] / "docs/triggers.md"


def test_everything_is_deployed_from_nothing_and_again_changes_nothing(stage: Stage) -> None:
    def there() -> dict[str, object]:
        return {
            "deployments": {each["id"]: each["name"] for each in stage.post("/deployments/filter")},
            "automations": sorted(each["name"] for each in stage.post("/automations/filter")),
            "queues": {each["id"]: (each["name"], each["priority"]) for each in stage.post("/work_queues/filter")},
            "blocks": {each["id"]: each["name"] for each in stage.post("/block_documents/filter")},
        }

    first = there()
    assert sorted(first["automations"]) == [  # type: ignore[call-overload]
        f"evacuate {NAME}: a training run failed",
        f"evacuate {NAME}: training.failed",
        "evacuation: a run has gone silent",
        f"ready {NAME}: a canary",
    ]
    silent = next(each for each in stage.post("/automations/filter") if each["name"].startswith("evacuation:"))
    stage.post(f"/automations/{silent['id']}", {"enabled": False}, "PATCH")
    assert "worker on" in stage.deploy()
    assert there() == first
    still = stage.http.get(f"/automations/{silent['id']}").json()
    assert still["enabled"] is False, "what a person has switched off stays off"
    stage.post(f"/automations/{silent['id']}", {"enabled": True}, "PATCH")


@pytest.mark.soak
@pytest.mark.parametrize("alarms", [4, 50])
def test_many_alarms_in_a_moment_are_one_incident(stage: Stage, known: set[str], alarms: int) -> None:
    before = set(stage.incidents)
    stage.raise_alarm(alarms, exit_code=3, message="loss is NaN")
    ended = stage.all_ended(alarms, known)
    names = [run["state_name"] for run in ended]
    assert sorted(set(names)) == ["Joined", "Verified"], {run["state"]["message"] for run in ended}
    assert names.count("Verified") == 1
    (home,) = set(stage.incidents) - before
    assert stage.triggers(home) == sorted(run["id"] for run in ended)
    assert {run["state"]["message"][: len(home.name)] for run in ended} == {home.name}
    assert "exit code 3, loss is NaN" in json.loads((home / "incident.json").read_bytes())["reason"]
    assert stage.small.living() == []
    again = stage.ended(stage.start("evacuate", incident_id=home.name))
    assert again["state_name"] == "Verified"
    entries = [json.loads(line) for line in (home / "custody.jsonl").read_text().splitlines()]
    assert len([entry for entry in entries if entry["action"] == "triggered"]) == alarms


def test_a_training_run_that_fails_is_told_twice_and_evacuated_once(stage: Stage, known: set[str]) -> None:
    before = set(stage.incidents)
    script = stage.small.root / "src/train.py"
    good = script.read_text()
    script.write_text("print('loss is NaN')\nraise SystemExit(3)")
    run = stage.start("train")
    assert stage.ended(run)["state_name"] == "Failed"
    ended = stage.all_ended(2, known)
    script.write_text(good)
    assert sorted(each["state_name"] for each in ended) == ["Joined", "Verified"]
    (home,) = set(stage.incidents) - before
    alarms = [each["parameters"]["alarm"] for each in ended]
    by_event = {alarm["event"]: alarm for alarm in alarms}
    assert by_event["prefect.flow-run.Failed"]["resource"] == f"prefect.flow-run.{run}"
    assert "exit code 3" in by_event["prefect.flow-run.Failed"]["message"]
    assert by_event["training.failed"]["payload"]["exit_code"] == 3
    entries = [json.loads(line) for line in (home / "custody.jsonl").read_text().splitlines()]
    triggered = [entry for entry in entries if entry["action"] == "triggered"]
    assert {entry["alarm"]["run"] for entry in triggered} == {run}
    assert {entry["object"] for entry in triggered} <= {each["id"] for each in ended}


@pytest.mark.whole
def test_what_we_stopped_or_refused_raises_nothing_and_what_names_it_joins(stage: Stage, known: set[str]) -> None:
    training = next(process for process in stage.small.living() if "src/train.py" in process.cmdline())
    pid, start = training.pid, start_of(training.pid)
    before = set(stage.incidents)
    assert stage.ended(stage.start("evacuate"))["state_name"] == "Verified"
    (home,) = set(stage.incidents) - before
    assert stage.ended(stage.start("train"))["state_name"] == "Refused"
    stage.settled()
    assert len(stage.runs(known=known)) == 1, "nothing was set off by the evacuation or by the refusal"

    stage.uncordon()
    stage.raise_alarm(pid=pid, start=start, exit_code=-15)
    late = stage.all_ended(2, known)
    assert sorted(run["state_name"] for run in late) == ["Joined", "Verified"]
    assert set(stage.incidents) - before == {home}

    stage.small.start_all()
    stage.raise_alarm(exit_code=1, message="a new run")
    newer = stage.all_ended(3, known)
    assert sorted(run["state_name"] for run in newer) == ["Joined", "Verified", "Verified"]
    assert len(set(stage.incidents) - before) == 2


@pytest.mark.whole
def test_a_crashed_run_of_any_tagged_deployment_is_an_alarm(stage: Stage, known: set[str]) -> None:
    flow = stage.post("/flows/", {"name": "somebody's own training"})["id"]
    tags = ["training", f"workload:{NAME}"]
    run = stage.post("/flow_runs/", {"flow_id": flow, "tags": tags, "state": {"type": "RUNNING"}})["id"]
    other = stage.post("/flow_runs/", {"flow_id": flow, "tags": ["training"], "state": {"type": "RUNNING"}})["id"]
    for each in (other, run):
        stage.post(f"/flow_runs/{each}/set_state", {"state": {"type": "CRASHED", "message": "OOM"}})
    (ended,) = stage.all_ended(1, known)
    assert ended["state_name"] == "Verified"
    assert ended["parameters"]["alarm"]["resource"] == f"prefect.flow-run.{run}"
    assert ended["parameters"]["alarm"]["message"] == "OOM"
    stage.settled()
    assert len(stage.runs(known=known)) == 1, "a training of another workload is no alarm of this one"


@pytest.mark.whole
def test_the_documented_lines_raise_the_alarm_as_they_stand(stage: Stage, known: set[str]) -> None:
    lines = re.findall(r"^make train-full \|\| (.*)$", DOCS.read_text(), re.MULTILINE)
    assert len(lines) == 2, "with and without Python"
    for line in lines:
        path = str(Path(stage.server.env.get("PATH", "/usr/bin:/bin")))
        script = f"(exit 7) || {line}"
        stage.run(["sh", "-c", script], PATH=f"{Path(sys.executable).parent}:{path}", NAME=NAME)
    ended = stage.all_ended(2, known)
    assert sorted(run["state_name"] for run in ended) == ["Joined", "Verified"]
    assert {run["parameters"]["alarm"]["payload"]["exit_code"] for run in ended} == {7}
    wait_until(lambda: stage.small.living() == [], what="the end of the workload")


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    "clock", [pytest.param("-1h", marks=pytest.mark.soak), pytest.param("+1h", marks=pytest.mark.soak)]
)
def test_a_host_whose_clock_is_wrong_is_evacuated_at_once_and_heeds_its_order(stage: Stage, clock: str) -> None:
    now = datetime.now(UTC)
    ask_from, until = (now + timedelta(minutes=minutes) for minutes in (20, 40))
    order = Order(new_fleet_id(now, "lab", "1f3a"), NAME, 1, until, ask_from, 1, "thaw")
    if not (library := list(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))):
        pytest.skip("expected libfaketime; got none. Install the package faketime.")
    wrong = {"LD_PRELOAD": str(library[0]), "FAKETIME": clock, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    stage.worker.stop()
    try:
        with Worker(stage.folder / f"worker {clock}", stage.server, POOL, wrong):
            run = stage.start("evacuate", order=order.parameters)
            wait_until(lambda: stage.small.living() == [], what="the containment")
            assert stage.ended(run)["state_name"] == "Verified"
    finally:
        stage.worker.start()
