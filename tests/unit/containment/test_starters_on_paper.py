"""What the check of containment says of starters, on paper: units, time, and who is known already."""

import json
from collections.abc import Iterator
from threading import Event

import pytest

from tasks.containment import starters
from tasks.containment.containment_check import check_containment
from tasks.containment.cordon import IncidentCordon
from tasks.containment.members import Membership
from tasks.containment.starters import find_starters
from tasks.containment.watch import Watching
from tasks.custody.containment.receipt import End, Frozen, Returned, Source
from tasks.host.launch_files import LaunchPlaces, Reading
from tasks.runtime.context import RunContext
from tests.support.paper_host import PaperHost, PaperSystemd, process
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload

LOOP = "while :; do python -u src/train.py --dataset builtin --mode full; sleep 9; done"


@pytest.fixture
def run(small: SmallWorkload, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunContext]:
    monkeypatch.setattr(starters, "places_of", lambda _: LaunchPlaces(small.root / "nowhere", {}))
    with case_of(small.block()) as context:
        context.adapters.host = PaperHost(root=context.directory.root)
        yield context


def test_a_unit_between_two_starts_contradicts_containment(run: RunContext) -> None:
    assert isinstance(run.adapters.host, PaperHost)
    about = {"ActiveState": "activating", "SubState": "auto-restart", "WorkingDirectory": str(run.directory.root)}
    run.adapters.host.systemd = PaperSystemd(train=about)
    (told,) = check_containment(run).alive
    assert told.startswith("a systemd unit train.service (")
    assert "to stop it 停止方法: systemctl stop train.service); or set stop_supervisors" in told
    run.workload.stop_supervisors = True
    made = Watching(run)
    made.stop_starters()
    assert run.adapters.host.systemd.told == [("stop", "train.service")]
    assert made.result().stopped == ("systemd unit train.service",)
    assert check_containment(run).alive == ()


def test_a_unit_that_had_started_the_workload_contradicts_containment_while_it_waits_to_start_it_again(
    run: RunContext,
) -> None:
    """Its properties do not name the root. The run carried on within its RestartSec and ended Verified."""
    assert isinstance(run.adapters.host, PaperHost)
    waits = {"ActiveState": "activating", "SubState": "auto-restart", "ExecStart": "/opt/bin/start-all"}
    run.adapters.host.systemd = PaperSystemd(nightly=waits)
    at, who = run.incident.opened_at, process(1).identity
    assert check_containment(run).alive == ()
    caught = {"at": at.isoformat(), "source": "process 7 (x), started by systemd unit nightly.service"}
    run.cordon_files.caught.write_text(f"{json.dumps(caught)}\n")  # by the guard; nobody was frozen
    assert len(check_containment(run).alive) == 1
    run.cordon_files.caught.unlink()
    assert check_containment(run).alive == ()
    run.state.frozen.write([Frozen(who, "training", "", 0, at, at, lineage=(Source("nightly.service"),))])
    for held in ([], [Returned(who, "training", "train", "systemd unit nightly.service", End.HELD)]):
        run.state.returned.write(held)  # what it brought back was left frozen, and has ended
        (told,) = check_containment(run).alive
        assert "systemctl stop nightly.service" in told
    run.workload.stop_supervisors = True
    Watching(run).stop_starters()
    assert check_containment(run).alive == ()


def test_a_loop_is_told_once_and_not_after_a_recovery(run: RunContext) -> None:
    assert isinstance(run.adapters.host, PaperHost)
    loop = process(1, ("bash", "-c", LOOP), cwd=str(run.directory.root), executable="/bin/bash")
    train = process(2, tuple(LOOP.split()[3:10]), loop.pid, cwd=str(run.directory.root))
    run.adapters.host.processes = {each.pid: each for each in (loop, train)}
    (found,) = find_starters(Membership(run), IncidentCordon(run).newcomers(), run.adapters.host.snapshot()).living
    run.state.returned.write([Returned(train.identity, "training", "train", str(found.source), End.HELD)])
    told = check_containment(run).alive
    assert len([each for each in told if each.startswith(f"{loop.pid}:")]) == 1, "by the law, not as a starter too"
    assert len([each for each in told if str(loop.pid) in each]) == 2, "and as what brings the other one back"
    run.state.recovered.write([train.identity])
    assert find_starters(Membership(run), IncidentCordon(run).newcomers(), run.adapters.host.snapshot()).living == ()


def test_what_takes_too_long_is_told_as_not_looked_at(run: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    over = Event()
    monkeypatch.setattr(starters, "_SECONDS", 0.01)
    monkeypatch.setattr(Reading, "look", lambda *_: over.wait(30))
    (note,) = find_starters(Membership(run), IncidentCordon(run).newcomers(), {}).notes
    over.set()
    assert note == "not looked at for what starts the workload 未確認: the rest"
