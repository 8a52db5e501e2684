"""One command thaws a fleet: what asks is answered, and every host goes on as it was."""

import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.command.commands import invoke
from tests.e2e.fleet.conftest import FLEET, HERE, Lab
from tests.support.workloads import wait_until


def test_one_command_thaws_the_fleet(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.change(workloads=[*HERE], ask_above=0, ask_seconds=600)
    lab.release()
    run = lab.start(reason="a false alarm")
    fleet_id = lab.opened()
    wait_until(
        lambda: [each["state_type"] for each in lab.hosts(fleet_id).values()] == ["PAUSED", "PAUSED"],
        120,
        "both hosts to ask",
    )
    with temporary_settings({PREFECT_API_URL: lab.server.api}):
        assert invoke(["fleet", "thaw", FLEET, "--reason", "a false alarm"]) == 0
    assert "thawed or called off: gpu[1-2]" in capsys.readouterr().out
    for name in HERE:
        assert lab.small[name].healthy()
        assert psutil.STATUS_STOPPED not in {process.status() for process in lab.small[name].living()}
    ended = lab.ended(run)
    assert (ended["state_name"], ended["state_type"]) == ("Thawed", "FAILED")
    assert "0 of 2 hosts Verified: gpu[1-2] Thawed" in ended["state"]["message"]
