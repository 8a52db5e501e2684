"""Which incident a trigger of a fleet opens, joins or carries on; and no host is lost before the first order."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from blocks.fleet import Fleet
from tasks.custody.errors import Refused
from tasks.custody.fleet.host_order import new_fleet_id
from tasks.custody.fleet.incident import FleetIncident
from tasks.fleet import opening
from tasks.fleet.claim import mark_settled
from tasks.fleet.hosts import hosts_of
from tasks.fleet.opening import JoinedFleet, Trigger, open_fleet
from tests.support.prefect_http import Dated
from tests.unit.fleet.test_orders import http_error

NOW = datetime.now(UTC)
FLOW = uuid4()


class Server(Dated):
    """What of a Prefect server an opening needs."""

    def __init__(self, *names: str) -> None:
        """Deploy evacuations of these workloads."""
        self.variables, self.artifacts = dict[str, Any](), list[Any]()
        self.final = set[str]()
        self.names = names
        self.errors, self.updated = set[str](), NOW
        self.before_create: Callable[[], object] = lambda: None

    def fail(self, what: str) -> None:
        """Answer 500 the first time that this is asked."""
        if what in self.errors:
            self.errors.remove(what)
            raise http_error(500)

    def read_variable_by_name(self, name: str) -> Any:
        """A variable."""
        self.fail("read")
        return SimpleNamespace(value=self.variables[name], updated=self.updated) if name in self.variables else None

    def create_variable(self, variable: Any) -> None:
        """Unique by name."""
        self.fail("claim")
        self.before_create()
        if variable.name in self.variables:
            raise ObjectAlreadyExists(Exception("409"))
        self.variables[variable.name] = variable.value

    def update_variable(self, variable: Any) -> None:
        """Another value."""
        self.variables[variable.name] = variable.value

    def delete_variable_by_name(self, name: str) -> None:
        """Gone."""
        del self.variables[name]

    def create_artifact(self, artifact: Any) -> None:
        """Kept."""
        self.artifacts.insert(0, artifact)
        self.fail("list")

    def read_latest_artifacts(self, artifact_filter: Any, **_: object) -> list[Any]:
        """By key, or all, the last first."""
        wanted = artifact_filter.key
        return [each for each in self.artifacts if wanted.like_ or each.key in wanted.any_]

    def request(self, method: str, path: str, json: Any = None, **_: Any) -> httpx.Response:
        """Give a page of deployments."""
        assert (method, path) == ("POST", "/deployments/filter")
        wanted = set(json["deployments"]["name"]["any_"]) if "name" in json["deployments"] else None
        there = [(f"evacuate-{name}", name) for name in self.names]
        found = [pair for pair in there if wanted is None or pair[0] in wanted]
        about = {"work_pool_name": "p", "work_queue_name": "q", "tags": ["cluster"], "flow_id": str(FLOW)}
        rows = [
            {"name": name, "id": str(uuid4()), "parameters": {"workload": workload, "store": "s"}, **about}
            for name, workload in found[json["offset"] :][: json["limit"]]
        ]
        return httpx.Response(200, json=rows)

    def read_block_document_by_name(self, name: str, slug: str) -> Any:
        """A fleet of three workloads, or its store."""
        assert (name, slug) in {("lab", "fleet"), ("s", "evidence-store")}
        fields = {"workloads": ["gpu1", "gpu2", "gpu3"], "store": "s"} if slug == "fleet" else {}
        return SimpleNamespace(data=fields)

    def read_flow_by_name(self, name: str) -> Any:
        """That of the evacuations."""
        assert name == "evacuate"
        if "flow" in self.errors:
            raise ObjectNotFound(Exception("404"))
        return SimpleNamespace(id=FLOW)

    def read_flow_run(self, run: UUID) -> Any:
        """A run that is at work unless it is told otherwise."""
        if "gone" in self.final:
            raise ObjectNotFound(Exception("404"))
        return SimpleNamespace(state=SimpleNamespace(is_final=lambda: str(run) in self.final))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server with two evacuations, and a fleet of three workloads."""
    made = Server("gpu1", "gpu2")

    @contextmanager
    def client(**_: object) -> Iterator[Server]:
        yield made

    monkeypatch.setattr(opening, "get_client", client)
    monkeypatch.setattr(opening, "load_block", lambda *_: Fleet(workloads=["gpu1", "gpu2", "gpu3"], store="s"))
    monkeypatch.setattr(opening, "require_store", lambda *_: {})
    return made


