"""Keep what `evacuation init` finds of a workload, for the file that it writes."""

from dataclasses import dataclass, field
from typing import Any

from blocks.workload_fields import WorkloadFields
from tasks.recovery.api_client import Api, ApiResponse
from tasks.system.declarations import toml_value


@dataclass
class Found:
    """Values of the block's fields, the processes that they mean, and what a person has to say, by what it is about."""

    fields: dict[str, Any]
    processes: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    port: int | None = None
    formats: list[str] = field(default_factory=list)
    """Suffixes of models whose formats are not read here, and hold no pickle as a rule."""

    def add(self, name: str, value: Any) -> None:
        """Add a field, unless it has letters that no file shows as they are."""
        if toml_value(value).isprintable():
            self.fields[name] = value
        else:
            self.missing[name] = "it has letters that cannot be shown"

    def ask(self, path: str, port: int | None) -> ApiResponse:
        """GET a path of what listens on a port of loopback."""
        with Api(WorkloadFields(root=self.fields["root"], api_url=f"http://127.0.0.1:{port}")) as api:
            return api.ask("GET", path)
