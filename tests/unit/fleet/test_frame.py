"""Which run sends a frame, of which hosts, and what the table says of the answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.events import Event
from prefect.events.filters import EventAnyResourceFilter
from prefect.settings import get_current_settings

from tasks.custody.audit.signers import read_signers
from tasks.custody.fleet import frame as law
from tasks.custody.fleet.frame import Frame, FrameAnswer, resource_of, verify_frame
from tasks.custody.fleet.host_end import HostEnd, Row
from tasks.custody.fleet.host_order import new_fleet_id
from tasks.custody.fleet.incident import TargetHost
from tasks.custody.fleet.table import freezes
from tasks.custody.store.manifest import canonical, digest_bytes
from tasks.drill.show_retention import write_frame_keys
from tasks.fleet import frame
from tasks.fleet.frame import answers_of, prepare
from tests.unit.custody.fleet.test_order import INCIDENT, OPENED
from tests.unit.fleet.test_opening import NOW, Server, opened, server, trigger

__all__ = ["server"]
RUN = "0" * 8 + "-0000-0000-0000-000000000000"


class Fleets(Server):
    """The server of openings, to which events can be sent."""

    def __init__(self, of: Server) -> None:
        """Have the same content."""
        self.__dict__ = of.__dict__
        self.sent = list[Any]()
        self.blocks = {name: {"host": name, "root": "/srv/w", "user": "", "grace_seconds": 5} for name in self.names}

    def read_deployment(self, _: UUID) -> Any:
        """The fleet's."""
        return SimpleNamespace(name="lab")

    def request(self, method: str, path: str, json: Any = None, **asked: Any) -> httpx.Response:
        """Give a page of workloads, or take events."""
        if path == "/block_types/slug/{slug}/block_documents":
            page = asked["params"]
            assert (method, asked["path_params"], page["include_secrets"]) == ("GET", {"slug": "workload"}, False)
            found = [{"name": name, "data": fields} for name, fields in self.blocks.items()]
            return httpx.Response(200, json=found[page["offset"] :][: page["limit"]])
        if path != "/events":
            return super().request(method, path, json)
        assert method == "POST"
        self.fail("events")
        self.sent += json
        return httpx.Response(204)

    def frames(self, folder: Path) -> list[Frame]:
        """The frames that were sent, verified as a host does."""
        signers = read_signers((folder / "fleet_signers").read_text())
        said = [each["payload"] for each in self.sent]
        return [verify_frame(each["frame"], each["signature"], signers) for each in said]