def trigger(**changes: Any) -> Trigger:
    given = Trigger("lab", "why", "graceful", False, None, False, str(uuid4()), NOW, "a person")
    return replace(given, **changes)


def opened(asked: Trigger) -> FleetIncident:
    found = open_fleet.fn(asked)
    assert isinstance(found, FleetIncident)
    return found


def test_the_list_is_written_down_with_the_host_that_is_not_deployed(server: Server) -> None:
    asked = trigger()
    incident = opened(asked)
    assert [(host.name, host.problem) for host in incident.hosts] == [
        ("gpu1", ""),
        ("gpu2", ""),
        ("gpu3", "no deployment evacuate/evacuate-gpu3"),
    ]
    assert server.variables["fleet_lab"]["fleet"] == incident.id
    assert opened(asked) == incident, "the same run again finds its own, as it was frozen"
    assert len(server.artifacts) == 1


@pytest.mark.slow
@pytest.mark.parametrize("what", ["read", "list", "claim"])
def test_an_error_of_the_server_keeps_no_fleet_from_its_orders(server: Server, what: str) -> None:
    server.errors.add(what)
    asked = trigger()
    incident = opened(asked)
    assert not server.errors
    assert len(server.artifacts) == 1, "the list is written once"
    claim = server.variables["fleet_lab"]
    assert (claim["fleet"], claim["run"]) == (incident.id, asked.run)


def test_a_second_trigger_joins_the_run_at_work_and_carries_on_one_that_has_ended(server: Server) -> None:
    first = trigger()
    incident = opened(first)
    server.names = ("gpu1",)
    joined = open_fleet.fn(trigger())
    assert isinstance(joined, JoinedFleet)
    assert joined.incident == incident
    assert first.run in joined.summary
    server.final.add(first.run)
    again = trigger()
    assert opened(again) == incident, "the list of the first one, whatever is deployed by now"
    assert server.variables["fleet_lab"]["run"] == again.run
    server.final.add("gone")
    assert opened(trigger()) == incident, "a run that was deleted is at work no more"


@pytest.mark.parametrize(
    "damage", [{"not_after": "soon"}, {"not_after": 7}, {"run": "x"}, {"fleet": "x"}, {"fleet": None}, {"run": None}]
)
def test_a_claim_that_cannot_be_read_is_none(server: Server, damage: dict[str, Any]) -> None:
    first = opened(trigger())
    server.variables["fleet_lab"] |= damage
    asked = trigger()
    assert opened(asked).id != first.id
    assert server.variables["fleet_lab"]["run"] == asked.run
    assert isinstance(open_fleet.fn(trigger()), JoinedFleet)


def test_a_claim_of_an_incident_that_nobody_knows_blocks_no_trigger(server: Server) -> None:
    stray = new_fleet_id(NOW, "lab", "0000")
    server.variables["fleet_lab"] = {
        "fleet": stray,
        "run": str(uuid4()),
        "not_after": (NOW + timedelta(minutes=50)).isoformat(),
    }
    incident = opened(trigger())
    assert server.variables["fleet_lab"]["fleet"] == incident.id, "its list would have been written before the claim"
    assert isinstance(open_fleet.fn(trigger()), JoinedFleet)


def test_no_claim_stands_longer_than_an_order_whatever_it_says(server: Server) -> None:
    first = opened(trigger())
    server.variables["fleet_lab"]["not_after"] = "2099-01-01T00:00:00+00:00"
    assert isinstance(open_fleet.fn(trigger()), JoinedFleet)
    server.updated = NOW - timedelta(seconds=first.order_seconds + 1)
    assert opened(trigger()).id != first.id


@pytest.mark.parametrize("hours", [-3, 3])
def test_orders_go_by_the_servers_clock_and_not_by_this_hosts(server: Server, hours: int) -> None:
    server.ahead = server_ahead = timedelta(hours=hours)
    incident = opened(trigger())
    assert abs(incident.opened_at - NOW - server_ahead) < timedelta(minutes=10)
    server.updated = NOW + server_ahead
    assert isinstance(open_fleet.fn(trigger()), JoinedFleet), "its orders stand, by that clock"


