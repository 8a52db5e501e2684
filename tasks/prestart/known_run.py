"""Ask what the server knows of a flow run, each fact once and only if it is needed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import quote

from tasks.custody.incident.description import EMPTY, recognisable
from tasks.prestart.prefect_http import ask_server
from tasks.prestart.reasons import NotNow

_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_OVER: Final = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED", "CANCELLING"}
_OVER_SECONDS: Final = 5.0


@dataclass(frozen=True)
class KnownRun:
    """A flow run. `facts` are the server's answers so far, JSON values that another process may be given.

    `time` tells the time by the server's clock: this host's may be wrong.
    """

    id: str
    ask: Callable[..., Any]
    facts: dict[str, Any] = field(default_factory=dict)
    time: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def parameters(self) -> dict[str, Any]:
        """Its parameters."""
        return dict(self._run["parameters"])

    @property
    def flow(self) -> str:
        """Name of its flow."""
        return str(self._once("flow", lambda: self.ask(f"/flows/{self._run['flow_id']}")["name"]))

    @property
    def due(self) -> bool:
        """Whether it is to start now. A second's grace for clocks: a run that is asked for now may be dated later."""
        start = self._at("expected_start_time")
        return not start or start <= (self.requested_at or _NEVER) + timedelta(seconds=1) or start <= self.time()

    @property
    def requested_at(self) -> datetime | None:
        """When it was requested, by the server's clock."""
        return self._at("created")

    @property
    def was_begun(self) -> bool:
        """Whether it has run before, so that this is a retry; if the server does not say, it may have."""
        return self._run.get("run_count") != 0

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of its workload block. Raises KeyError or ValueError as `recognisable` does, or without a host."""
        return dict(self._once("fields", self._fields))

    @property
    def _run(self) -> Mapping[str, Any]:
        run: Mapping[str, Any] = self._once("run", lambda: self.ask(f"/flow_runs/{self.id}"))
        return run

    def _at(self, name: str) -> datetime | None:
        at = self._run.get(name)
        return datetime.fromisoformat(at) if at else None

    def _fields(self) -> Any:
        name = quote(str(self.parameters["workload"]), safe="")
        saved = self.ask(f"/block_types/slug/workload/block_documents/name/{name}")["data"]
        given = {field: value for field, value in saved.items() if value not in EMPTY}
        return recognisable(given, given["host"])

    def _once(self, name: str, question: Callable[[], Any]) -> Any:
        if name not in self.facts:
            self.facts[name] = question()
        return self.facts[name]


@contextmanager
def known_run(
    environment: Mapping[str, str], facts: dict[str, Any], time: Callable[[], datetime] | None = None
) -> Iterator[KnownRun]:
    """Yield the flow run that the environment names, of which `facts` are known and grow. It asks by one connection.

    `time` tells the server's time, if that is known; else the server is asked for it.
    """
    with ask_server(environment) as ask:
        yield KnownRun(environment.get("PREFECT__FLOW_RUN_ID", ""), ask, facts, time or ask.time)


def is_over(environment: Mapping[str, str], key: str = "") -> bool:
    """Return whether the server says that the run of this environment has ended, or knows none.

    If it knows a run with the idempotency key, that one counts. A run is not over because its server does not answer.
    Without a server it is.
    """
    if "PREFECT_API_URL" not in environment:
        return True
    wanted: dict[str, Any] = {"id": {"any_": [environment.get("PREFECT__FLOW_RUN_ID", "")]}}
    if key:
        wanted |= {"operator": "or_", "idempotency_key": {"any_": [key]}}
    with suppress(NotNow, OSError, HTTPException, ValueError, KeyError, TypeError):
        with ask_server(environment, _OVER_SECONDS) as ask:
            runs = ask("/flow_runs/filter", {"flow_runs": wanted})
        runs = [run for run in runs if key and run["idempotency_key"] == key] or runs
        return all(run["state_type"] in _OVER for run in runs)
    return False
