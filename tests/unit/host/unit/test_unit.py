"""How a service is kept down, and which services are not ours to act on: each case of the law."""

from pathlib import Path

import pytest

from tasks.custody.containment.identity import Identity
from tasks.host.process.process import Process
from tasks.host.unit.kept_down import UNANSWERED, condition, drop_in, is_down, may_live, units_without

MARKER = Path('/var/lib/evac 100%/"x"/cordon.json')
KEPT = """[Unit]
ConditionPathExists=!/var/lib/evac 100%%/"x"/cordon.json
RequiresMountsFor="/var/lib/evac 100%%/\\"x\\"/cordon.json"
"""


@pytest.mark.parametrize(
    ("unit", "policy", "more"),
    [
        ("api.service", "graceful", "[Service]\nRestart=no\n"),
        ("api.service", "kill", "[Service]\nRestart=no\nExecStop=\nExecStopPost=\n"),
        ("api.socket", "kill", ""),
        ("api.path", "graceful", ""),
    ],
)
def test_a_drop_in_keeps_a_unit_down_and_under_policy_kill_runs_nothing_of_it(
    unit: str, policy: str, more: str
) -> None:
    assert drop_in(unit, MARKER, policy) == KEPT + more
    assert condition(MARKER) in drop_in(unit, MARKER, policy).splitlines()


def test_a_unit_in_which_somebody_lives_whom_we_spare_is_not_acted_on() -> None:
    groups = {1: "0::/init.scope", 7: "0::/system.slice/worker.service", 8: "0::/system.slice/api.service"}
    snapshot = {pid: Process(Identity(pid, 1), 1, "S", cgroup=group) for pid, group in groups.items()}
    named = ["api.service", "worker.service"]
    assert units_without({1, 7, 99}, named, snapshot) == ("api.service",)
    assert units_without({1}, named, snapshot) == ("api.service", "worker.service")


@pytest.mark.parametrize(
    ("active", "sub", "down", "lives"),
    [
        ("active", "running", False, True),
        ("active", "exited", False, False),
        ("activating", "auto-restart", False, False),
        ("activating", "auto-restart-queued", False, False),
        ("activating", "start-pre", False, True),
        ("deactivating", "stop-sigterm", False, True),
        ("failed", "failed", True, False),
        ("inactive", "dead", True, False),
    ],
)
def test_what_systemd_says_of_a_unit_tells_whether_it_is_down_and_whether_processes_may_live(
    active: str, sub: str, *, down: bool, lives: bool
) -> None:
    about = {"ActiveState": active, "SubState": sub}
    assert (is_down(about), may_live(about)) == (down, lives)


def test_where_systemd_has_not_booted_a_unit_is_down_and_where_it_does_not_answer_it_may_live() -> None:
    assert is_down({})
    assert not may_live({})
    assert not is_down(UNANSWERED)
    assert may_live(UNANSWERED)
