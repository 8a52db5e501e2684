"""The workloads of examples/ whose APIs are not the runbook's: evacuated, recovered by contract, audited, pulled."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.blocks.system import Secret
from prefect.client.schemas.objects import State

from flows.recover import recover
from tasks.audit.verify import verify_incident
from tasks.custody.audit.finding import AuditWord
from tasks.latest.pull import pull
from tests.support.examples_at_work import KEY, ExampleWorkload
from tests.support.scenes import Scene
from tests.support.workloads import wait_until


@pytest.fixture
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ExampleWorkload]:
    """The example that the test names, in place of the small workload."""
    with ExampleWorkload(request.param, tmp_path / "work load", f"k{uuid4().hex[:12]}") as workload:
        yield workload


def bring_back(scene: Scene) -> State[Any]:
    """Run the flow here."""
    return recover(scene.name, scene.name, return_state=True)


def ask(scene: Scene, **headers: str) -> Any:
    """One prediction, as a client asks for it."""
    block = scene.block
    body = json.dumps(block.canary_request).encode()
    request = urllib.request.Request(f"{block.api_address}{block.predict_path}", body, headers)  # noqa: S310  http
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        return json.load(answer)


def told(scene: Scene, number: int) -> dict[str, Any]:
    """What a record says of the recovery."""
    content: dict[str, Any] = json.loads((scene.home / f"record/{number:03d}/verdict.json").read_bytes())
    found: dict[str, Any] = content["recovery"]
    return found


def assert_it_is_proven_and_can_be_pulled(scene: Scene, into: Path, model: str) -> None:
    """An audit by the store alone finds nothing, and the promoted model comes back as it is."""
    found = verify_incident(scene.store, scene.home.name, None, deep=False)
    assert found.word is not AuditWord.BROKEN, found.summary
    into.mkdir()
    assert pull(scene.store, "latest", into).is_complete
    assert (into / model).read_bytes() == (scene.small.root / model).read_bytes()


@pytest.mark.soak
@pytest.mark.parametrize("small", ["gunicorn"], indirect=True)
def test_gunicorn_with_a_key_is_left_up_without_it_and_recovered_with_it(
    scene: Scene, small: ExampleWorkload, tmp_path: Path
) -> None:
    small.start_api()
    wait_until(lambda: len(small.living()) == 3, what="the master and its workers")
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    assert small.living() == []
    reference = scene.block.api_headers
    scene.save(workload=small.block(api_headers="secret/there-is-none"))
    state = bring_back(scene)
    assert (state.type.value, state.name) == ("FAILED", "PartlyRecovered"), state.message
    url = scene.block.api_address
    assert f"that it is healthy: {url}/api/health/heartbeat answers HTTP 401" in str(state.message)
    assert "api_headers" in str(state.message)
    assert "secret/there-is-none; got ObjectNotFound" in str(state.message), "which keeps no API down"
    wait_until(lambda: len(small.living()) == 3, what="its workers, left up")
    Secret(value=json.dumps({"token": KEY})).save(reference.partition("/")[2])
    scene.save(workload=small.block(api_headers=reference))
    state = bring_back(scene)
    assert (state.type.value, state.name) == ("COMPLETED", "Recovered"), state.message
    recovery = told(scene, 3)
    assert (recovery["model"], recovery["prediction"]) == ("models/house.pkl", "121000.0")
    assert recovery["sha256"]
    assert ask(scene, token=KEY) == {"result": {"median_house_value": 121000.0, "currency": "USD"}}
    assert [path for path in scene.home.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []
    assert_it_is_proven_and_can_be_pulled(scene, tmp_path / "pulled", "models/house.pkl")


@pytest.mark.parametrize("small", ["scoring"], indirect=True)
@pytest.mark.soak
def test_a_model_folder_is_served_again_only_as_it_was_sealed(
    scene: Scene, small: ExampleWorkload, tmp_path: Path
) -> None:
    small.start_api()
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    assert small.living() == []
    model, server = small.root / "models/churn/model.pkl", small.root / "serve.py"
    sealed, program = model.read_bytes(), server.read_text()
    model.write_bytes(sealed + b" ")
    state = bring_back(scene)
    assert (state.type.value, state.name) == ("FAILED", "NotRecovered"), state.message
    assert f"the API at {scene.block.api_address} to serve sha256" in str(state.message)
    assert not [*small.root.rglob("api-restart*"), *scene.home.glob("api-restart.log")], "it was started"
    model.write_bytes(sealed)
    fetch = f"    Path({str(model)!r}).write_bytes({sealed + b' '!r})\n"
    server.write_text(program.replace("    Scoring.model = load", f"{fetch}    Scoring.model = load"))
    state = bring_back(scene)
    assert (state.type.value, state.name) == ("FAILED", "NotRecovered"), state.message
    assert "models/churn/model.pkl: sha256" in str(state.message)
    assert small.living() == []
    model.write_bytes(sealed)
    server.write_text(program)
    state = bring_back(scene)
    assert (state.type.value, state.name) == ("COMPLETED", "Recovered"), state.message
    recovery = told(scene, 4)
    assert (recovery["model"], recovery["prediction"]) == ("models/churn/model.pkl", "0.0")
    assert recovery["sha256"]
    assert ask(scene) == {"predictions": [0.0]}
    assert_it_is_proven_and_can_be_pulled(scene, tmp_path / "pulled", "models/churn/model.pkl")
