"""What the doctor says of an API that runs in a container of the block's."""

import shutil
from collections.abc import Sequence

import pytest

from tasks.custody.incident.readiness import Weight
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.workload import check_api, check_models, check_port, check_restart
from tests.support.containers import API_COMMAND, Containers
from tests.support.workloads import SmallWorkload, wait_until


def asked_of(
    small: SmallWorkload, containers: Containers, entries: Sequence[str] = (), **changes: object
) -> CheckTarget:
    fields = {"api_command": ["venv/bin/uvicorn", "api.app:app"], **changes}
    fields |= {"containers": entries} if entries else {}
    block = containers.block(small, **fields)
    return CheckTarget("small", block, "", {})


@pytest.mark.parametrize("network", ["bridge", "host"])
def test_an_api_in_a_container_needs_no_command_and_has_its_port(
    small: SmallWorkload, containers: Containers, network: str
) -> None:
    """The default command was called missing, and nobody to listen on the port that had just answered."""
    shutil.rmtree(small.root / "venv")
    name = f"{containers.mark}-api"
    if network == "host":
        containers.run([*API_COMMAND[:-1], str(containers.port)], network_mode="host", name=name)
    else:
        containers.run(API_COMMAND, ports=True, name=name)
    wait_until(lambda: containers.answers("/health"), what="the API's answer")
    restart, port = (check(asked_of(small, containers)) for check in (check_restart, check_port))
    assert (restart.weight, port.weight) == (Weight.SOUND, Weight.SOUND)
    assert "in its own again" in restart.found
    assert port.found == f"container {name} has port {containers.port}; nobody else listens there"
    missing = asked_of(small, containers, api_headers="/gone/headers.json")
    assert "api_headers" in check_restart(missing).found


def test_a_model_that_only_the_container_has_is_judged_by_a_rehearsal(
    small: SmallWorkload, containers: Containers
) -> None:
    """The doctor called it unsound, with a cure that was in the block already."""
    containers.run(API_COMMAND, ports=True)
    wait_until(lambda: containers.answers("/health"), what="the API's answer")
    for is_there in (True, False):
        target = asked_of(small, containers)
        models, api = check_models(target), check_api(target)
        assert models.weight is Weight.SOUND
        assert ("evacuation plan" in models.found) is not is_there
        assert "no model is sound" not in api.found
        shutil.rmtree(small.root / "models", ignore_errors=not is_there)
    containers.end()
    target = asked_of(small, containers)
    check_models(target)
    assert target.unsound


def test_a_container_without_the_apis_port_starts_no_api(small: SmallWorkload, containers: Containers) -> None:
    """A missing command is a loss where the API ran as a process, beside a container of the block."""
    shutil.rmtree(small.root / "venv")
    containers.run(["sh", "-c", "echo up; exec sleep 600"])
    restart, port = (check(asked_of(small, containers)) for check in (check_restart, check_port))
    assert restart.weight is Weight.LOSS
    assert "api_command" in restart.found
    assert port.found == f"nobody listens on port {containers.port}"


def test_a_proxy_of_another_container_is_somebody(small: SmallWorkload, containers: Containers) -> None:
    containers.run(API_COMMAND, ports=True)
    found = check_port(asked_of(small, containers, entries=["name=another"]))
    assert "nobody" not in found.found
    assert "docker-proxy" in found.found
