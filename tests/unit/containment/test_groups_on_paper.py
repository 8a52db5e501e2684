"""Whom the incident's control group takes in, from where, and how everybody gets back: on paper."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import pytest

from tasks.containment.control_groups import Groups
from tasks.containment.release.control_groups import release_groups
from tasks.custody.containment.identity import Held, Way
from tasks.host.cgroup.ownership import name_of
from tasks.host.process.process import Process
from tasks.incident.layout import GROUPS
from tasks.prestart.journal import EarlyFreeze, not_taken_over, read_early, take_over
from tasks.runtime.context import RunContext
from tests.support.paper_host import PaperGroup, PaperHost, process
from tests.support.places import beside
from tests.support.run_context import INCIDENT, case_of
from tests.support.workloads import SmallWorkload

TRAINING = ("venv/bin/python", "-u", "src/train.py", "--dataset", "builtin", "--mode", "full")
HOME, OTHER = "/user.slice/one.scope", "/user.slice/two.scope"


class Busy(PaperHost):
    """A host on which pids are given out; `new` are those that come at the next look at newcomers."""

    def __init__(self, root: PurePath) -> None:
        """It has control groups."""
        super().__init__(root=root)
        self.groups = {}
        self.last, self.new = 0, list[Process]()

    def arrivals(self, last: int) -> tuple[int, list[Process]]:
        """Who came since."""
        if last < 0:
            return self.last, []
        self.last += 1
        new, self.new = self.new, []
        self.processes |= {each.pid: each for each in new}
        return self.last, [beside(each, self.root) for each in new]


@pytest.fixture
def run(small: SmallWorkload) -> Iterator[RunContext]:
    with case_of(small.block(units=["api.service"])) as context:
        context.adapters.host = Busy(small.root)
        yield context


def host_of(run: RunContext) -> Busy:
    assert isinstance(run.adapters.host, Busy)
    return run.adapters.host


def add(run: RunContext, number: int, group: str = HOME, **about: Any) -> Process:
    one = process(number, TRAINING, cwd=str(run.directory.root), cgroup=f"0::{group}\n", **about)
    host_of(run).processes[one.pid] = one
    group_of(run, group).there = True
    return one


def group_of(run: RunContext, path: str) -> PaperGroup:
    groups = host_of(run).groups
    assert groups is not None
    return groups.setdefault(path, PaperGroup(host_of(run), path))


def own(run: RunContext) -> str:
    return f"/{name_of(INCIDENT, run.directory.path)}"


def where(run: RunContext) -> list[str]:
    return [each.cgroup.strip().removeprefix("0::") for each in host_of(run).processes.values()]


def rows(run: RunContext) -> list[Held]:
    return run.state.groups.read()


def test_each_is_moved_in_and_the_journal_says_from_where(run: RunContext) -> None:
    one, two = add(run, 1), add(run, 2, OTHER)
    groups = Groups(run)
    assert groups.move([one, two])
    assert where(run) == [own(run)] * 2
    assert rows(run) == [Held(own(run)), Held(HOME, one.identity), Held(OTHER, two.identity)]
    assert [groups.way(each) for each in host_of(run).processes.values()] == [Way.INCIDENT] * 2
    assert not groups.move(host_of(run).processes.values())


def test_two_of_one_group_are_both_written_down_unless_it_is_urgent(run: RunContext) -> None:
    one, two, three = add(run, 1), add(run, 2), add(run, 3)
    groups = Groups(run)
    groups.move([one, two])
    assert [row.identity for row in rows(run)[1:]] == [one.identity, two.identity]
    assert groups.move([three], hurry=True)
    assert len(rows(run)) == 3
    assert where(run) == [own(run)] * 3


@pytest.mark.parametrize(
    ("group", "about"),
    [
        ("/slurm/uid_0/job_7", {}),
        ("/system.slice/api.service", {}),
        (HOME, {"state": "Z"}),
        ("", {}),
    ],
    ids=["an orchestrator's", "held by systemd", "a zombie", "nobody knows where"],
)
def test_nobody_is_moved_who_may_not_be(run: RunContext, group: str, about: dict[str, str]) -> None:
    one = add(run, 1, group, **about)
    groups = Groups(run)
    assert not groups.move([one])
    assert where(run) == [group]
    assert bool(groups.refused) is (group in {"", "/slurm/uid_0/job_7"})


def test_one_whom_the_kernel_does_not_move_is_refused_and_not_tried_again(run: RunContext) -> None:
    one = add(run, 1)
    group_of(run, own(run)).refused = {one.pid: "not permitted"}
    groups = Groups(run)
    assert groups.move([one])
    assert groups.refused == {one.identity: "not permitted"}
    assert not groups.move([one])


def test_a_group_that_is_barred_is_not_used_and_not_written_down(run: RunContext) -> None:
    one = add(run, 1)
    host_of(run).group = lambda path: barred(group_of(run, path))  # type: ignore[assignment,method-assign,return-value]
    groups = Groups(run)
    assert not groups.move([one])
    assert groups.unavailable == "closed to us"
    assert rows(run) == []
    assert where(run) == [HOME]


def barred(group: PaperGroup) -> PaperGroup:
    group.obstacle = "closed to us"
    return group


def test_pids_that_are_no_members_are_no_churn(run: RunContext) -> None:
    groups = Groups(run)
    host_of(run).new = [process(9, ("/bin/other",))]
    host_of(run).last += 1
    assert groups.churns() is False


def test_members_that_come_and_go_are_churn_and_what_they_alone_are_in_is_frozen(run: RunContext) -> None:
    groups = Groups(run)
    new = add(run, 3, "/of.their/own")
    del host_of(run).processes[new.pid]
    host_of(run).new = [new]
    host_of(run).last += 1
    assert groups.churns() is True
    assert group_of(run, "/of.their/own").is_frozen


def test_everybody_goes_back_and_who_was_born_here_goes_where_its_parent_came_from(run: RunContext) -> None:
    one, two = add(run, 1), add(run, 2, OTHER)
    Groups(run).move([one, two])
    born = add(run, 3, own(run), parent=two.pid)
    orphan = add(run, 4, own(run))
    Groups(run).freeze()
    assert release_groups(run.adapters.host, run.workload) == ()
    assert where(run) == [HOME, OTHER, OTHER, HOME]
    assert not group_of(run, own(run)).there
    assert not group_of(run, own(run)).is_frozen
    assert not list(run.directory.path.glob(GROUPS))
    assert {born.pid, orphan.pid} <= host_of(run).processes.keys()


def test_who_cannot_go_back_is_named_and_the_group_stays_written_down_only_while_it_is_frozen(run: RunContext) -> None:
    one = add(run, 1)
    Groups(run).move([one])
    group_of(run, HOME).refused = {one.pid: "no such group"}
    first, second = release_groups(run.adapters.host, run.workload)
    assert first.startswith(f"process {one.pid} stays in {own(run)}: no such group.")
    assert second == f"{own(run)}: Device or resource busy"
    assert not group_of(run, own(run)).is_frozen


def test_a_group_of_members_alone_is_frozen_where_it_is_and_let_go(run: RunContext) -> None:
    one = add(run, 1, "/of.its/own")
    groups = Groups(run)
    assert groups.hold_in_place(run.adapters.host.snapshot())
    assert group_of(run, "/of.its/own").is_frozen
    assert rows(run) == [Held("/of.its/own")]
    assert groups.way(one) is Way.IN_PLACE
    assert not groups.hold_in_place(run.adapters.host.snapshot())
    assert release_groups(run.adapters.host, run.workload) == ()
    assert not group_of(run, "/of.its/own").is_frozen
    assert group_of(run, "/of.its/own").there


def test_rows_that_name_nobody_are_read_as_groups(run: RunContext) -> None:
    one = add(run, 1, own(run))
    path = run.directory.path / GROUPS
    path.write_text(json.dumps([{"group": own(run)}, {"group": HOME, "identity": {"pid": one.pid, "start": 1}}]))
    path.chmod(0o600)
    group_of(run, own(run)).there = True
    assert release_groups(run.adapters.host, run.workload) == ()
    assert where(run) == [HOME]


def test_who_still_runs_is_caught_and_held(run: RunContext) -> None:
    one = add(run, 1)
    groups = Groups(run)
    groups.catch()
    assert where(run) == [own(run)]
    assert group_of(run, own(run)).is_frozen
    assert Held(HOME, one.identity) in rows(run)


def test_who_was_started_by_hand_is_not_caught_as_a_suspect_and_who_was_not_is(run: RunContext) -> None:
    run.state.since.write(1)
    run.run = replace(run.run, suspects="include")
    for shell, caught in ((("bash",), False), (("bash", "-c", "count"), True)):
        place = {"cwd": str(run.directory.root), "cgroup": f"0::{HOME}\n"}
        session: dict[str, Any] = {**place, "session": process(10).pid, "terminal": True}
        above = process(10, shell, executable="/usr/bin/bash", **session)
        host_of(run).processes = {above.pid: above}
        groups = Groups(run)
        groups.with_suspects = True
        newest = groups._newest(run.adapters.host.snapshot())
        host_of(run).new = [process(11, ("./count",), above.pid, executable="/opt/count", **session)]
        assert bool(newest()) is caught


def test_a_group_of_a_start_that_died_that_holds_a_stranger_and_cannot_be_thawed_stays_named(
    run: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not held: a stop would end the stranger with it."""
    path, group = run.cordon_files.early, group_of(run, HOME)
    path.write_text(json.dumps([{"group": HOME}]))
    host_of(run).processes[7] = process(1, ("bash",), cgroup=f"0::{HOME}\n")
    group.is_frozen = True
    monkeypatch.setattr(group, "thaw", lambda: "Device or resource busy")
    groups = Groups(run)
    assert (groups.rows, groups.unthawed) == ([], [HOME])
    take_over(path, (), groups.unthawed)
    assert read_early(path).groups == [HOME]
    assert not_taken_over(EarlyFreeze(path, (), (HOME,))).groups == ()
