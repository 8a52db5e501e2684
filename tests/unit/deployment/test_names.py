"""Deployments are named for what they do."""

import re
from typing import Any, Final

import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint

from blocks import Fleet
from tasks.custody.incident.deployment_names import deployment_name
from tasks.fleet.hosts import hosts_of
from tasks.system.files.shared_files import SHARED
from tests.unit.fleet.test_opening import Server as Fleets

FILES: Final = ("prefect.yaml", "examples/fleet/fleet.yaml")
ENTRIES: Final = [each for name in FILES for each in yaml.safe_load((SHARED / name).read_text())["deployments"]]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["entrypoint"])
def test_each_deployment_has_the_name_that_messages_tell_a_person_to_run(entry: dict[str, Any]) -> None:
    flow: Any = load_flow_from_entrypoint(entry["entrypoint"])
    assert re.sub(r"\{\{.*\}\}", "house", entry["name"]) == deployment_name(flow.name, "house")


def test_no_two_deployments_of_a_workload_and_a_fleet_of_one_name_look_alike() -> None:
    names = [re.sub(r"\{\{.*\}\}", "house", entry["name"]) for entry in ENTRIES]
    assert len(names) == len(set(names)) == 12
    assert {"evacuate-house", "rehearse-house", "ready-house"} <= set(names)


def test_a_fleet_takes_the_deployment_that_is_named_for_the_workload() -> None:
    found = hosts_of(Fleets("gpu1"), Fleet(workloads=["gpu1", "gpu2"], store="s"))  # type: ignore[arg-type]
    assert [(host.name, bool(host.deployment)) for host in found] == [("gpu1", True), ("gpu2", False)]
    other = hosts_of(Fleets("house"), Fleet(workloads=["evacuate-house"], store="s"))  # type: ignore[arg-type]
    assert [(host.name, bool(host.deployment)) for host in other] == [("evacuate-house", False)]
