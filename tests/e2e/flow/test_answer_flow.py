"""What nobody knows has a word of its own, and a person answers it: by the form of a server, or by hand."""

import json
import os

import psutil

from flows.answer import answer
from flows.recover import recover
from tasks.audit.verify import verify_incident
from tasks.cli.next_step import Called
from tasks.cli.status import status
from tasks.custody.audit.finding import AuditWord
from tasks.custody.errors import Refused
from tasks.host.host import LinuxHost
from tasks.incident.layout import UNKNOWN
from tests.support.scenes import Scene

LINE = "bystanders = ['^sleep 611$']"
WHY = "its working directory is in the root, and nothing proves it harmless"


def refused(scene: Scene, pid: int, incident: str) -> str:
    state = answer(scene.name, scene.name, incident, pid, "bystander", "ana", return_state=True)
    reason = state.result(raise_on_failure=False)
    assert isinstance(reason, Refused), state.message
    return str(reason)


def test_who_is_not_known_is_asked_about_and_excused_for_this_incident(scene: Scene, stranger: psutil.Process) -> None:
    scene.small.start_all()
    state = scene.evacuate()
    incident, told = scene.home.name, str(state.message)
    assert (state.name, state.is_failed()) == ("Unanswered", True)
    assert "Safe: everything that is known of the workload is stopped; 1 process not known to be harmless; " in told
    assert f"{stranger.pid} is not known: sleep 611: {WHY}" in told
    assert f"evacuation answer evacuation.toml:{scene.name} {incident} {stranger.pid} bystander (or: end)" in told
    assert "the workload is contained" not in told
    record = scene.home / "record/001"
    page = (record / "postmortem.md").read_text()
    assert all(
        word in page for word in ("UNANSWERED", "未回答のプロセスあり", f"{stranger.pid} is not known: sleep 611")
    )
    assert json.loads((record / "closing.json").read_bytes())["verdict"] == "UNANSWERED"
    assert verify_incident(scene.store, incident, None, deep=False).word is not AuditWord.BROKEN
    assert not list(scene.store.list("latest/")), "latest/ waits"

    back = recover(scene.name, scene.name, incident, return_state=True)
    assert "nobody has answered what they are" in str(back.result(raise_on_failure=False))
    lines = list(status(scene.block, LinuxHost(root=scene.block.root), Called(scene.name, "one.toml")))
    assert f"unknown   process {stranger.pid}: sleep 611: {WHY}; what started it is gone 起動元は終了済み" in lines
    assert f"          evacuation answer one.toml {incident} {stranger.pid} end" in lines

    assert f"did not know: {stranger.pid}; got {os.getpid()}" in refused(scene, os.getpid(), incident)
    asked = scene.home / UNKNOWN
    (row,) = json.loads(asked.read_bytes())
    other = row | {"identity": row["identity"] | {"start": row["identity"]["start"] + 1}}
    asked.write_text(json.dumps([other]))
    assert "another one that has its pid now" in refused(scene, stranger.pid, incident)
    asked.write_text(json.dumps([row]))

    last = answer(scene.name, scene.name, incident, stranger.pid, "bystander", "Hanako", "her sleep", return_state=True)
    assert last.name == "Verified", last.message
    assert f"was answered by Hanako: bystander; to keep it, in the workload block: {LINE}" in str(last.message)
    assert "the workload is contained" in str(last.message)
    assert stranger.status() != psutil.STATUS_STOPPED
    assert list(scene.store.list("latest/"))
    log = [json.loads(line) for line in (scene.home / "custody.jsonl").read_text().splitlines()]
    (entry,) = [each for each in log if each["action"] == "process answered"]
    assert (entry["by"], entry["decision"], entry["reason"]) == ("Hanako", "bystander", "her sleep")
    assert verify_incident(scene.store, incident, None, deep=False).word is not AuditWord.BROKEN
    assert f"{incident}; none is open" in refused(scene, stranger.pid, incident)
    assert len(scene.incidents) == 1