@pytest.mark.usefixtures("server")
def test_orders_count_from_the_opening_and_the_id_from_the_trigger() -> None:
    asked = trigger(created=NOW - timedelta(hours=8))
    incident = opened(asked)
    assert incident.id.startswith(f"FL-{asked.created:%Y%m%dT%H%M%SZ}-lab-")
    assert not incident.order(incident.hosts[0], 1, NOW).is_expired(NOW + timedelta(minutes=59))
    assert isinstance(open_fleet.fn(trigger()), JoinedFleet), "it is open"
    assert opened(asked) == incident, "as it was written"


def test_a_retry_is_joined_as_long_as_its_orders_stand(server: Server) -> None:
    first = trigger()
    incident = opened(first)
    server.final.add(first.run)
    old = (NOW - timedelta(hours=2)).isoformat()
    server.artifacts[0].data = server.artifacts[0].data.replace(incident.opened_at.isoformat(), old)
    again = trigger(retry=True)
    assert opened(again).id == incident.id
    joined = open_fleet.fn(trigger())
    assert isinstance(joined, JoinedFleet)
    assert again.run in joined.summary


def test_of_two_at_once_one_joins(server: Server) -> None:
    first, second = trigger(), trigger()

    def first_is_quicker() -> None:
        server.before_create = lambda: None
        opened(first)

    server.before_create = first_is_quicker
    joined = open_fleet.fn(second)
    assert isinstance(joined, JoinedFleet)
    assert first.run in joined.summary


@pytest.mark.parametrize("how", ["settled", "expired"])
def test_what_is_settled_or_long_over_is_not_joined(server: Server, how: str) -> None:
    first = trigger()
    incident = opened(first)
    if how == "expired":
        server.variables["fleet_lab"]["not_after"] = (NOW - timedelta(seconds=1)).isoformat()
    else:
        mark_settled(server, incident, str(uuid4()))  # type: ignore[arg-type]
        assert server.variables, "another run does not say so"
        mark_settled(server, incident, first.run)  # type: ignore[arg-type]
    fresh = opened(trigger())
    assert fresh.id != incident.id
    assert server.variables["fleet_lab"]["fleet"] == fresh.id
    retried = opened(trigger(retry=True, fleet_id=incident.id))
    assert retried == incident
    assert server.variables["fleet_lab"]["fleet"] == fresh.id, "the newer one stays open"
    joined = open_fleet.fn(trigger(created=first.created, run=first.run))
    assert isinstance(joined, JoinedFleet), "the first run, tried again, belongs to the newer one"


@pytest.mark.usefixtures("server")
def test_an_incident_that_nobody_knows_is_refused() -> None:
    for asked in (trigger(retry=True), trigger(fleet_id="FL-20260101T000000Z-lab-0000"), trigger(fleet_id="IR-1")):
        with pytest.raises(Refused, match="incident"):
            open_fleet.fn(asked)
    opened(trigger())
    with pytest.raises(Refused, match="an incident of the fleet other"):
        open_fleet.fn(trigger(fleet="other", retry=True))


def test_no_host_is_lost_between_the_pages_of_the_server() -> None:
    names = [f"gpu{number:03d}" for number in range(401)]
    found = hosts_of(Server(*names), Fleet(tag="cluster", workloads=["web"], store="s"))  # type: ignore[arg-type]
    assert [host.name for host in found] == [*names, "web"]


@pytest.mark.parametrize("none", [False, True], ids=["another", "none"])
def test_a_deployment_of_another_flow_is_no_host_of_the_fleet(monkeypatch: pytest.MonkeyPatch, *, none: bool) -> None:
    server: Any = Server("gpu1")
    if none:
        server.errors.add("flow")
    else:
        monkeypatch.setattr(server, "read_flow_by_name", lambda _: SimpleNamespace(id=uuid4()))
    (host,) = hosts_of(server, Fleet(tag="cluster", workloads=["gpu1"], store="s"))
    assert "no deployment" in host.problem
