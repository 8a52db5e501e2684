"""A run that dies with its worker, or does not end, is found and told of; a person is told how each has ended."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest

from tasks.custody.incident.ending import ENDINGS
from tasks.deployment.automations import LONG_MINUTES, SILENT_SECONDS, long_runs, put, silent_runs, untaken_runs
from tasks.deployment.register import notification_block
from tasks.drill.deployment import client_of
from tasks.incident.layout import FROZEN
from tests.e2e.triggers.conftest import Stage
from tests.support.workloads import wait_until

DOCS = Path(__file__).parents[3] / "docs/triggers.md"
NOTIFY = "custom-webhook/ops"
SOON = 12.0


class Receiver(ThreadingHTTPServer):
    """Somebody who takes what Slack takes."""

    def __init__(self) -> None:
        """On a free port of loopback."""
        super().__init__(("127.0.0.1", 0), Answer)
        self.texts: list[str] = []

    @property
    def url(self) -> str:
        """The webhook: its path is the secret."""
        return f"http://127.0.0.1:{self.server_port}/services/T0/B0/s3cr3t"


class Answer(BaseHTTPRequestHandler):
    """Keeps the text of each message."""

    server: Receiver

    def do_POST(self) -> None:
        """As an incoming webhook answers."""
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.texts.append(f"{self.path.rpartition('/')[2]} {body['text']}")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """In silence."""


@pytest.fixture(scope="module")
def people(stage: Stage) -> Iterator[Receiver]:
    """The block saved and the notifications deployed, with the lines of the docs as they stand."""
    with Receiver() as receiver:
        Thread(target=receiver.serve_forever, daemon=True).start()
        (code,) = re.findall(r"^\.venv/bin/python - <<'PY'\n(.*?)^PY$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
        stage.run([sys.executable, "-c", code], WEBHOOK=receiver.url)
        stage.deploy("--notify", NOTIFY)
        yield receiver
        receiver.shutdown()


def run_of(stage: Stage, tag: str, name: str) -> str:
    """A run that Prefect believes to be at work."""
    flow = stage.post("/flows/", {"name": "evacuate"})["id"]
    about = {"flow_id": flow, "name": name, "tags": [tag], "state": {"type": "RUNNING"}}
    return str(stage.post("/flow_runs/", about)["id"])


def end(stage: Stage, run: str, name: str) -> None:
    kind = next("COMPLETED" if each.completed else "FAILED" for each in ENDINGS if each.name == name)
    state = {"type": "CRASHED" if name == "Crashed" else kind, "name": name, "message": f"IR-1: it is {name}"}
    stage.post(f"/flow_runs/{run}/set_state", {"state": state, "force": True})


def test_people_are_told_how_an_evacuation_has_ended_and_of_nothing_else(stage: Stage, people: Receiver) -> None:
    told = ["Verified", "Partial", "Unverified", "NotContained", "Crashed", "NotRecovered"]
    for name in ("Joined", "DryRun", *told):
        end(stage, run_of(stage, "evacuation", f"run {name}"), name)
    end(stage, run_of(stage, "training", "somebody's training"), "Failed")
    end(stage, run_of(stage, "evacuation", "the last"), "Verified")
    wait_until(lambda: any("the last" in text for text in people.texts), what="the last message")
    wait_until(lambda: len(people.texts) >= len(told) + 1, what="all messages")
    assert sorted(text.splitlines()[0] for text in people.texts) == sorted(
        [f"s3cr3t {name}: run {name}" for name in told] + ["s3cr3t Verified: the last"]
    )
    assert all(f"IR-1: it is {text.split()[1].rstrip(':')}" in text for text in people.texts)
    assert all(re.search(r"http://127\.0\.0\.1:\d+/\S*flow-run/\S+", text) for text in people.texts)


def test_the_address_of_the_webhook_is_told_to_nobody(stage: Stage, people: Receiver) -> None:  # noqa: ARG001  it saved it
    seen = [stage.post(f"/{kind}/filter") for kind in ("block_documents", "automations", "events")]
    assert "s3cr3t" not in json.dumps(seen)


def test_a_run_that_does_not_end_and_one_that_no_worker_takes_are_told_of(stage: Stage, people: Receiver) -> None:
    with client_of(stage.server) as client:
        block = notification_block(client, NOTIFY)
        put(client, long_runs(block, SOON / 60))
        put(client, untaken_runs(block, SOON))
        late = run_of(stage, "readiness", "a look that nobody takes")
        stage.post(f"/flow_runs/{late}/set_state", {"state": {"type": "SCHEDULED", "name": "Late"}, "force": True})
        asked = run_of(stage, "evacuation", "one that asks a person")
        stage.post(f"/flow_runs/{asked}/set_state", {"state": {"type": "PAUSED", "name": "Suspended"}})
        run = run_of(stage, "evacuation", "an endless one")
        try:
            wait_until(lambda: any("an endless one" in text for text in people.texts), 60, what="the message")
            wait_until(lambda: any("that nobody takes" in text for text in people.texts), 60, what="the other one")
        finally:
            put(client, long_runs(block, LONG_MINUTES))
            put(client, untaken_runs(block))
            end(stage, late, "Crashed")
            end(stage, run, "Verified")
    assert not any("one that asks a person" in text for text in people.texts)


def test_a_doctors_change_for_the_worse_is_told(stage: Stage, people: Receiver) -> None:
    (stage.folder / "store").rename(stage.folder / "not mounted")
    try:
        assert stage.ended(stage.start("ready"))["state_name"] == "NotReady"
        wait_until(lambda: any("NotReady: ready" in text for text in people.texts), 60, what="the doctor's message")
    finally:
        (stage.folder / "not mounted").rename(stage.folder / "store")
    (told,) = [text for text in people.texts if "NotReady: ready" in text]
    assert "worse than before: store/canary" in told


def test_worker_and_flow_killed_together_are_found_and_the_next_run_carries_on(
    stage: Stage, people: Receiver, known: set[str]
) -> None:
    before = set(stage.incidents)
    with client_of(stage.server) as client:
        put(client, silent_runs(SOON))
        try:
            run = stage.start("evacuate")
            wait_until(lambda: _in_hand(stage, before), 60, what="the freeze")
            for process in stage.family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            ended = stage.ended(run)
        finally:
            put(client, silent_runs(SILENT_SECONDS))
    assert (ended["state_name"], ended["state_type"]) == ("Crashed", "CRASHED")
    assert "Run the deployment again" in ended["state"]["message"]
    wait_until(lambda: any(text.startswith("s3cr3t Crashed: evacuate") for text in people.texts), what="the message")
    assert stage.runs(known={*known, run}) == [], "a failing evacuation sets off no other"
    stage.worker.restart()
    again = stage.ended(stage.start("evacuate"))
    assert again["state_name"] == "Verified"
    assert len(set(stage.incidents) - before) == 1
    assert stage.small.living() == []


def _in_hand(stage: Stage, before: set[Path]) -> bool:
    """The incident that has been opened since then has written down whom it has frozen."""
    return any((home / FROZEN).exists() for home in set(stage.incidents) - before)
