"""A fleet on PostgreSQL, Redis, two API processes and services: each host is ordered once, whatever dies meanwhile."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psutil
import pytest

from tests.e2e.plant.conftest import HOSTS, RUN_SECONDS, Site
from tests.support.workloads import wait_until


@pytest.mark.soak
def test_every_host_is_ordered_once_however_often_the_fleet_is_triggered(hosts: Site) -> None:
    hosts.fleet("all")
    with hosts.held_up("gpu3"), ThreadPoolExecutor(3) as pool:
        triggered = list(pool.map(lambda _: hosts.trigger("all", reason="a leak"), range(3)))
        wait_until(lambda: all(hosts.run(each)["start_time"] for each in triggered), what="the begin of all three")
    ends = [hosts.ended(each) for each in triggered]
    assert sorted(name for name, _ in ends) == ["Joined", "Joined", "Verified"], ends
    runs = hosts.runs_of("all")
    assert sorted(run["parameters"]["order"]["host"] for run in runs) == list(HOSTS)
    assert {run["state_name"] for run in runs} == {"Verified"}
    assert [host.living() for host in hosts.hosts.values()] == [[], [], []]
    (record,) = (hosts.folder / "store/all/fleets").glob("*/record/001/closing.json")
    assert record.with_name("closing.json.sig").exists()


@pytest.mark.soak
def test_a_host_an_api_process_and_the_fleets_own_run_die_in_the_middle_and_nothing_is_lost(hosts: Site) -> None:
    hosts.fleet("dying")
    run = hosts.trigger("dying", reason="a leak")
    wait_until(lambda: hosts.stands("gpu2"), what="the freeze of gpu2")
    hosts.hosts["gpu2"].stop()
    for process in psutil.Process(hosts.plant.replicas[0].pid).children():
        process.kill()
    hosts.control.stop()
    alive = [hosts.hosts[name] for name in ("gpu1", "gpu3")]
    wait_until(lambda: not any(host.living() for host in alive), what="the end of the workloads of gpu1 and gpu3")
    dead = next(each for each in hosts.runs_of("dying") if each["parameters"]["order"]["host"] == "gpu2")
    for gone in (run, dead["id"]):  # what the automation for silent runs does after 90 s
        hosts.post(f"/flow_runs/{gone}/set_state", {"state": {"type": "CRASHED", "name": "Crashed"}, "force": True})
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda part: part.restart(), [hosts.plant.replicas[0], hosts.control, hosts.hosts["gpu2"]]))

    carried_on = hosts.trigger("dying")
    wait_until(lambda: hosts.run(carried_on)["state_name"] == "Crashed", what="the end of the fleet, as it stands")
    ends = {each["parameters"]["order"]["host"]: each["state_name"] for each in hosts.runs_of("dying")}
    assert ends == {"gpu1": "Verified", "gpu2": "Crashed", "gpu3": "Verified"}

    name, message = hosts.ended(hosts.trigger("dying", retry=True))
    assert name == "Verified"
    assert "3 of 3 hosts Verified: gpu[1-3] Verified" in message
    assert [each["parameters"]["order"]["attempt"] for each in hosts.runs_of("dying")] == [1, 1, 1, 2]
    assert hosts.hosts["gpu2"].living() == []


@pytest.mark.soak
def test_a_host_that_died_is_ordered_again_before_the_server_calls_its_run_crashed(hosts: Site) -> None:
    hosts.fleet("soon")
    hosts.trigger("soon", reason="a leak")
    wait_until(lambda: hosts.stands("gpu2"), what="the freeze of gpu2")
    hosts.hosts["gpu2"].stop()
    wait_until(lambda: hosts.http.get("/variables/name/fleet_soon").is_client_error, RUN_SECONDS, "gpu2 to be silent")
    dead = next(each for each in hosts.runs_of("soon") if each["parameters"]["order"]["host"] == "gpu2")
    assert dead["state_type"] in {"PENDING", "RUNNING"}
    again = hosts.trigger("soon", retry=True)
    wait_until(lambda: len(hosts.runs_of("soon")) == len(HOSTS) + 1, what="its second order")
    hosts.hosts["gpu2"].start()
    name, message = hosts.ended(again)
    assert (name, "3 of 3 hosts Verified: gpu[1-3] Verified" in message) == ("Verified", True), message
    assert hosts.hosts["gpu2"].living() == []


@pytest.mark.soak
@pytest.mark.parametrize("part", ["database", "stream"])
def test_what_is_frozen_stands_without_the_database_or_redis_and_goes_on_when_it_is_back(
    hosts: Site, part: str
) -> None:
    hosts.fleet(part)
    hosts.trigger(part, reason="a leak")
    wait_until(lambda: all(hosts.stands(name) for name in HOSTS), what="the freeze of all")
    lost = {"database": hosts.plant.database, "stream": hosts.plant.stream}[part]
    killed = psutil.Process(lost.pid).children(recursive=True)
    for process in killed:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(killed)
    wait_until(lambda: hosts.http.post("/flow_runs/filter", json={}).is_error or part == "stream", what="an error")
    assert all(hosts.stands(name) or not hosts.hosts[name].living() for name in HOSTS)
    lost.restart()
    hosts.plant.services.restart()
    wait_until(lambda: hosts.http.post("/flow_runs/filter", json={}).is_success, what="an answer")
    wait_until(lambda: _fleet_of(hosts, part, "Verified"), RUN_SECONDS, "a fleet that is Verified")
    assert not any(host.living() for host in hosts.hosts.values())


def _fleet_of(hosts: Site, fleet: str, end: str) -> bool:
    """Retry until all hosts have an end."""
    return hosts.ended(hosts.trigger(fleet, retry=True))[0] == end
