"""Deployments are named for what they do; a person is told of an earlier version's, which start nothing twice."""

import re
from types import SimpleNamespace
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint

from blocks import Fleet
from tasks.custody.incident.deployment_names import deployment_name, full_name
from tasks.deployment.prefect_file import Template, deploy
from tasks.fleet.hosts import hosts_of
from tasks.readiness.former import former_deployments
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


class Server:
    """A server with deployments of an earlier version, their alarms and schedules, and an automation of a person's."""

    def __init__(self, *there: Any) -> None:
        """Remember what is asked."""
        self.there, self.made, self.gone = there, list[dict[str, Any]](), list[object]()

    def read_deployments(self, deployment_filter: Any) -> list[Any]:
        """By name."""
        return [each for each in self.there if each.name in deployment_filter.name.any_]

    def read_flow(self, flow: UUID) -> Any:
        """By the id of its deployment's flow."""
        return SimpleNamespace(name={each.flow_id: each.flow for each in self.there}[flow])

    def read_resource_related_automations(self, resource: str) -> list[Any]:
        """What starts it."""
        return [
            SimpleNamespace(name=name) for each in self.there if resource.endswith(str(each.id)) for name in each.by
        ]

    def create_deployment(self, _: object, name: str, **fields: Any) -> UUID:
        """A new one."""
        self.made.append({"name": name, **fields})
        return uuid4()

    def create_automation(self, automation: Any) -> None:
        """An alarm."""

    def delete_resource_owned_automations(self, resource: str) -> None:
        """Its alarms."""
        self.gone.append(resource)

    def delete_deployment_schedule(self, deployment: UUID, schedule: UUID) -> None:
        """One of them."""
        self.gone.append((deployment, schedule))


def former(flow: str, name: str = "house", workload: str = "house", by: tuple[str, ...] = ()) -> Any:
    nightly = SimpleNamespace(id=uuid4(), schedule={"cron": "7 3 * * *"}, active=False)
    about = {"parameters": {"workload": workload}, "tags": ["cluster"], "paused": True, "schedules": [nightly]}
    entrypoint = f"flows.{flow}.{flow}"
    return SimpleNamespace(id=uuid4(), flow_id=uuid4(), flow=flow, name=name, entrypoint=entrypoint, by=by, **about)


def test_a_deployment_takes_over_from_its_former_name_which_nothing_of_ours_starts_any_more() -> None:
    old = former("evacuate")
    server, values = Server(old), {"workload": "house"}
    entry = {"name": "evacuate-{{ evacuation.workload }}", "tags": ["evacuation"], "work_pool": {"name": "p"}}
    deploy(server, [Template(entry, old.flow_id, {})], values, {(old.flow_id, "house"): old})  # type: ignore[arg-type]
    (made,) = server.made
    assert (made["name"], made["tags"], made["paused"]) == ("evacuate-house", ["evacuation", "cluster"], True)
    assert [(each.schedule.cron, each.active) for each in made["schedules"]] == [("7 3 * * *", False)]
    assert server.gone == [f"prefect.deployment.{old.id}", (old.id, old.schedules[0].id)]


def test_what_is_todays_of_another_workload_is_no_former_one() -> None:
    """`evacuate/evacuate-house` belongs to house; an earlier version called that of evacuate-house so."""
    house = former("evacuate", "evacuate-house", "house")
    server, values = Server(house), {"workload": "evacuate-house"}
    entry = {"name": "evacuate-{{ evacuation.workload }}", "work_pool": {"name": "p"}}
    template = Template(entry, house.flow_id, {})
    deploy(server, [template], values, {(house.flow_id, "evacuate-house"): house})  # type: ignore[arg-type]
    assert (server.gone, [made["name"] for made in server.made]) == ([], ["evacuate-evacuate-house"])
    assert former_deployments(server, "evacuate-house") == ("", "")  # type: ignore[arg-type]


def test_former_names_are_told_with_what_starts_them() -> None:
    people = former("tell")
    server = Server(former("train"), former("evacuate", by=("my own alarm",)), people)
    found, cure = former_deployments(server, "house")  # type: ignore[arg-type]
    assert found.endswith(": evacuate/house, train/house; started by my own alarm")
    assert f"{full_name('evacuate', 'house')}, {full_name('train', 'house')}" in cure
    assert former_deployments(Server(people), "house") == ("", "")  # type: ignore[arg-type]


def test_a_fleet_takes_the_deployment_of_todays_name_and_else_the_former() -> None:
    server = Fleets("gpu1", former=("gpu1", "gpu2"))
    found = hosts_of(server, Fleet(workloads=["gpu1", "gpu2", "gpu3"], store="s"))  # type: ignore[arg-type]
    assert [(host.name, bool(host.deployment)) for host in found] == [("gpu1", True), ("gpu2", True), ("gpu3", False)]
    other = hosts_of(Fleets("house"), Fleet(workloads=["evacuate-house"], store="s"))  # type: ignore[arg-type]
    assert [(host.name, bool(host.deployment)) for host in other] == [("evacuate-house", False)]
