"""The drill as a deployment: the throwaway workload in a process of its own, then the dry run of the real one."""

import sys

import psutil
import pytest

from flows.drill import drill
from tasks.drill.apart import run_drill
from tests.support.scenes import Scene

PROVEN = "print('  proven: all of it')\nprint('VERIFIED incident=IR-1')"
BROKEN = "print('NOTCONTAINED incident=IR-1')\nraise SystemExit(1)"


def test_what_the_drill_prints_is_told_line_by_line() -> None:
    told: list[str] = []
    assert run_drill(told.append, [sys.executable, "-c", PROVEN]) == (True, "VERIFIED incident=IR-1")
    assert told == ["  proven: all of it", "VERIFIED incident=IR-1"]


@pytest.mark.whole
@pytest.mark.parametrize(
    ("script", "name"), [pytest.param(PROVEN, "Rehearsed", marks=pytest.mark.soak), (BROKEN, "NotRehearsed")]
)
def test_a_drill_is_as_good_as_what_it_has_proven(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, script: str, name: str
) -> None:
    scene.small.start_all()
    monkeypatch.setattr("flows.drill.run_drill", lambda tell: run_drill(tell, [sys.executable, "-c", script]))
    state = drill(scene.name, scene.name, return_state=True)
    assert state.name == name, state.message
    assert "incident=IR-1; IR-" in str(state.message)
    assert scene.incidents == []
    assert len(scene.small.living()) == 4
    assert all(process.status() != psutil.STATUS_STOPPED for process in scene.small.living())


def test_a_drill_whose_dry_run_is_refused_is_none(scene: Scene) -> None:
    state = drill(scene.name, "no-such-store", sample=False, return_state=True)
    assert state.name == "NotRehearsed"
    assert "no-such-store" in str(state.message)
