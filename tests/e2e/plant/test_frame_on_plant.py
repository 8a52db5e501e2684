"""One frame freezes three real hosts at once: one has lost its stream, one loses its server, and it comes twice."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from psutil import STATUS_STOPPED

from tasks.custody.fleet.frame import EVENT, EVENT_ANSWER
from tasks.custody.incident.deployment_names import full_name
from tasks.drill.show_retention import write_frame_keys
from tasks.prefect_side.own_server import PrefectServer
from tests.e2e.plant.conftest import HOSTS, RUN_SECONDS, Site
from tests.support.counting_proxy import CountingProxy
from tests.support.workloads import wait_until

pytestmark = pytest.mark.soak


class Behind(PrefectServer):
    """The server, as a host reaches it through a proxy."""

    def __init__(self, folder: Path, proxy: CountingProxy) -> None:
        """Keep the proxy."""
        super().__init__(folder)
        self._proxy = proxy

    @property
    def api(self) -> str:
        """URL of the proxy."""
        return self._proxy.api


class Framed:
    """The plant with the keys of frames; each host reaches it through a proxy of its own."""

    def __init__(self, site: Site, proxies: dict[str, CountingProxy]) -> None:
        """All are up."""
        self.site, self.proxies = site, proxies

    def events(self, name: str) -> list[dict[str, Any]]:
        """All events of this name, the newest first."""
        asked = {"filter": {"event": {"name": [name]}}}
        found: list[dict[str, Any]] = self.site.post("/events/filter", asked)["events"]
        return found

    def answers(self, fleet: str) -> list[tuple[str, str]]:
        """What hosts have answered."""
        said = [each for each in self.events(EVENT_ANSWER) if f"-{fleet}-" in each["resource"]["prefect.resource.id"]]
        return sorted((each["payload"]["host"], each["payload"]["done"]) for each in said)

    def frozen(self, *names: str) -> datetime:
        """Wait until these hosts stand; when that was seen from outside."""
        wait_until(lambda: all(self.site.stands(name) for name in names), 30, f"the freeze of {names}")
        return datetime.now(UTC)

    def runs_again(self, name: str) -> bool:
        """Whether nothing of a host's workload is stopped."""
        living = self.site.hosts[name].living()
        return len(living) == 3 and STATUS_STOPPED not in {each.status() for each in living}


@pytest.fixture
def framed(hosts: Site) -> Iterator[Framed]:
    write_frame_keys(hosts.folder)
    servers = {name: host.server for name, host in hosts.hosts.items()}
    with ExitStack() as parts:
        proxies = {name: parts.enter_context(CountingProxy(hosts.plant.server.api)) for name in HOSTS}
        proxies["gpu2"].stream = False
        for name, host in hosts.hosts.items():
            host.stop()
            host.server = Behind(hosts.folder / "proxy", proxies[name])
        crew = (*hosts.hosts.values(), hosts.control)
        hosts.control.stop()
        said = {host.name: len(host.log.read_text()) for host in crew}
        with ThreadPoolExecutor(len(crew)) as pool:
            list(pool.map(lambda host: host.start(), crew))
        for host in (host for host in crew if host.name != "gpu2"):
            heard = lambda host=host: "stream delivers" in host.log.read_text()[said[host.name] :]  # noqa: E731
            wait_until(heard, what="the stream")
        yield Framed(hosts, proxies)
        for path in ("fleet.key", "fleet_signers"):
            (hosts.folder / path).unlink()
        for name, host in hosts.hosts.items():
            host.stop()
            host.server = servers[name]
        hosts.control.restart()


def test_who_hears_the_frame_is_frozen_before_any_run_and_all_end_verified(framed: Framed) -> None:
    site = framed.site
    site.fleet("framed")
    began = time.time()
    run = site.trigger("framed", reason="a leak")
    frozen = framed.frozen("gpu1", "gpu3")
    framed.proxies["gpu3"].dies_at = "/"
    framed.proxies["gpu3"].dead = True
    framed.proxies["gpu3"].cut()
    wait_until(lambda: framed.events(EVENT), what="the frame, which is written down later")
    (frame,) = framed.events(EVENT)
    again = {name: frame[name] for name in ("event", "resource", "payload")}
    site.http.post("/events", json=[{**again, "occurred": datetime.now(UTC).isoformat()}])
    framed.frozen("gpu2")
    ordered = {each["parameters"]["order"]["host"]: each["created"] for each in site.runs_of("framed")}
    print(f"{frozen.timestamp() - began:.2f} s after the trigger, {ordered}")
    assert all(frozen < datetime.fromisoformat(at) for at in ordered.values()), "by the frame, not by a run"
    for _ in range(30):  # longer than a worker waits before it asks about a run: no answer thaws nothing
        time.sleep(0.5)
        assert site.stands("gpu3")
    framed.proxies["gpu3"].dies_at = ""
    name, message = site.ended(run)
    assert (name, "3 of 3 hosts Verified" in message) == ("Verified", True), message
    assert set(framed.answers("framed")) - {("gpu3", "frozen")} == {("gpu1", "frozen")}
    table = site.http.get("/artifacts/fleet-framed/latest").json()["data"]
    assert "frozen by the frame" in table
    assert "frozen by their runs 各ランで凍結: gpu2" in table
    (said,) = [line for line in table.splitlines() if "by the frame" in line]
    print(said)


def test_a_frame_gives_back_what_one_has_frozen_and_so_does_a_run_that_is_over(framed: Framed) -> None:
    site = framed.site
    site.fleet("given")
    with site.held_up("gpu1"), site.held_up("gpu3"):
        site.trigger("given", reason="a leak")
        framed.frozen("gpu1", "gpu3")
        wait_until(lambda: len(site.runs_of("given")) == len(HOSTS), what="the orders")
        thaw = site.http.get(f"/deployments/name/{full_name('fleet-thaw', 'given')}").json()["id"]
        site.post(f"/deployments/{thaw}/create_flow_run", {"parameters": {"reason": "a mistake"}})
        wait_until(lambda: framed.runs_again("gpu1") and framed.runs_again("gpu3"), RUN_SECONDS, "the thaw")
        thawed = {("gpu1", "thawed"), ("gpu3", "thawed")}
        wait_until(lambda: thawed <= set(framed.answers("given")), what="the answers, which are written down later")

        site.fleet("over")
        run = site.trigger("over", reason="a leak")
        framed.frozen("gpu1", "gpu3")
        wait_until(lambda: len(site.runs_of("over")) == len(HOSTS), what="the orders")
        for each in site.runs_of("over"):
            if each["parameters"]["order"]["host"] != "gpu2":
                site.post(f"/flow_runs/{each['id']}/set_state", {"state": {"type": "CANCELLED"}, "force": True})
        wait_until(lambda: framed.runs_again("gpu1") and framed.runs_again("gpu3"), RUN_SECONDS, "the thaw")
        wait_until(lambda: ("gpu1", "thawed") in framed.answers("over"), what="the answer")
        site.ended(run)
