"""Orders: each host gets its own, one's error stops no other, and what has begun is left alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.custody.fleet.host_end import Closed, HostEnd, Row
from tasks.custody.fleet.host_order import Order
from tasks.custody.fleet.incident import TargetHost
from tasks.fleet import closings, follow, orders
from tasks.fleet.closings import Closings
from tasks.fleet.orders import cancel_waiting, decide, give, order_missing
from tasks.people.form import StopOrThaw
from tests.support.prefect_http import Dated
from tests.unit.custody.fleet.test_order import ID, INCIDENT

HOSTS = tuple(TargetHost(f"gpu{number}", str(uuid4()), "p", "q", "s") for number in range(1, 6))
FLEET = replace(INCIDENT, hosts=(*HOSTS, TargetHost("gpu9", problem="no deployment evacuate/gpu9")))
NOW = datetime.now(UTC)


def http_error(code: int) -> httpx.HTTPStatusError:
    answer = httpx.Response(code, text=f"answer {code}", request=httpx.Request("POST", "http://s"))
    return httpx.HTTPStatusError("no", request=answer.request, response=answer)


class Server(Dated):
    """A server that creates runs, or answers with an error, by the deployment."""

    def __init__(self) -> None:
        """Nothing is asked yet."""
        self.errors = dict[str, list[Exception | None]]()
        self.made = dict[str, dict[str, Any]]()
        self.asked = list[str]()
        self.states = dict[str, StateType]()
        self.resumed = dict[str, Any]()
        self.runs = list[Any]()
        self.limits, self.limit_error = dict[str, int](), list[Exception]()

    def read_flow_runs(self, **_: object) -> list[Any]:
        """The runs of the incident."""
        if isinstance(error := next(iter(self.runs), None), Exception):
            raise error
        return self.runs

    def create_flow_run_from_deployment(self, deployment: UUID, **about: Any) -> None:
        """One run a key."""
        self.asked.append(str(deployment))
        waiting = self.errors.get(str(deployment), [])
        if error := waiting.pop(0) if len(waiting) > 1 else next(iter(waiting), None):
            raise error
        self.made.setdefault(about["idempotency_key"], about)

    def upsert_global_concurrency_limit_by_name(self, name: str, limit: int) -> None:
        """A limit."""
        for error in self.limit_error:
            raise error
        self.limits[name] = limit

    def read_flow_run(self, run: UUID) -> Any:
        """A run in its state."""
        if error := next(iter(self.errors.get(str(run), [])), None):
            raise error
        if str(run) not in self.states:
            raise ObjectNotFound(Exception("404"))
        return SimpleNamespace(state=State(type=self.states[str(run)]))

    def set_flow_run_state(self, run: UUID, state: State) -> None:
        """Another state."""
        self.states[str(run)] = state.type

    def resume_flow_run(self, run: UUID, run_input: dict[str, Any]) -> None:
        """An answer."""
        self.resumed[str(run)] = run_input


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server in the place of Prefect's."""
    made = Server()

    @contextmanager
    def client(**_: object) -> Iterator[Server]:
        yield made

    monkeypatch.setattr(orders, "get_client", client)
    return made


@pytest.mark.slow
def test_one_hosts_error_stops_no_other_and_only_what_may_pass_is_repeated(server: Server) -> None:
    gone, locked, odd = HOSTS[0], HOSTS[1], HOSTS[2]
    server.errors[gone.deployment] = [http_error(404)]
    server.errors[locked.deployment] = [http_error(503), http_error(503), None]
    server.errors[odd.deployment] = [RuntimeError("no answer"), None]
    refused = give(FLEET, [(host, 1) for host in FLEET.hosts])
    assert set(refused) == {"gpu1"}
    assert "answer 404" in refused["gpu1"].why
    assert [server.asked.count(host.deployment) for host in (gone, locked, odd)] == [1, 3, 2]
    assert set(server.made) == {f"{ID}:gpu{number}:1" for number in range(2, 6)}


@pytest.mark.slow
def test_an_error_that_does_not_pass_is_told_once_the_patience_ends(server: Server) -> None:
    locked, odd = HOSTS[1], HOSTS[2]
    server.errors[locked.deployment] = [http_error(503)]
    server.errors[odd.deployment] = [RuntimeError("no answer")]
    refused = give(FLEET, [(host, 1) for host in FLEET.hosts], patience=0)
    assert {name: order.why.split(": ", 1)[1] for name, order in refused.items()} == {
        "gpu2": "HTTPStatusError: answer 503",
        "gpu3": "RuntimeError: no answer",
    }
    assert set(server.made) == {f"{ID}:gpu{number}:1" for number in (1, 4, 5)}


def test_the_first_orders_make_the_limit_of_senders(server: Server) -> None:
    give(FLEET, [(HOSTS[0], 1)])
    assert server.limits == {FLEET.limit: FLEET.senders}
    server.limits.clear()
    give(replace(FLEET, senders=0), [(HOSTS[0], 1)])
    assert server.limits == {}


