"""A worker knows the deployments that are made by this project, and takes no other run for one of them."""

import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tasks.custody.errors import Refused
from tasks.deployment import register
from tasks.deployment.deployments import render
from tasks.system.files.shared_files import SHARED
from tasks.system.own_runs import ENGINES, FLOWS, engine_of, entrypoint_of

FILES = ("prefect.yaml", "examples/fleet/fleet.yaml")


def deployment(entrypoint: str = "flows.evacuate.evacuate", *steps: dict[str, Any]) -> Any:
    return SimpleNamespace(entrypoint=entrypoint, pull_steps=[*steps])


def test_it_knows_each_deployment_of_ours_by_flow_and_command() -> None:
    ours = [each for name in FILES for each in yaml.safe_load((SHARED / name).read_text())["deployments"]]
    entrypoints = {each["entrypoint"] for each in ours}
    assert f'"{(tell := "flows.tell.tell")}"' in Path(register.__file__).read_text()
    assert {*entrypoints, tell} == FLOWS
    for each in ours:
        assert entrypoint_of(deployment(each["entrypoint"])) == each["entrypoint"]
        command = each["work_pool"].get("job_variables", {}).get("command")
        text = command and render(command, {"python": sys.executable})
        assert engine_of(text) == (text.split()[-1] if text else "prefect.engine")


@pytest.mark.parametrize("engine", ENGINES)
def test_the_same_interpreter_by_another_name_is_known(engine: str) -> None:
    assert engine_of(f"{shlex.quote(str(Path(sys.executable).resolve()))} -P -m {engine}") == engine


@pytest.mark.parametrize(
    "command",
    [
        "touch /srv/x",
        "{python}",
        "{python} -c 1",
        "{python} -m flows.worker",
        "{python} -m flows.engine -c 1",
        "{python} -c 1 -m flows.engine",
        "{python} -W ignore -m flows.engine",
        "sh -m flows.engine",
        "/gone/python -m flows.engine",
        "env PYTHONPATH=/srv {python} -m flows.engine",
    ],
)
def test_no_other_command_is(command: str) -> None:
    with pytest.raises(Refused, match="as evacuation deploy writes it"):
        engine_of(command.format(python=shlex.quote(sys.executable)))


@pytest.mark.parametrize(
    "other",
    [
        None,
        deployment("evil.py:evacuate"),
        deployment("/srv/flows/evacuate.py:evacuate"),
        deployment("flows.worker.main"),
        deployment("flows.evacuate.carry_out"),
        deployment("flows.evacuate.evacuate", {"prefect.deployments.steps.run_shell_script": {"script": "true"}}),
    ],
)
def test_no_other_flow_is(other: Any) -> None:
    with pytest.raises(Refused, match="a deployment of a flow of the evacuation, without pull steps"):
        entrypoint_of(other)
