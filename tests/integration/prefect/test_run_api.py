"""A run by hand has no server: what its client hears is what Prefect's own server says of the same run."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.events.clients import NullEventsClient
from prefect.events.worker import EventsWorker
from prefect.exceptions import ObjectNotFound
from prefect.flow_runs import suspend_flow_run
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_LOGGING_TO_API_ENABLED,
    get_current_settings,
    temporary_settings,
)
from prefect.states import Completed, Failed, Paused, Running

from blocks.workload import Workload
from tasks.prefect_side.local_config import asking
from tasks.prefect_side.run_api import URL, RunApi, answering

pytestmark = pytest.mark.usefixtures("prefect")
heard = dict[str, Any]()


@task(retries=1)
def fails_once() -> str:
    """The engine tries it again."""
    heard["tries"] = heard.get("tries", 0) + 1
    if heard["tries"] == 1:
        raise OSError("not yet")
    return "made"


@task
def after_a_failure() -> None:
    """Never run."""


@flow(flow_run_name="evacuate {word}")
def ends(word: str) -> State[Any]:
    """Ask whatever a run by hand asks of a server."""
    later: Any = after_a_failure
    heard["made"], heard["lost"] = fails_once.submit().result(), later.submit(wait_for=[Failed()]).state.name
    context = FlowRunContext.get()
    assert context
    assert context.flow_run
    run = context.flow_run
    artifact: Any = create_markdown_artifact("# text", key="a-key", description=word)
    with get_client(sync_client=True) as client:
        known = client.read_flow_run(run.id)
        heard["run"] = (known.id == run.id, known.name, known.parameters, known.run_count, known.state_name)
        client.update_artifact(artifact, ArtifactUpdate(data="more"))
        paused: Any = client.set_flow_run_state(run.id, Paused(timeout_seconds=600))
        heard["paused"] = paused.status, client.read_flow_run(run.id).state_name
        client.set_flow_run_state(run.id, Running())
        heard["hello"] = client.hello().status_code
        heard["unknown"] = _unknown(lambda: client.read_block_document_by_name("none", "workload"))
    heard["block"] = _unknown(lambda: Workload.load("none"))
    heard["form"] = _unknown(lambda: suspend_flow_run(timeout=5))
    return Completed(name="Verified", message="all of it") if word == "whole" else Failed(name="Partial", message=word)


def _unknown(ask: Any) -> str:
    try:
        ask()
    except (ObjectNotFound, ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}".replace(str(PREFECT_API_URL.value()), "")
    return "found"


@contextmanager
def by_hand() -> Iterator[None]:
    """No server, as in a run by hand."""
    ours = get_current_settings().api.model_copy(update={"url": URL})
    EventsWorker.set_client_override(NullEventsClient)
    with answering(RunApi()), asking(ours):
        assert PREFECT_API_URL.value() == URL
        yield
    EventsWorker.set_client_override(None)


def said(word: str) -> tuple[Any, ...]:
    heard.clear()
    state = ends(word, return_state=True)
    assert heard["made"] == "made", heard
    return state.type, state.name, state.message, dict(heard)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: False}):
        yield


@pytest.mark.parametrize("word", ["whole", "part"])
def test_a_run_without_a_server_goes_and_ends_as_on_a_server(word: str) -> None:
    there = said(word)
    with by_hand():
        here = said(word)
    assert here == there


def test_afterwards_clients_ask_their_own_server_again() -> None:
    before = PREFECT_API_URL.value()
    with by_hand():
        pass
    assert PREFECT_API_URL.value() == before
    with get_client(sync_client=True) as client:
        assert client.api_healthcheck() is None


ALONE = """
import os, psutil
from blocks.workload import Workload
from flows.command.by_hand import without_server
from tasks.prefect_side.local_config import LocalConfig
from prefect.settings import get_current_settings

def body(names, known):
    from prefect._internal.analytics import is_telemetry_enabled
    from prefect.client.orchestration import get_client
    me = psutil.Process()
    with get_client(sync_client=True) as client:
        print(client.hello().status_code, me.net_connections(), me.children(), is_telemetry_enabled(), client.api_url)
    print(known.settings.api.url)

without_server(lambda: ({}, LocalConfig(Workload(root="/srv/x"), {}, get_current_settings())), body)
os._exit(0)
"""


def test_a_run_by_hand_starts_no_server_listens_nowhere_and_tells_nobody_of_itself() -> None:
    """Whoever reached the server of a run could set its state, and name a pickle as the result."""
    nobodys = {name: value for name, value in os.environ.items() if name not in {"CI", "DO_NOT_TRACK"}}
    environment = {**nobodys, "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    done = subprocess.run([sys.executable, "-c", ALONE], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"200 [] [] False {URL}/", "http://127.0.0.1:9/api"], done.stderr
