"""Define the types of form fields. A form refuses what does not fit before a run begins."""

from typing import Annotated, Any, TypeAlias

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from tasks.custody.fleet.host_order import FLEET_PATTERN
from tasks.custody.incident.incident import ID_PATTERN

BlockName: TypeAlias = SkipJsonSchema[Annotated[str, Field(min_length=1, max_length=200)]]
"""Which block a deployment is of: its own parameters say so, and its form does not ask a person."""
AnyIncidentId: TypeAlias = Annotated[str, Field(json_schema_extra={"pattern": f"{ID_PATTERN}|^{FLEET_PATTERN}$"})]
IncidentId: TypeAlias = Annotated[str, Field(json_schema_extra={"pattern": ID_PATTERN})]
FleetId: TypeAlias = Annotated[str, Field(json_schema_extra={"pattern": f"^({FLEET_PATTERN})?$"})]
Sentence: TypeAlias = Annotated[str, Field(max_length=2000)]
HandedOver: TypeAlias = SkipJsonSchema[dict[str, Any] | None]
"""What an automation or a fleet hands over: in no person's form, and never refused at a deployment of any version."""
