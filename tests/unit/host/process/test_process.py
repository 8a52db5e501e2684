"""Which signal each process heeds."""

from signal import SIGCONT, SIGINT, SIGTERM, Signals

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.containment.identity import Identity
from tasks.host.process.process import (
    Masks,
    Process,
    ancestry,
    copies,
    family,
    gentle_signal,
    handed_down,
    parents_first,
)


def mask(*numbers: Signals) -> int:
    return sum(1 << (number - 1) for number in numbers)


@pytest.mark.parametrize(
    ("masks", "heeded"),
    [
        (Masks(), SIGINT),
        (Masks(caught=mask(SIGINT)), SIGINT),
        (Masks(ignored=mask(SIGINT)), SIGTERM),
        (Masks(blocked=mask(SIGINT)), SIGTERM),
        (Masks(blocked=mask(SIGINT), caught=mask(SIGINT)), SIGTERM),
        (Masks(ignored=mask(SIGTERM)), SIGINT),
        (Masks(ignored=mask(SIGINT, SIGTERM)), None),
        (Masks(blocked=mask(SIGINT), ignored=mask(SIGTERM)), SIGINT),
        (Masks(blocked=2**64 - 1), SIGINT),
        (Masks(blocked=2**64 - 1, ignored=mask(SIGINT)), SIGTERM),
        (Masks(blocked=2**64 - 1, ignored=mask(SIGINT, SIGTERM)), None),
        (Masks(ignored=mask(SIGCONT)), SIGINT),
    ],
)
def test_the_gentle_signal_is_one_that_the_process_heeds(masks: Masks, heeded: Signals | None) -> None:
    assert gentle_signal(masks) is heeded


@given(st.builds(Masks, *[st.integers(0, 2**64 - 1)] * 3), st.sampled_from((SIGINT, SIGTERM)))
def test_a_gentle_signal_is_never_ignored_and_blocked_only_if_the_other_is_not_heeded(
    masks: Masks, first: Signals
) -> None:
    """A shell blocks all for a moment between two waits: frozen there, it was thawed without a signal."""
    chosen = gentle_signal(masks, first)
    if chosen is None:
        assert mask(SIGINT, SIGTERM) & ~masks.ignored == 0
    else:
        assert not masks.ignored & mask(chosen)
        assert masks.heeds(chosen) or not (masks.heeds(SIGINT) or masks.heeds(SIGTERM))


def test_of_two_that_are_heeded_the_first_is_sent() -> None:
    assert (gentle_signal(Masks(), SIGTERM), gentle_signal(Masks(ignored=mask(SIGTERM)), SIGTERM)) == (SIGTERM, SIGINT)


def kin(pid: int, parent: int, state: str = "S", *, forked: bool = False) -> Process:
    return Process(Identity(pid, pid), parent, state, forked=forked)


def test_a_copy_is_a_child_that_has_not_become_another_program_while_its_parent_lives() -> None:
    seen = [
        kin(10, 1),
        kin(11, 10, forked=True),
        kin(12, 11, forked=True),
        kin(13, 10),
        kin(14, 13, forked=True),
        kin(20, 1, "Z"),
        kin(21, 20, forked=True),
        kin(30, 1, forked=True),
    ]
    snapshot = {process.pid: process for process in seen}
    assert copies(snapshot, [10, 20, 99]) == {11}
    assert copies(snapshot, [10, 11, 13]) == {12, 14}


@given(st.lists(st.integers(0, 30), min_size=1, max_size=30))
def test_no_child_comes_before_its_parent_and_a_loop_ends(parents: list[int]) -> None:
    snapshot = {pid: kin(pid, parent) for pid, parent in enumerate(parents, 1)}
    order = parents_first(snapshot, snapshot)
    assert sorted(order) == sorted(snapshot)
    for pid, process in snapshot.items():
        above = ancestry(snapshot, [process.parent])
        looped = any(one in ancestry(snapshot, [snapshot[one].parent]) for one in {pid, *above})
        assert looped or process.parent not in snapshot or order.index(process.parent) < order.index(pid)


def test_what_is_handed_down_is_computed_once_for_each_process() -> None:
    chain = {pid: kin(pid, pid - 1) for pid in range(1, 2001)}
    asked: list[int] = []

    def step(process: Process, above: int) -> int:
        asked.append(process.pid)
        return above + 1

    assert handed_down(chain, reversed(chain), 0, step) == {pid: pid for pid in chain}
    assert asked == list(chain)


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"pid": 7, "start": 70}, Identity(7, 70)),
        ({"pid": "7", "start": "70", "at": "2026"}, Identity(7, 70)),
        ({"identity": {"pid": 7, "start": 70}, "role": "api"}, Identity(7, 70)),
        ({"identity": None, "pid": 7, "start": 70}, None),
        ({"container": {"id": "7"}}, None),
        ({"pid": 7}, None),
        ({"pid": 7, "start": "soon"}, None),
        ({}, None),
        ([7, 70], None),
        (None, None),
    ],
)
def test_a_row_names_a_process_or_none(row: object, named: Identity | None) -> None:
    assert Identity.of(row) == named


@pytest.mark.parametrize(("state", "stands"), [("T", True), ("t", True), ("S", False), ("R", False), ("Z", False)])
def test_a_process_stands_by_a_signal_or_for_a_tracer(state: str, stands: bool) -> None:  # noqa: FBT001
    assert Process(Identity(7, 70), 1, state).is_stopped is stands


@pytest.mark.parametrize(
    ("own", "pids"),
    [
        ([], set()),
        ([None], set()),
        ([Identity(10, 100)], {10, 11, 12}),
        ([Identity(11, 110), Identity(20, 200)], {11, 12, 20}),
        ([Identity(10, 101)], set()),
        ([Identity(30, 300)], set()),
    ],
)
def test_a_family_is_who_was_asked_for_and_all_descendants_and_none_by_its_pid_alone(
    own: list[Identity | None], pids: set[int]
) -> None:
    parents = {1: 0, 10: 1, 11: 10, 12: 11, 20: 1}
    snapshot = {pid: Process(Identity(pid, pid * 10), parent, "S") for pid, parent in parents.items()}
    assert family(snapshot, own) == pids