@pytest.mark.slow
@pytest.mark.parametrize("error", [ObjectAlreadyExists(Exception("409")), http_error(503)], ids=["another's", "busy"])
def test_a_limit_that_another_trigger_makes_or_that_cannot_be_made_keeps_no_order_back(
    server: Server, error: Exception
) -> None:
    server.limit_error.append(error)
    assert give(FLEET, [(host, 1) for host in FLEET.hosts]) == {}
    assert len(server.made) == len(HOSTS)


@pytest.mark.slow
def test_a_joined_trigger_orders_what_the_opening_run_has_not(server: Server) -> None:
    carried = {"order": FLEET.order(HOSTS[0], 1, NOW).parameters}
    run = SimpleNamespace(
        parameters=carried, id=uuid4(), state=None, created=None, start_time=None, end_time=None, labels={}
    )
    server.runs = [run]
    assert order_missing.fn(FLEET) == {}
    assert set(server.made) == {f"{ID}:gpu{number}:1" for number in range(2, 6)}
    server.runs = [http_error(500)]
    assert order_missing.fn(FLEET) == {}
    assert len(server.made) == len(HOSTS), "a server that cannot tell is told all"


def test_what_is_ordered_carries_its_terms_and_the_incident_to_carry_on(server: Server) -> None:
    assert give(FLEET, [(HOSTS[0], 2)], {"gpu1": "IR-20261126T140000Z-gpu1"}) == {}
    (about,) = server.made.values()
    assert about["tags"] == [f"fleet:{ID}", "attempt:2"]
    assert about["parameters"]["incident_id"] == "IR-20261126T140000Z-gpu1"
    assert about["parameters"]["order"]["attempt"] == 2
    assert about["parameters"]["reason"] == f"credentials leaked ({ID})"
    assert give(FLEET, [(HOSTS[1], 1)], {"gpu2": ""}) == {}
    assert "incident_id" not in server.made[f"{ID}:gpu2:1"]["parameters"]


@pytest.mark.parametrize("kind", [*StateType])
def test_only_what_no_worker_has_taken_is_cancelled(server: Server, kind: StateType) -> None:
    run, gone = str(uuid4()), str(uuid4())
    server.states[run] = kind
    rows = [Row("gpu1", run=run, waits=True), Row("gpu2", run=gone, waits=True), Row("gpu3", run=run)]
    cancelled, left = cancel_waiting(server, rows, "why")  # type: ignore[arg-type]
    assert (cancelled, left) == (["gpu1"] if kind is StateType.SCHEDULED else [], ["gpu2"])
    assert server.states[run] is (StateType.CANCELLED if kind is StateType.SCHEDULED else kind)


def test_one_hosts_error_keeps_no_other_from_being_cancelled(server: Server) -> None:
    odd, run = str(uuid4()), str(uuid4())
    server.errors[odd], server.states[run] = [http_error(500)], StateType.SCHEDULED
    rows = [Row("gpu1", run=odd, waits=True), Row("gpu2", run=run, waits=True)]
    assert cancel_waiting(server, rows, "why") == (["gpu2"], ["gpu1"])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [*StateType])
def test_only_a_host_that_asks_is_answered(server: Server, kind: StateType) -> None:
    run = str(uuid4())
    server.states[run] = kind
    rows = [Row("gpu1", run=run, asks=True), Row("gpu2", run=str(uuid4()), asks=True), Row("gpu3", run=run)]
    answer = StopOrThaw(decision="stop", by="ana", why="leaked")
    decide(server, rows, answer, ID)  # type: ignore[arg-type]
    given = {"decision": "stop", "by": "ana", "why": f"leaked ({ID})"}
    assert server.resumed == ({run: given} if kind is StateType.PAUSED else {})


class Documents(Dated):
    """The store blocks that the server knows."""

    def read_block_documents_by_type(self, *_: object, **__: object) -> list[Any]:
        """One for the fleet and its hosts."""
        return [SimpleNamespace(name="s", data={"bucket": "b"}), SimpleNamespace(name="fleet", data={"bucket": "b"})]


