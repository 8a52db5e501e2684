"""What a rehearsal asks the API that runs, and what it makes of the answers, on a real HTTP server."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tasks.custody.containment.identity import Identity
from tasks.host.process.table import start_of
from tasks.recovery.rehearsal import _is_the_workloads, answers_of, rehearse_recovery
from tests.support.answering_api import api_that
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload


def answers(**said: Any) -> dict[str, tuple[int, bytes]]:
    return {f"/{path}": (200, json.dumps(body).encode()) for path, body in said.items()}


@pytest.mark.parametrize(
    ("said", "block", "good", "bad"),
    [
        (answers(health={"model": "one.joblib"}, schema={"required_columns": ["a"]}), {}, 3, ""),
        (answers(health={"model": "one.joblib"}, schema={}), {}, 2, "/schema names no columns"),
        (answers(health={"name": "one"}, schema={"required_columns": ["a"]}), {}, 2, "nothing at /model (model_at)"),
        (answers(health={}, schema={"required_columns": ["a"]}), {"model_at": ""}, 2, ""),
        ({"/health": (401, b"a key is wanted")}, {}, 0, "HTTP 401"),
        (answers(health={"model": "one"}, score={"pred": 1}), {"predict_path": "/score", "canary_request": {}}, 3, ""),
        (answers(health={"model": "one"}, score={}), {"predict_path": "/score", "canary_request": {}}, 2, "predicts"),
    ],
)
def test_what_a_recovery_would_prove(said: Any, block: Any, good: int, bad: str) -> None:
    with api_that(said, **block) as api:
        rows = answers_of(api)
    assert sum(proven for proven, _ in rows.values()) == good
    assert any(bad in why for proven, why in rows.values() if not proven) is bool(bad)


def test_nothing_is_predicted_that_the_block_does_not_give_and_nothing_is_reloaded() -> None:
    asked = dict[str, Any](answers(health={"model": "one.joblib"}, schema={"required_columns": ["a"]}))
    with api_that(asked) as api:
        rows = answers_of(api)
    assert rows["a prediction"] == (True, 'not tried; with a row made from /schema: {"a": 0.0}')


def test_a_model_that_it_names_proves_nothing_where_none_is_sound() -> None:
    with api_that(answers(health={"model": "one.joblib"}, schema={})) as api:
        assert answers_of(api, "no model is sound")["the model"][1].endswith("and no model is sound")


def test_a_key_is_sent_to_a_process_of_the_workload_alone(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.recovery.rehearsal.secret_headers", lambda name: {"X-Key": f"key of {name}"})
    with (
        api_that({"/health": (200, b"{}")}, key=("X-Key", "key of secret/one")) as stranger,
        case_of(small.block(api_headers="secret/one", api_url=stranger.url), dry_run=True) as context,
    ):
        told = made(rehearse_recovery.fn(context, ()))
        rows = [entry for entry in context.log.entries() if entry.get("act") == "not prove"]
    (row,) = [each for each in rows if each["object"].startswith("the API")]
    assert "the key was not sent" in told.summary
    assert "the key was not sent" in row["why"]


LISTEN = (
    "import socket,sys; s=socket.create_server(('127.0.0.2', int(sys.argv[1]))); print(flush=True); sys.stdin.read()"
)


def test_no_key_is_sent_where_a_stranger_listens_on_another_address_of_the_port(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    us = Identity(os.getpid(), start_of(os.getpid()))
    monkeypatch.setattr("tasks.recovery.rehearsal.load_frozen", lambda _: {us})
    with api_that({}) as api, case_of(small.block(api_url=api.url), dry_run=True) as context:
        assert _is_the_workloads(context.workload, context.state)
        command = [sys.executable, "-c", LISTEN, api.url.rpartition(":")[2]]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stranger:
            assert stranger.stdout
            stranger.stdout.readline()
            assert not _is_the_workloads(context.workload, context.state)
            stranger.communicate()
