"""What the bench of fleets records and plays, and its smallest form."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from uuid import uuid4

import httpx
import pytest
from websockets.sync.client import connect
from websockets.sync.server import serve

from benchmarks.fleet import measured
from benchmarks.fleet_stage import Stage
from benchmarks.recorder import Asked, Recorder, ids_in
from benchmarks.simulated import Script, Simulated, script_of
from tasks.drill.show_retention import write_frame_keys
from tests.e2e.plant.conftest import Site
from tests.support.workloads import wait_until

RUN, DEPLOYMENT, TASK, FLOW = (str(uuid4()) for _ in range(4))
POLL = "/work_pools/p/get_scheduled_flow_runs"
BLOCK = "/block_types/slug/workload/block_documents/name/real1"


class Answers(BaseHTTPRequestHandler):
    """Answers every request with what it was asked, in chunks, and an id."""

    protocol_version = "HTTP/1.1"
    heard: list[tuple[str, str]] = []  # noqa: RUF012  what all of them heard

    def do_POST(self) -> None:
        """Answer."""
        said = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
        self.heard.append((self.path, said))
        body = json.dumps({"id": str(uuid4()), "said": said, "packed": self.headers["Accept-Encoding"]}).encode()
        self.send_response(201)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in (body[:10], body[10:]):
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST  # noqa: N815  the name that http.server asks for

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def answering() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.soak
def test_requests_are_recorded_whole_with_the_ids_that_the_server_made() -> None:
    with answering() as port, Recorder(port) as relay, httpx.Client(base_url=relay.api, trust_env=False) as client:
        answers = [client.post(f"/flow_runs/{number}", content="x" * 100_000 * number) for number in (1, 2)]
        wait_until(lambda: all(each.answered for each in relay.asked), what="the answers")
    assert [(each.method, each.path, len(each.body)) for each in relay.asked] == [
        ("POST", "/flow_runs/1", 100_000),
        ("POST", "/flow_runs/2", 200_000),
    ]
    assert [each.made for each in relay.asked] == [ids_in(answer.content) for answer in answers]
    assert {each.status for each in relay.asked} == {201}
    assert {answer.json()["packed"] for answer in answers} == {None}, "no id could be read in a compressed answer"


@pytest.mark.soak
def test_what_goes_over_a_websocket_is_recorded_as_text() -> None:
    with serve(lambda there: there.send(str(there.recv())[:3]), "127.0.0.1", 0) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with Recorder(server.socket.getsockname()[1]) as relay:
            with connect(relay.api.replace("http", "ws") + "/events/in") as there:
                there.send("a long text " * 10_000)
                assert there.recv() == "a l"
            server.shutdown()
    assert [(each.method, each.path) for each in relay.asked] == [("OPEN", "/events/in"), ("SEND", "/events/in")]
    assert relay.asked[1].body == "a long text " * 10_000
    assert {each.link for each in relay.asked} == {relay.asked[0].link}


def a_script() -> Script:
    """A host that asks for work, for its block, and tells of a task."""
    asked = [
        Asked(1.0, "POST", "/work_pools/p/workers/heartbeat"),
        Asked(1.1, "POST", POLL),
        Asked(1.2, "POST", POLL, '{"work_queue_names": ["real1"]}'),
        Asked(1.3, "POST", f"/flow_runs/{RUN}/set_state", "{}"),
        Asked(1.4, "GET", BLOCK),
        Asked(1.5, "POST", "/logs", json.dumps({"flow": FLOW, "run": RUN, "task": TASK, "at": "2026-11-26T19:00:00Z"})),
        Asked(1.6, "POST", f"/task_runs/{TASK}/set_state", "{}"),
    ]
    return script_of(asked, {"run": RUN, "deployment": DEPLOYMENT, "name": "real1"}, frozenset({FLOW}))


@pytest.mark.soak
def test_a_script_begins_with_the_question_that_found_the_run() -> None:
    assert [each.path for each in a_script().asked[:3]] == [POLL, f"/flow_runs/{RUN}/set_state", BLOCK]
    assert a_script().before_freeze == 3


@pytest.mark.soak
def test_a_simulated_host_says_the_same_of_itself() -> None:
    Answers.heard.clear()
    own, run = {"deployment": str(uuid4()), "name": "sim007"}, str(uuid4())
    with answering() as port:
        host = Simulated(a_script(), own, f"http://127.0.0.1:{port}")
        from benchmarks.simulated import _Play

        asyncio.run(host._play(_Play(host), run))
    assert host.errors == []
    assert host.frozen < host.ended
    paths = [path for path, _ in Answers.heard]
    told = json.loads(Answers.heard[2][1])
    assert paths[:2] == [f"/flow_runs/{run}/set_state", BLOCK.replace("real1", "sim007")]
    assert (told["flow"], told["run"]) == (FLOW, run)
    assert told["task"] != TASK
    assert paths[3] == f"/task_runs/{told['task']}/set_state", "one of its own, the same everywhere"
    assert abs(datetime.fromisoformat(told["at"]) - datetime.now(UTC)).total_seconds() != 0


@pytest.mark.soak
def test_the_bench_of_fleets_runs(site: Site, tmp_path: Path) -> None:
    write_frame_keys(tmp_path)
    rows, conditions = measured(Stage(tmp_path, site.plant, site.key), (1, 2, 3))
    assert next(row for row in rows if row.what == "what simulated hosts were refused").holds, conditions
