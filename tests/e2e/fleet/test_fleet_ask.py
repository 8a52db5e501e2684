"""A fleet above its limit: all is frozen at once, and nothing is stopped before a person has typed the fleet's name."""

import psutil

from tests.e2e.fleet.conftest import FLEET, HERE, Lab
from tests.support.workloads import wait_until


def test_above_the_limit_all_are_frozen_and_a_person_decides_for_all(lab: Lab) -> None:
    lab.change(workloads=[*HERE], ask_above=1, ask_seconds=120)
    lab.release()
    run = lab.start(reason="poisoned data")
    fleet_id = lab.opened()
    wait_until(
        lambda: [each["state_type"] for each in lab.hosts(fleet_id).values()] == ["PAUSED", "PAUSED"],
        120,
        "both hosts to ask",
    )
    assert lab.run(run)["state_type"] == "PAUSED"
    for name in HERE:
        assert {process.status() for process in lab.small[name].living()} == {psutil.STATUS_STOPPED}
    answer = {"decision": "thaw", "by": "ana", "why": "a rehearsal", "fleet": "lob"}
    path = f"/flow_runs/{run}/resume"
    assert lab.http.post(path, json={"run_input": answer}).status_code == 200, "not accepted: the name is another"
    assert lab.http.post(path, json={"run_input": {**answer, "fleet": FLEET}}).status_code == 201
    ended = lab.ended(run)
    assert (ended["state_name"], ended["state_type"]) == ("Thawed", "FAILED")
    assert "0 of 2 hosts Verified: gpu[1-2] Thawed" in ended["state"]["message"]
    for name in HERE:
        assert lab.small[name].healthy()
        assert psutil.STATUS_STOPPED not in {process.status() for process in lab.small[name].living()}
