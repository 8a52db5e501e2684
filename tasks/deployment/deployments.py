"""Create the deployments and alarms of prefect.yaml by the server's API: the same as `prefect deploy --all` makes.

That command takes seconds for each workload, which are spent on its start and on questions; here one process asks only
what it needs. What it does not know in the file is refused, not left out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import SCHEDULE_TYPES
from prefect.events import DeploymentTriggerTypes
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from pydantic import TypeAdapter

from tasks.custody.errors import Refused
from tasks.fleet.hosts import every as all_pages
from tasks.system.files.shared_files import SHARED

BUILD: Final = "tasks.deployment.build.workload"
"""The only build step that is known: it yields the values that are put in place here."""
_VARIABLE: Final = re.compile(r"\{\{ *(?:\$EVACUATION_|evacuation\.)(\w+) *\}\}")
_SAME: Final = ("description", "tags", "parameters", "enforce_parameter_schema", "entrypoint")
_POOL: Final = {"name": "work_pool_name", "work_queue_name": "work_queue_name", "job_variables": "job_variables"}
_KNOWN: Final = {*_SAME, "name", "work_pool", "concurrency_limit", "schedules", "triggers"}
_SCHEDULE: Final = TypeAdapter[SCHEDULE_TYPES](SCHEDULE_TYPES)
_TRIGGER: Final = TypeAdapter[DeploymentTriggerTypes](DeploymentTriggerTypes)
_PAGE: Final = 200
"""Names in one question."""


@dataclass(frozen=True)
class Template:
    """A deployment of prefect.yaml before its variables have values, and what the server knows of its flow."""

    entry: Mapping[str, Any]
    flow_id: UUID
    of_flow: Mapping[str, Any]

    def name(self, values: Mapping[str, str]) -> str:
        """Return the deployment's name."""
        return str(render(self.entry["name"], values))

    def fields(self, values: Mapping[str, str]) -> dict[str, Any]:
        """Return the deployment's fields as the client takes them."""
        entry = render({name: value for name, value in self.entry.items() if name != "triggers"}, values)
        limit = dict(entry.get("concurrency_limit") or {})
        return {
            **self.of_flow,
            **{name: entry[name] for name in _SAME if name in entry},
            **{field: entry["work_pool"][name] for name, field in _POOL.items() if name in entry["work_pool"]},
            **({"work_pool_name": values["pool"]} if "pool" in values else {}),
            "concurrency_limit": limit.pop("limit", None),
            "concurrency_options": limit or None,
            "pull_steps": [],
        }


def render(template: Any, values: Mapping[str, str]) -> Any:
    """Replace each `{{ evacuation.name }}` or `{{ $EVACUATION_NAME }}` by the value of `name`. Raises KeyError.

    Other placeholders stay: they are an event's.
    """
    if isinstance(template, str):
        return _VARIABLE.sub(lambda match: values[match[1].lower()], template)
    if isinstance(template, Mapping):
        return {name: render(value, values) for name, value in template.items()}
    return [render(each, values) for each in template] if isinstance(template, list) else template


def templates(client: SyncPrefectClient, name: str = "prefect.yaml") -> list[Template]:
    """Read a file and register the flows of its deployments. Raises Refused for what only `prefect deploy` knows."""
    file = yaml.safe_load((SHARED / name).read_text())
    unknown = {key for entry in file["deployments"] for key in entry.keys() - _KNOWN}
    unknown |= {step for step in ("push", "pull") if file.get(step)}
    unknown |= {f"build: {step}" for steps in file.get("build") or () for step in steps if step != BUILD}
    if unknown:
        raise Refused(
            f"{name} with deployments of {', '.join(sorted(_KNOWN))}",
            ", ".join(sorted(unknown)),
            f"Nothing was deployed. Take it out, or run `prefect deploy --all --prefect-file {name}`.",
        )
    return [template(client, entry) for entry in file["deployments"]]


def template(client: SyncPrefectClient, entry: Mapping[str, Any]) -> Template:
    """Register the flow of a deployment, and return what the server has to know of both."""
    flow: Any = load_flow_from_entrypoint(entry["entrypoint"])
    schema = parameter_schema(flow).model_dump(exclude_unset=True)
    of_flow = {"version": flow.version, "description": flow.description, "parameter_openapi_schema": schema}
    return Template(entry, client.create_flow_from_name(flow.name), of_flow)


def find_deployments(
    client: SyncPrefectClient, all_of: Sequence[Template], every: Sequence[Mapping[str, str]]
) -> dict[tuple[UUID, str], DeploymentResponse]:
    """Return the deployments that the server has already, by their flow and name."""
    names = sorted({each.name(values) for values in every for each in all_of})
    pages = [DeploymentFilterName(any_=names[at : at + _PAGE]) for at in range(0, len(names), _PAGE)]
    answers = [all_pages(client.read_deployments, deployment_filter=DeploymentFilter(name=page)) for page in pages]
    return {(each.flow_id, each.name): each for answer in answers for each in answer}


def deploy(
    client: SyncPrefectClient,
    all_of: Sequence[Template],
    values: Mapping[str, str],
    existing: Mapping[tuple[UUID, str], DeploymentResponse],
) -> None:
    """Create or update the deployments of one workload; whether one is paused, and its schedules, do not change.

    Tags that a person has added stay: a fleet may know its hosts by them.
    """
    for template in all_of:
        name, fields = template.name(values), template.fields(values)
        if current := existing.get((template.flow_id, name)):
            fields["tags"] = list(dict.fromkeys([*fields.get("tags", ()), *current.tags]))
            client.update_deployment(current.id, DeploymentUpdate(**fields))
            client.delete_resource_owned_automations(f"prefect.deployment.{current.id}")
            deployment_id = current.id
        else:
            times = map(_SCHEDULE.validate_python, render(template.entry.get("schedules") or [], values))
            schedules = [DeploymentScheduleCreate(schedule=each) for each in times]
            deployment_id = client.create_deployment(template.flow_id, name, schedules=schedules, **fields)
        for trigger in template.entry.get("triggers", ()):
            alarm = _TRIGGER.validate_python(render(trigger, values))
            alarm.set_deployment_id(deployment_id)
            client.create_automation(alarm.as_automation())
