"""One frame freezes three real hosts at once: one loses its stream, one its server, one gets the frame twice."""

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psutil
import pytest

from tasks.custody.fleet.frame import ANSWER, EVENT
from tasks.drill.vault import write_frame_keys
from tests.e2e.plant.conftest import HOSTS, Site
from tests.support.workloads import wait_until

pytestmark = pytest.mark.soak


@pytest.fixture
def framed(hosts: Site) -> Iterator[Site]:
    """All hosts up, with the keys of frames."""
    write_frame_keys(hosts.folder)
    for host in (*hosts.hosts.values(), hosts.control):
        host.stop()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda host: host.start(), (*hosts.hosts.values(), hosts.control)))
    for name in HOSTS:
        log = hosts.hosts[name].log
        wait_until(lambda: "event stream delivers" in log.read_text(), what="the stream")  # noqa: B023
    yield hosts
    for path in ("fleet.key", "fleet_signers"):
        (hosts.folder / path).unlink()
    hosts.control.restart()


def events(site: Site, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = site.post("/events/filter", {"filter": {"event": {"name": [name]}}})["events"]
    return found


def answers(site: Site) -> dict[str, str]:
    return {each["payload"]["host"]: each["payload"]["done"] for each in reversed(events(site, ANSWER))}


def worker_of(site: Site, name: str) -> psutil.Process:
    inside = psutil.Process(site.hosts[name].pid).children(recursive=True)
    return next(each for each in inside if "worker" in each.cmdline() and "prefect" in " ".join(each.cmdline()))


@contextmanager
def asleep(process: psutil.Process) -> Iterator[None]:
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def frozen_after(site: Site, began: float, names: tuple[str, ...]) -> dict[str, float]:
    """Seconds until each was stopped, as seen from outside."""
    found = dict[str, float]()

    def all_stand() -> bool:
        found.update({name: time.time() - began for name in names if name not in found and site.stands(name)})
        return len(found) == len(names)

    wait_until(all_stand, 30, "the freeze")
    return found


def test_three_hosts_are_frozen_before_their_runs_come_and_the_frame_comes_again(framed: Site) -> None:
    framed.fleet("framed")
    began = time.time()
    run = framed.trigger("framed", reason="a leak")
    seconds = frozen_after(framed, began, HOSTS)
    print("frozen after", seconds)
    wait_until(lambda: set(answers(framed)) == set(HOSTS), what="the answers")
    (frame,) = events(framed, EVENT)
    again = {name: frame[name] for name in ("event", "resource", "payload")}
    posted = framed.http.post("/events", json=[{**again, "occurred": frame["occurred"], "id": frame["id"]}, again])
    print(posted.status_code, {run["name"]: run["state_name"] for run in framed.runs_of("framed")})
    name, message = framed.ended(run)
    assert name == "Verified", message
    assert answers(framed) == dict.fromkeys(HOSTS, "frozen")
    table = framed.http.get("/artifacts/fleet-framed/latest").json()["data"]
    print(table[:1500], json.dumps(frame["payload"])[:300], datetime.now())
