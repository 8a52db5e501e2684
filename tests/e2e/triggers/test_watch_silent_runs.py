"""A run that dies with its worker, or does not end, is found and told of; a person is told how each has ended."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.custody.fleet.host_order import FLEET
from tasks.custody.incident.ending import ENDINGS
from tasks.custody.incident.news import EVENT_CONTAINED
from tasks.custody.incident.readiness import Finding, Weight
from tasks.deployment.automations import (
    LONG_MINUTES,
    RUN_SILENT_SECONDS,
    long_runs,
    put,
    silent_runs,
    unbegun_runs,
    untaken_messages,
    untaken_runs,
)
from tasks.deployment.register import notification_block
from tasks.drill.deployment import client_of
from tasks.incident.layout import FROZEN
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.people import UNTAKEN_RUNS, check_notification
from tasks.readiness.runs import runs_of
from tests.e2e.triggers.conftest import NAME, Stage
from tests.support.receivers import SECRET, MailServer, Webhook, serving
from tests.support.workloads import wait_until

pytestmark = pytest.mark.whole

DOCS = Path(__file__).parents[3] / "docs/triggers.md"
NOTIFY = ("custom-webhook/ops", "slack-webhook/mail")
SOON = 12.0
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass
class People:
    """Those who are told: by a webhook, and by mail."""

    webhook: Webhook
    mail: MailServer

    def heard(self, words: str) -> list[str]:
        """What the webhook has taken, by some words."""
        return self.webhook.heard(words)


@pytest.fixture(scope="module")
def people(stage: Stage) -> Iterator[People]:
    """The block saved and the notifications deployed, with the lines of the docs as they stand."""
    with serving(Webhook()) as webhook, serving(MailServer()) as mail:
        (code,) = re.findall(r"^\.venv/bin/python - <<'PY'\n(.*?)^PY$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
        stage.run([sys.executable, "-c", code], WEBHOOK=webhook.url, MAIL=mail.url)
        said = stage.deploy("--notify", NOTIFY[0], "--notify", NOTIFY[1])
        assert "--work-queue people" in said
        stage.settled()
        yield People(webhook, mail)


def run_of(stage: Stage, tag: str, name: str) -> str:
    """A run that Prefect believes to be at work."""
    flow = stage.post("/flows/", {"name": "evacuate"})["id"]
    about = {"flow_id": flow, "name": name, "tags": [tag], "state": {"type": "RUNNING"}}
    return str(stage.post("/flow_runs/", about)["id"])


def end(stage: Stage, run: str, name: str) -> None:
    kind = next("COMPLETED" if each.completed else "FAILED" for each in ENDINGS if each.name == name)
    state = {"type": "CRASHED" if name == "Crashed" else kind, "name": name, "message": f"IR-1: it is {name}"}
    stage.post(f"/flow_runs/{run}/set_state", {"state": state, "force": True})


def announced(stage: Stage, run: str, name: str, message: str) -> None:
    """What a fleet's run announces under a name of its own."""
    state = {"prefect.state-name": "NotContained", "prefect.state-message": message}
    about = {"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.name": name, **state}
    tag = {"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.evacuation"}
    event = {"event": EVENT_CONTAINED, "id": str(uuid4()), "occurred": datetime.now(UTC).isoformat()}
    stage.post("/events", [{**event, "resource": about, "related": [tag], "payload": {}}])


def claimed_message(stage: Stage, subject: str) -> str:
    """A message that a worker has claimed and will never begin."""
    about = {"tags": ["people"], "parameters": {"subject": subject, "body": "its body"}}
    flow = stage.post("/flows/", {"name": "unknown"})["id"]
    run = stage.post("/flow_runs/", {"flow_id": flow, **about, "state": {"type": "SCHEDULED"}})["id"]
    stage.post(f"/flow_runs/{run}/set_state", {"state": {"type": "PENDING"}, "force": True})
    return str(run)


def told(stage: Stage, count: int) -> list[dict[str, Any]]:
    """The last messages, the newest first, when there are so many in all and none is under way."""

    def over() -> bool:
        return len(runs := stage.runs("tell")) >= count and all(each["state_type"] in FINAL for each in runs)

    wait_until(over, 200, what=f"{count} messages")
    return sorted(stage.runs("tell"), key=lambda each: str(each["start_time"]), reverse=True)


@pytest.mark.soak
def test_people_are_told_of_an_end_though_they_fail_first_and_of_nothing_else(stage: Stage, people: People) -> None:
    before = len(stage.runs("tell"))
    people.webhook.answers, people.mail.refusals = [503], 1
    for name in ("Joined", "DryRun", "Partial", "Crashed"):
        end(stage, run_of(stage, "evacuation", f"run {name}"), name)
    end(stage, run_of(stage, "evacuation", f"evacuate gpu1 for {FLEET}20260101T000000Z-lab-1a2b"), "Verified")
    end(stage, run_of(stage, "training", "somebody's training"), "Failed")
    end(stage, run_of(stage, "evacuation", "the last"), "Verified")
    stage.settled()
    told(stage, before + 3)
    names = ["Crashed: run Crashed", "Partial: run Partial", "Verified: the last"]
    assert sorted(text.splitlines()[0] for text in people.webhook.texts) == names
    assert sorted(people.mail.subjects) == names
    (text,) = people.heard("Partial:")
    assert "IR-1: it is Partial" in text
    assert re.search(r"http://127\.0\.0\.1:\d+/\S*flow-run/\S+", text)


