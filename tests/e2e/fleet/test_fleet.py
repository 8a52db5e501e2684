"""A fleet on a real server: one order a host, the silent one named, one end each, one signed record."""

import json

from tests.e2e.fleet.conftest import AWAY, HERE, Lab


def test_a_fleet_with_a_silent_host_is_not_green_and_says_which(lab: Lab) -> None:
    lab.change(workloads=[*HERE, AWAY], order_seconds=40)
    for name in HERE:
        lab.small[name].start_all()
    run = lab.start(reason="credentials leaked")
    fleet_id = lab.opened()
    state = lab.ended(run, 200)
    print(state["state"]["message"])
    print(json.dumps(lab.hosts(fleet_id), indent=1)[:3000])
    print(*sorted(str(p.relative_to(lab.store)) for p in lab.store.rglob("*") if "fleets" in str(p)), sep="\n")
    assert state["state_name"] == "Expired"