@pytest.fixture
def fleets(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleets:
    made = Fleets(server)

    @contextmanager
    def client(**_: object) -> Iterator[Fleets]:
        yield made

    write_frame_keys(tmp_path)
    monkeypatch.setattr(frame, "FLEET_KEY", tmp_path / "fleet.key")
    monkeypatch.setattr(frame, "get_client", client)
    return made


def run(**parameters: Any) -> FlowRun:
    return FlowRun(
        id=uuid4(), flow_id=uuid4(), deployment_id=uuid4(), created=NOW, parameters={"fleet": "lab", **parameters}
    )


def freeze_early(flow_run: FlowRun) -> None:
    """Do what a worker does that has claimed the run."""
    if frame := prepare(flow_run, lambda: datetime.now(UTC)):
        frame.send()


def test_the_run_that_opens_an_incident_sends_one_frame_of_all_hosts_that_have_a_deployment(
    fleets: Fleets, tmp_path: Path
) -> None:
    flow_run = run(reason="a leak")
    freeze_early(flow_run)
    (sent,) = fleets.frames(tmp_path)
    assert (sent.act, sent.run, sent.fleet) == ("freeze", str(flow_run.id), new_fleet_id(NOW, "lab", str(flow_run.id)))
    assert sent.hosts == {
        name: {"pool": "p", "queue": "q", "workload": {"host": name, "root": "/srv/w"}} for name in ("gpu1", "gpu2")
    }, "what recognises it, and no more"
    incident = opened(trigger(run=str(flow_run.id), reason="a leak"))
    assert incident.reason == "a leak"
    assert "through deployment fleet/lab" in incident.opened_by
    assert sent.targets == digest_bytes(canonical(incident.facts)), "the run finds the list that the frame names"
    assert sent.stands(datetime.now(UTC))


@pytest.mark.parametrize("parameters", [{"retry": True}, {"fleet_id": INCIDENT.id}], ids=["retry", "known"])
def test_a_run_that_carries_on_begins_again_or_joins_sends_none(fleets: Fleets, parameters: dict[str, Any]) -> None:
    freeze_early(run(**parameters))
    begun = run()
    begun.run_count = 1
    freeze_early(begun)
    assert (fleets.sent, fleets.artifacts) == ([], [])
    freeze_early(run())
    freeze_early(run())
    assert len(fleets.sent) == 1, "the second joins"


@pytest.mark.parametrize("lack", ["key", "events", "fleet"])
def test_without_key_or_server_nothing_is_sent_and_the_run_begins(
    fleets: Fleets, tmp_path: Path, lack: str, caplog: pytest.LogCaptureFixture
) -> None:
    fleets.errors.add(lack)
    if lack == "key":
        (tmp_path / "fleet.key").chmod(0o644)
    freeze_early(run(**({"fleet": None} if lack == "fleet" else {})))
    assert fleets.sent == []
    assert "no frame was sent" in caplog.text


def test_a_large_fleet_has_several_frames_and_each_leads_to_the_workers_of_its_hosts_alone(
    fleets: Fleets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame, "HOSTS", 1)
    incident = replace(INCIDENT, hosts=tuple(TargetHost(name, "d", f"p{name}", f"q{name}") for name in ("a", "b")))
    client: Any = fleets
    frame.send(client, incident, "freeze", RUN, datetime.now(UTC))
    sent = fleets.frames(tmp_path)
    assert [[*each.hosts] for each in sent] == [["a"], ["b"]]
    assert len({each.nonce for each in sent}) == 2
    for event, name in zip(map(Event.model_validate, fleets.sent), ("a", "b"), strict=True):
        served = [resource_of(f"p{name}", f"q{name}"), resource_of(f"p{name}")]
        other = [resource_of(f"p{name}", "q"), resource_of("p", f"q{name}"), resource_of("p")]
        assert [EventAnyResourceFilter(id=[each]).includes(event) for each in served + other] == [True] * 2 + [
            False
        ] * 3


def test_the_most_hosts_in_as_many_pools_have_no_more_receivers_than_the_server_takes(fleets: Fleets) -> None:
    hosts = tuple(TargetHost(f"h{number}", "d", f"p{number}", f"q{number}") for number in range(law.HOSTS))
    client: Any = fleets
    frame.send(client, replace(INCIDENT, hosts=hosts), "freeze", RUN, datetime.now(UTC))
    (event,) = fleets.sent
    assert len(event["related"]) == 2 * law.HOSTS <= get_current_settings().server.events.maximum_related_resources


def test_a_fleet_that_is_read_while_another_run_opens_it_is_joined_and_no_frame_is_sent(fleets: Fleets) -> None:
    late = prepare(run(), lambda: datetime.now(UTC))
    freeze_early(run())
    assert len(fleets.sent) == 1
    assert late
    late.send()
    assert len(fleets.sent) == 1


class Answers:
    """A server that has these events, in pages."""

    def __init__(self, *pages: list[Any]) -> None:
        """Serve the first."""
        self.pages = pages

    def request(self, method: str, path: str, json: Any = None, params: Any = None) -> httpx.Response:
        """A page."""
        number = int(params["page-token"]) if params else 0
        assert method == ("GET" if params else "POST")
        assert path.startswith("/events/filter")
        assert params or json["filter"]["resource"]["id"] == [f"evacuation.fleet.{INCIDENT.id}"]
        more = f"http://x/api/events/filter/next?page-token={number + 1}" if number + 1 < len(self.pages) else None
        return httpx.Response(200, json={"events": self.pages[number], "next_page": more})


def event(host: str, done: str = "frozen", seconds: float = 0, **more: object) -> dict[str, Any]:
    payload = {"host": host, "done": done, "processes": 3, "why": "", **more}
    times = {"occurred": seconds, "received": seconds + 9}  # written down later
    return {"payload": payload, **{name: (OPENED + timedelta(seconds=at)).isoformat() for name, at in times.items()}}


def test_the_first_answer_of_each_host_counts_on_whatever_page_and_what_is_none_ends_the_reading() -> None:
    client: Any = Answers([event("gpu1", seconds=1)], [event("gpu1", seconds=9), event("gpu2", "refused", why="no")])
    found = answers_of(client, INCIDENT)
    assert [(each.host, each.done) for each in found] == [("gpu1", "frozen"), ("gpu2", "refused")]
    assert found[0].at == OPENED + timedelta(seconds=1)
    for wrong in ({}, {"payload": 1}, event("gpu1", processes="x"), event("gpu1") | {"received": 7}):
        assert answers_of(Answers([wrong]), INCIDENT) == []  # type: ignore[arg-type]


def test_the_table_says_who_was_frozen_by_what_when_and_who_refused_and_why() -> None:
    at = (OPENED + timedelta(seconds=7)).isoformat()
    rows = [Row("gpu1"), Row("gpu2", frozen=at), Row("gpu3", frozen=at), Row("gpu4", end=HostEnd.SILENT), Row("gpu5")]
    assert [*freezes(rows, [], OPENED)] == [], "no frame, as before"
    events = [event("gpu1", seconds=0.4), event("gpu2", seconds=1.2), event("gpu5", "refused", why="at\x1b work")]
    answers = [FrameAnswer.of(each) for each in (*events, event("gpu9"), event("gpu1", "thawed"))]
    assert [*freezes(rows, answers, OPENED)] == [
        "  frozen by the frame, processes alone フレームで凍結（プロセスのみ）: gpu[1-2], 0.4-1.2 s after the trigger",
        "  frozen by their runs 各ランで凍結: gpu3, 7.0-7.0 s after the trigger",
        "  silent 応答なし: gpu4",
        "  ! gpu5 refused the frame: at\u241b work",
        "  given back 解凍: gpu1",
    ]


def test_a_frame_of_the_most_hosts_is_not_too_large() -> None:
    fields = {"host": "h" * 64, "root": "/srv/" + "r" * 100, **dict.fromkeys(("a", "b", "c"), "x" * 120)}
    host = {"pool": "p" * 64, "queue": "q" * 64, "workload": fields}
    hosts = {f"{number:064}": host for number in range(law.HOSTS)}
    text = Frame("freeze", INCIDENT.id, RUN, "0" * 64, NOW, NOW, "0" * 32, hosts).text
    assert not law.why_ignored({"frame": text, "signature": "s"}, ["s"])
