"""What systemd is told of a workload's units, what of their answers counts, and what a person is told of a refusal."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal

import pytest

from tasks.containment import units as units_module
from tasks.containment.units import Units, standing_units
from tasks.custody.models.contract import find_named_models
from tasks.host.unit.kept_down import UNANSWERED
from tasks.recovery.unit_api import UnitApi
from tasks.runtime.context import RunContext
from tests.support.paper_host import PaperHost, PaperSystemd, process
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload

RUNS = {"ActiveState": "active", "SubState": "running"}
DOWN = {"ActiveState": "inactive", "SubState": "dead"}
CGROUP = "0::/system.slice/api.service\n"
UNIT = "api.service"


@pytest.fixture
def run(small: SmallWorkload) -> Iterator[RunContext]:
    with case_of(small.block(units=[UNIT])) as context:
        context.adapters.host = PaperHost(root=small.root)
        yield context


def systemd_of(run: RunContext, about: Mapping[str, str]) -> PaperSystemd:
    assert isinstance(run.adapters.host, PaperHost)
    run.adapters.host.systemd = made = PaperSystemd(api=about)
    return made


def test_what_runs_is_thawed_and_asked_to_stop_and_counts_as_asked(run: RunContext) -> None:
    systemd = systemd_of(run, {**RUNS, "TriggeredBy": "api.socket api.timer"})
    units = Units(run)
    units.stop()
    assert units.stopping == {UNIT}
    assert systemd.told == [("thaw", UNIT), ("stop", "api.socket"), ("stop", UNIT)]
    again = Units(run)
    again.stop()
    assert again.stopping == frozenset()


def test_what_systemd_refuses_to_stop_does_not_count_as_asked_and_is_told(
    run: RunContext, caplog: pytest.LogCaptureFixture
) -> None:
    systemd_of(run, RUNS).failing = {"stop"}
    units = Units(run)
    units.stop()
    assert units.stopping == frozenset()
    (told,) = units.warnings
    assert told.startswith(f"expected systemd to stop {UNIT}; got: stop failed.")
    assert told in caplog.text


def test_the_environment_of_a_unit_may_name_its_model(run: RunContext) -> None:
    systemd_of(run, {**RUNS, "Environment": 'LANG=C "MODEL_PATH=models/model_builtin.joblib"'})
    root = str(run.workload.root)
    assert find_named_models(UnitApi(run, UNIT).words, root, ["models/model_builtin.joblib", "models/b.joblib"]) == [
        "models/model_builtin.joblib"
    ]


def test_under_policy_kill_nothing_is_thawed_or_asked(run: RunContext) -> None:
    run.run = replace(run.run, policy="kill")
    systemd = systemd_of(run, RUNS)
    again = Units(run)
    again.stop()
    assert again.stopping == frozenset()
    assert systemd.told == []


def test_only_what_may_live_is_frozen_and_thawed(run: RunContext) -> None:
    systemd = systemd_of(run, RUNS)
    Units(run).freeze()
    Units(run).thaw()
    assert systemd.told == [("freeze", UNIT), ("thaw", UNIT)]
    systemd = systemd_of(run, DOWN)
    Units(run).freeze()
    Units(run).thaw()
    assert systemd.told == []


@pytest.mark.parametrize(("main", "expected"), [("2", 2), ("9", 1), ("0", 1), ("", 1)])
def test_by_whose_end_a_unit_ends(run: RunContext, main: str, expected: int) -> None:
    first, second, dead = (process(number, cgroup=CGROUP) for number in (1, 2, 3))
    other = process(4, cgroup="0::/system.slice/other.service\n")
    run.adapters.host = PaperHost(first, second, other)
    pid = {"2": second.pid, "9": dead.pid}.get(main, 0)
    systemd_of(run, {**RUNS, "MainPID": str(pid) if main else ""})
    assert Units(run).main_processes(run.adapters.host.snapshot()) == {first.pid if expected == 1 else second.pid}


def test_a_unit_of_which_a_zombie_alone_is_left_has_no_main_process(run: RunContext) -> None:
    run.adapters.host = PaperHost(process(1, cgroup=CGROUP, state="Z"))
    systemd_of(run, RUNS)
    assert Units(run).main_processes(run.adapters.host.snapshot()) == frozenset()


def test_what_outlives_the_signals_is_killed_and_what_waits_for_its_restart_is_stopped(run: RunContext) -> None:
    systemd = systemd_of(run, RUNS)
    Units(run).kill()
    assert systemd.told == [("kill", UNIT)]
    systemd = systemd_of(run, {"ActiveState": "activating", "SubState": "auto-restart"})
    Units(run).kill()
    assert systemd.told == [("stop", UNIT)]


def test_what_systemd_does_not_call_down_stands(run: RunContext) -> None:
    systemd_of(run, RUNS)
    assert standing_units(run.adapters.host.systemd, [UNIT]) == (
        f"systemd unit {UNIT} is active (running); stop it: systemctl stop {UNIT}",
    )
    for about in (DOWN, {"ActiveState": "active", "SubState": "exited"}):
        systemd_of(run, about)
        assert standing_units(run.adapters.host.systemd, [UNIT]) == ()


@pytest.mark.parametrize("policy", ["graceful", "kill"])
def test_a_unit_of_which_systemd_says_nothing_stands_and_each_act_on_it_is_told_as_failed(
    run: RunContext, monkeypatch: pytest.MonkeyPatch, policy: Literal["graceful", "kill"]
) -> None:
    """It was taken for down, and systemd started it again after the evacuation had ended Verified."""
    monkeypatch.setattr(units_module, "_SETTLE_SECONDS", 0.1)
    run.run = replace(run.run, policy=policy)
    systemd = systemd_of(run, UNANSWERED)
    systemd.failing = {"thaw", "stop", "kill"}
    units = Units(run)
    for act in (units.freeze, units.stop, units.kill):
        act()
    told = {warning.partition(";")[0] for warning in units.warnings}
    acts = {"graceful": ("freeze", "thaw", "stop", "kill"), "kill": ("freeze", "kill")}[policy]
    assert told == {f"expected systemd to {act} {UNIT}" for act in acts}
    assert ("freeze", UNIT) not in systemd.told
    assert standing_units(systemd, [UNIT]) == (
        f"systemd unit {UNIT} is in an unknown state (systemctl gives no answer); stop it: systemctl stop {UNIT}",
    )