@pytest.mark.soak
def test_each_host_of_a_fleet_that_needs_a_person_is_told_of_once(stage: Stage, people: People) -> None:
    before, incident = len(stage.runs("tell")), f"{FLEET}20260101T000000Z-lab-{uuid4().hex[:4]}"
    run = run_of(stage, "evacuation", "fleet lab")
    for count, host in enumerate(("gpu2", "gpu2", "gpu3"), 1):
        announced(stage, run, f"fleet lab: {host}", f"{incident}: fleet lab: 1 hosts need you")
        told(stage, before + count)
    end(stage, run, "Joined")
    subjects = [text.splitlines()[0] for text in people.heard(incident)]
    assert subjects == ["NotContained: fleet lab: gpu2", "NotContained: fleet lab: gpu3"]


@pytest.mark.soak
def test_a_fleet_with_a_cancelled_host_is_told_of_and_a_run_that_a_person_cancelled_is_not(
    stage: Stage, people: People
) -> None:
    before, run = len(stage.runs("tell")), run_of(stage, "evacuation", "one that a person cancelled")
    stage.post(f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLED", "name": "Cancelled"}, "force": True})
    end(stage, run_of(stage, "evacuation", "fleet lab"), "Cancelled")
    stage.settled()
    told(stage, before + 1)
    assert [text.splitlines()[0] for text in people.heard("Cancelled: ")] == ["Cancelled: fleet lab"]


def test_a_test_message_is_sent_on_request_and_what_was_not_delivered_is_found(stage: Stage, people: People) -> None:
    def found(*, message: bool) -> Finding:
        with temporary_settings({PREFECT_API_URL: stage.server.api}):
            return check_notification(CheckTarget(NAME, stage.small.block(), NAME, {}, message=message))

    tried = found(message=True)
    assert (tried.weight, "told slack-webhook/mail" in tried.found) == (Weight.SOUND, True), tried
    assert len(people.heard("Test message 試験通知: portfolio")) == 1
    assert found(message=False).found == tried.found
    with client_of(stage.server) as client:
        begun = [str(each.expected_start_time) for each in runs_of(client, "tell", "people")]
    assert begun == sorted(begun, reverse=True), "the newest first"
    last = told(stage, 1)[0]
    state = {"type": "FAILED", "name": "Failed", "message": "NOT told custom-webhook/ops: HTTP 503"}
    stage.post(f"/flow_runs/{last['id']}/set_state", {"state": state, "force": True})
    assert (found(message=False).weight, "HTTP 503" in found(message=False).found) == (Weight.LOSS, True)
    with client_of(stage.server) as client:
        (untaken,) = client.read_automations_by_name(UNTAKEN_RUNS)
        client.pause_automation(untaken.id)
        assert UNTAKEN_RUNS in found(message=False).found, "nobody hears of a dead worker but by this one"
        client.resume_automation(untaken.id)


def test_the_address_of_the_webhook_is_told_to_nobody(stage: Stage, people: People) -> None:  # noqa: ARG001  it saved it
    kinds = ("block_documents", "automations", "events", "flow_runs", "deployments", "logs", "artifacts")
    seen = [stage.post(f"/{kind}/filter") for kind in kinds]
    assert SECRET not in json.dumps(seen)
    assert not [path for path in (stage.folder / "worker").rglob("*.log") if SECRET in path.read_text()]


@pytest.mark.soak
def test_a_run_that_does_not_end_and_one_that_no_worker_takes_are_told_of(stage: Stage, people: People) -> None:
    with client_of(stage.server) as client:
        tell = client.read_deployment_by_name("tell/people").id
        put(client, long_runs(tell, SOON / 60))
        put(client, untaken_runs(tell, SOON))
        put(client, unbegun_runs(tell, SOON))
        blocks = [notification_block(client, each) for each in NOTIFY]
        put(client, untaken_messages(blocks, SOON))
        stage.settled()  # events of runs count for the automations that the server has loaded by then
        lost = claimed_message(stage, "in the hands of a dead worker")
        late = run_of(stage, "readiness", "a look that nobody takes")
        stage.post(f"/flow_runs/{late}/set_state", {"state": {"type": "SCHEDULED", "name": "Late"}, "force": True})
        asked = run_of(stage, "evacuation", "one that asks a person")
        stage.post(f"/flow_runs/{asked}/set_state", {"state": {"type": "PAUSED", "name": "Suspended"}})
        run = run_of(stage, "evacuation", "an endless one")
        pending = run_of(stage, "evacuation", "one that a worker has taken")
        stage.post(f"/flow_runs/{pending}/set_state", {"state": {"type": "PENDING", "name": "Pending"}, "force": True})
        try:
            wait_until(lambda: people.heard("an endless one"), what="the message")
            wait_until(lambda: people.heard("that nobody takes"), what="the other one")
            wait_until(lambda: people.heard("not begun after 12 s: one that a worker"), what="the third")
            wait_until(lambda: people.heard("a dead worker\nits body"), what="what the server sends itself")
            assert "the server has sent it" in stage.ended(lost)["state"]["message"]
        finally:
            put(client, long_runs(tell, LONG_MINUTES))
            put(client, untaken_runs(tell))
            put(client, unbegun_runs(tell))
            put(client, untaken_messages(blocks))
            end(stage, late, "Crashed")
            end(stage, run, "Verified")
            end(stage, pending, "Verified")
    assert not people.heard("one that asks a person")


@pytest.mark.soak
def test_a_doctors_change_for_the_worse_is_told(stage: Stage, people: People) -> None:
    (stage.folder / "store").rename(stage.folder / "not mounted")
    try:
        assert stage.ended(stage.start("ready"))["state_name"] == "NotReady"
        wait_until(lambda: people.heard("NotReady: ready"), what="the doctor's message")
    finally:
        (stage.folder / "not mounted").rename(stage.folder / "store")
    (text,) = people.heard("NotReady: ready")
    assert "worse than before: store/canary" in text


@pytest.mark.parametrize("again", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_worker_and_flow_killed_together_are_found_and_the_next_run_carries_on(
    stage: Stage,
    people: People,
    known: set[str],
    again: bool,  # noqa: FBT001
) -> None:
    before = set(stage.incidents)
    stage.settled()  # the ends of earlier runs are told
    heard = len(told(stage, 1))
    with client_of(stage.server) as client:
        blocks = [notification_block(client, each) for each in NOTIFY]
        put(client, silent_runs(SOON))
        put(client, untaken_messages(blocks, SOON))
        stage.settled()
        try:
            run = stage.start("evacuate")
            wait_until(lambda: _in_hand(stage, before), what="the freeze")
            for process in stage.family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            ended = stage.ended(run)
            wait_until(lambda: people.heard("Crashed: evacuate"), what="the message")
        finally:
            put(client, silent_runs(RUN_SILENT_SECONDS))
            put(client, untaken_messages(blocks))
    assert (ended["state_name"], ended["state_type"]) == ("Crashed", "CRASHED")
    assert "Run the deployment again" in ended["state"]["message"]
    assert stage.runs(known={*known, run}) == [], "a failing evacuation sets off no other"
    stage.worker.restart()
    assert stage.ended(stage.start("evacuate"))["state_name"] == "Verified"
    (home,) = set(stage.incidents) - before
    assert stage.small.living() == []
    _told_once(stage, people, home, heard, again=again)


def _told_once(stage: Stage, people: People, home: Path, heard: int, *, again: bool) -> None:
    """The crash, containment and the end were told, and carrying the incident on `again` tells neither."""
    wait_until(lambda: len(people.heard(home.name)) >= 2, what="both messages")
    runs = told(stage, heard + 3)
    if again:
        assert stage.ended(stage.start("evacuate", incident_id=home.name))["state_name"] == "Verified"
        assert [each["state"]["message"][:11] for each in told(stage, heard + 5)[:2]] == ["told before"] * 2
    assert len(people.heard("Crashed: evacuate")) == 1, "the server sent it, and no worker does later"
    contained, ended = sorted(
        people.heard(home.name)
    )  # two runs at once, as so small a workload is evacuated in no time
    assert contained.startswith(f"Contained: evacuate {NAME}\n{home.name}: {NAME} on ")
    assert ended.startswith(f"Verified: evacuate {NAME}\n{home.name}: VERIFIED")
    for words in ("封じ込め完了", "Stopped 停止: ", "nothing of the workload runs", "Who acts 対応", "Next 次"):
        assert words in contained
    entries = [json.loads(line) for line in (home / "custody.jsonl").read_text().splitlines()]
    checked = next(
        each for each in entries if each.get("step_id") == "prove_contained" and each["action"] == "step done"
    )
    begun = next(each["start_time"] for each in runs if each["name"].startswith("tell Contained"))
    took = datetime.fromisoformat(begun) - datetime.fromisoformat(checked["utc"])
    print(f"from containment to the message's run: {took.total_seconds():.1f} s")
    assert took < timedelta(minutes=1)


def _in_hand(stage: Stage, before: set[Path]) -> bool:
    """The incident that has been opened since then has written down whom it has frozen."""
    return any((home / FROZEN).exists() for home in set(stage.incidents) - before)
