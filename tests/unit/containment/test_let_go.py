"""Whom a run lets go because the block excuses it since the freeze, and whom it does not: on paper."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from signal import SIGCONT
from typing import Any

import pytest

from tasks.containment.control_groups import Groups
from tasks.containment.cordon import IncidentCordon
from tasks.containment.members import Membership
from tasks.containment.release.bystanders import LetGo, let_go
from tasks.containment.release.thaw import thaw
from tasks.custody.containment.identity import Held, Way
from tasks.custody.containment.receipt import End, Frozen, Stopped
from tasks.host.cgroup.ownership import name_of
from tasks.host.process.process import Process
from tasks.runtime.context import RunContext
from tasks.runtime.frozen import load_announced, load_frozen
from tests.support.paper_host import PaperGroup, PaperHost, process
from tests.support.run_context import INCIDENT, case_of, made
from tests.support.workloads import SmallWorkload

TRAINING = ("venv/bin/python", "-u", "src/train.py", "--dataset", "builtin", "--mode", "full")
SHIPPER = ("filebeat", "-c", "config.yml")
HOME = "/user.slice/one.scope"
NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def run(small: SmallWorkload) -> Iterator[RunContext]:
    with case_of(small.block(bystanders=["^filebeat ", "src/train"])) as context:
        context.adapters.host = PaperHost(root=small.root)
        host_of(context).groups = {}
        yield context


def host_of(run: RunContext) -> PaperHost:
    assert isinstance(run.adapters.host, PaperHost)
    return run.adapters.host


def group_of(run: RunContext, path: str) -> PaperGroup:
    groups = host_of(run).groups
    assert groups is not None
    return groups.setdefault(path, PaperGroup(host_of(run), path))


def held(run: RunContext, number: int, command: tuple[str, ...] = SHIPPER, parent: int = 1, **about: Any) -> Process:
    """One that stands, and that the incident's journal names."""
    stood, group = about.pop("stood", False), about.pop("group", HOME)
    one = process(number, command, parent, state="T", cgroup=f"0::{group}\n", **about)
    host_of(run).processes[one.pid] = one
    row = Frozen(one.identity, "suspect", command[0], 0, NOW, NOW, stood=stood)
    run.state.frozen.write([*run.state.frozen.read(), row])
    return one


def gone(run: RunContext) -> LetGo:
    return let_go(Groups(run), IncidentCordon(run), run.log, ())


def test_one_that_the_block_excuses_now_runs_and_no_journal_names_it(run: RunContext) -> None:
    one, training = held(run, 1), held(run, 2, TRAINING, cwd=str(run.directory.root))
    announced = [Stopped(each.identity, "x", "x", (), End.SURVIVED, None) for each in (one, training)]
    run.state.stopping.write(announced)
    assert gone(run) == LetGo(frozenset({one.identity}))
    assert host_of(run).sent == [(one.pid, SIGCONT)]
    assert load_frozen(run.state).keys() == load_announced(run.state).keys() == {training.identity}
    assert [entry["object"] for entry in run.log.entries() if entry["action"] == "let go"] == [str(one.pid)]
    assert gone(run) == LetGo(frozenset())


def caught(run: RunContext, one: Process) -> None:
    row = {"at": datetime.now(UTC).isoformat(), "pid": one.pid, "start": one.identity.start, "command": "filebeat"}
    with run.cordon_files.caught.open("a") as file:
        file.write(json.dumps(row) + "\n")


def test_one_that_the_guard_caught_is_let_go_once_whatever_its_owner_does_with_it_then(run: RunContext) -> None:
    one = process(1, SHIPPER, state="T")
    host_of(run).processes[one.pid] = one
    caught(run, one)
    assert gone(run).gone == {one.identity}
    host_of(run).processes[one.pid] = replace(one, state="T")
    assert gone(run) == LetGo(frozenset())
    assert made(thaw.fn(run)).left == ()
    assert host_of(run).processes[one.pid].state == "T"
    caught(run, one)
    assert gone(run).gone == {one.identity}, "the guard has caught it again"


def test_its_children_go_with_it_unless_they_are_the_workload(run: RunContext) -> None:
    one = held(run, 1)
    child, training = held(run, 2, ("sh",), one.pid), held(run, 3, TRAINING, one.pid, cwd=str(run.directory.root))
    assert gone(run).gone == {one.identity, child.identity}
    assert load_frozen(run.state).keys() == {training.identity}


def test_what_somebody_else_had_stopped_stays_stopped(run: RunContext) -> None:
    one = held(run, 1, stood=True)
    assert gone(run).gone == {one.identity}
    assert host_of(run).sent == []


def test_what_no_file_of_the_incident_names_is_left_as_it_is(run: RunContext) -> None:
    one = held(run, 1)
    run.state.frozen.write([])
    assert gone(run) == LetGo(frozenset())
    early = [one.identity]  # that a start which died had stopped
    assert let_go(Groups(run), IncidentCordon(run), run.log, early).gone == {one.identity}


def test_a_group_in_place_around_it_is_given_up(run: RunContext) -> None:
    one, other = held(run, 1), held(run, 2, ("bash",))
    run.state.groups.write([Held(HOME)])
    group_of(run, HOME).there = group_of(run, HOME).is_frozen = True
    assert [who.pid for who in Membership(run).members(host_of(run).snapshot())] == [other.pid]
    groups = Groups(run)
    assert let_go(groups, IncidentCordon(run), run.log, ()).gone == {one.identity}
    assert not group_of(run, HOME).is_frozen
    assert run.state.groups.read() == []
    assert groups.way(other) is Way.SIGNALS
    assert host_of(run).processes[other.pid].state == "T"


@pytest.mark.parametrize("refused", ["", "not permitted"])
def test_it_goes_back_from_the_incidents_group_or_stays_frozen_and_is_told(run: RunContext, refused: str) -> None:
    own = f"/{name_of(INCIDENT, run.directory.path)}"
    one = held(run, 1, group=own)
    run.state.groups.write([Held(own), Held(HOME, one.identity)])
    group_of(run, HOME).refused = {one.pid: refused}
    made = gone(run)
    now = host_of(run).processes[one.pid]
    assert (now.cgroup, now.state) == (f"0::{own if refused else HOME}\n", "T" if refused else "S")
    assert (one.identity in load_frozen(run.state)) is bool(refused)
    assert made.gone == (frozenset() if refused else {one.identity})
    told = f"process {one.pid} (filebeat -c config.yml) stays frozen, although bystanders names it: not permitted"
    assert made.warnings == ((told,) if refused else ())