def test_a_host_is_not_green_before_its_store_has_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    known = dict[str, Closed]()

    def read_last(_: object, __: str, incident: str, ___: str) -> Closed:
        return known[incident]

    monkeypatch.setattr(closings, "read_last", read_last)
    monkeypatch.setattr(Closings, "_root", None)
    found, documents = Closings(FLEET), Documents()

    def row(name: str) -> Row:
        told = Row(name, 1, name, HostEnd.VERIFIED, incident=f"IR-{name}", ordered=NOW)
        return found.check(documents, [told], NOW)[0]  # type: ignore[arg-type]

    later = NOW + timedelta(seconds=1)
    known["IR-gpu1"] = Closed("VERIFIED", "k", "0" * 64, later, "gpu1")
    known["IR-gpu2"] = Closed("PARTIAL", "k", "0" * 64, later, "gpu2")
    assert row("gpu1").end is HostEnd.VERIFIED
    assert row("gpu2").end is HostEnd.UNVERIFIED
    assert [row("gpu3").end for _ in range(3)] == [None, None, HostEnd.UNVERIFIED], "its store is asked three times"
    assert "could not be read" in row("gpu3").message
    nameless = found.check(documents, [Row("gpu4", 1, "r", HostEnd.VERIFIED)], NOW)[0]  # type: ignore[arg-type]
    assert nameless.end is HostEnd.UNVERIFIED, "it names no incident"
    joined = Row("gpu5", 1, "j", None, incident="IR-gpu5", ordered=NOW, joined=True, not_after=NOW + timedelta(hours=1))
    assert [found.check(documents, [joined], NOW)[0].end for _ in range(5)] == [None] * 5  # type: ignore[arg-type]
    known["IR-gpu5"] = Closed("VERIFIED", "k", "0" * 64, later, "another")
    assert found.check(documents, [joined], NOW)[0].end is HostEnd.VERIFIED  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_retry_reads_the_closings_and_what_it_could_not_order_is_ordered_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [
        Row("gpu1", 1, "a", HostEnd.VERIFIED, incident="IR-1"),
        Row("gpu2", 1, "b", HostEnd.CRASHED, incident="IR-2"),
    ]
    doubted = [replace(told[0], end=HostEnd.UNVERIFIED), told[1]]
    monkeypatch.setattr(orders, "rows_of", lambda *_: told)
    monkeypatch.setattr(orders, "check_closings", lambda *_: doubted)
    server.errors[HOSTS[1].deployment] = [http_error(404)]
    lost = orders.order_again.fn(FLEET)
    assert set(server.made) == {f"{ID}:gpu1:2"}, "its closing did not say so"
    assert (lost["gpu2"].attempt, lost["gpu2"].incident) == (2, "IR-2")
    del server.errors[HOSTS[1].deployment]
    watch, client = follow.FleetWatch(FLEET, str(uuid4())), Dated()
    monkeypatch.setattr(follow, "is_called_off", lambda *_: False)
    monkeypatch.setattr(follow, "read_handover", lambda *_: (None, {}))
    watch.problems = lost
    monkeypatch.setattr(follow, "rows_of", lambda *_: doubted)
    monkeypatch.setattr(watch.closings, "check", lambda *_: doubted)
    watch.look(client)  # type: ignore[arg-type]
    assert watch.problems == {}
    assert server.made[f"{ID}:gpu2:2"]["parameters"]["incident_id"] == "IR-2"


def test_a_retry_gives_a_host_that_never_had_an_order_one_that_stands(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "signs_of_life", lambda *_: {})
    monkeypatch.setattr(orders, "check_closings", lambda _, __, rows: rows)
    old = replace(FLEET, opened_at=NOW - timedelta(hours=2), hosts=HOSTS[:1])
    assert orders.order_again.fn(old) == {}
    (about,) = server.made.values()
    order = Order.of(about["parameters"]["order"])
    assert order
    assert not order.is_expired(NOW)
    assert old.in_time(NOW, order.attempt, NOW), "a decision on the whole fleet is one on this host"


@pytest.mark.parametrize("hours", [-3, 0, 3])
def test_who_is_silent_and_what_has_expired_goes_by_the_servers_clock(
    server: Server, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    server.ahead = timedelta(hours=hours)
    there = datetime.now(UTC) + server.ahead
    host = FLEET.hosts[0]
    monkeypatch.setattr(orders, "attempts_of", lambda *_: {})
    for age, silent in ((10, False), (60, True)):
        signs = {(host.pool, host.queue): there - timedelta(seconds=age)}
        monkeypatch.setattr(orders, "signs_of_life", lambda *_, signs=signs: signs)
        incident = replace(FLEET, opened_at=there, hosts=(host,))
        (row,) = orders.rows_of(server, incident)  # type: ignore[arg-type]
        assert (row.end is HostEnd.SILENT) is silent
        late = replace(incident, opened_at=there - timedelta(seconds=FLEET.order_seconds + 60))
        (row,) = orders.rows_of(server, late)  # type: ignore[arg-type]
        assert row.end is HostEnd.REFUSED, "no run of it came to be in time"


def test_a_store_that_does_not_answer_proves_nothing_to_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()

    def read_last(_: object, __: str, incident: str, ___: str) -> Closed:
        assert PREFECT_API_URL.value() == "http://server/api", "the server that was asked for"
        asked.append(incident)
        raise OSError("no network")

    monkeypatch.setattr(closings, "read_last", read_last)
    monkeypatch.setattr(Closings, "_root", None)
    told = [Row("gpu1", 1, "a", HostEnd.VERIFIED, incident="IR-1", ordered=NOW)]
    with temporary_settings({PREFECT_API_URL: "http://server/api"}):
        (row,) = closings.check_closings(Documents(), FLEET, told)  # type: ignore[arg-type]
    assert (row.end, len(asked)) == (HostEnd.UNVERIFIED, 3)
