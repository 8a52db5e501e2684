"""What a canary's flight tells of the worker that took it, and what did not arrive."""

import json
import os
import socket
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from blocks.workload import Workload
from tasks.readiness import server
from tasks.readiness.canary import CanaryAnswer, Flight, answer
from tasks.readiness.check_target import CheckTarget
from tasks.system.installation import WORKER_VERSION, fingerprint

OURS = {"version": fingerprint(), "worker": fingerprint(), "user": os.geteuid(), "host": socket.gethostname()}


def flown(**heard: Any) -> Flight:
    return Flight(0.2, 1.5, "Completed", CanaryAnswer(**{**OURS, **heard}))


@pytest.mark.parametrize(
    ("flight", "weight", "told"),
    [
        (flown(), "sound", "event to run 0.2 s, to its end 1.5 s"),
        (Flight(), "loss", "the event has made no run"),
        (Flight(0.2), "fatal", "it waits"),
        (Flight(0.2, 3.0, "Crashed"), "fatal", "Crashed"),
        (flown(host="elsewhere"), "fatal", "it ran on elsewhere"),
        (flown(user=12345), "loss", "the worker runs as user 12345"),
        (flown(worker="0.0.9+old"), "loss", "the worker is 0.0.9+old"),
        (flown(worker=""), "loss", "the worker is none of ours"),
        (flown(version="0.0.9+old", worker="0.0.9+old"), "loss", "runs are 0.0.9+old"),
    ],
)
def test_a_flight_is_weighed(flight: Flight, weight: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "asking", nullcontext)
    monkeypatch.setattr(server, "fly", lambda *_: flight)
    found = server.check_canary(CheckTarget("a", Workload(root=Path("/srv/a")), "a", {}))
    assert (found.weight, told in found.found) == (weight, True), found.found


def test_a_run_answers_with_its_version_and_that_of_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKER_VERSION, "of the worker")
    assert json.loads(answer()) == {**OURS, "worker": "of the worker"}
    monkeypatch.delenv(WORKER_VERSION)
    assert json.loads(answer())["worker"] == ""
