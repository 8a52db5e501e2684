"""What each receipt of a containment and of a store tells, and when it is all that it should be."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tasks.custody.containment.cordon import Challenge, Cordon
from tasks.custody.containment.identity import NOBODY, ContainerIdentity, Identity
from tasks.custody.containment.receipt import (
    NOT_AS_BEFORE,
    Containment,
    End,
    Freeze,
    Frozen,
    FrozenContainer,
    Recovery,
    Returned,
    Stop,
    Stopped,
    StoppedContainer,
    Watch,
)
from tasks.custody.step_result import StepResult
from tasks.custody.store.receipts import ObjectReceipt, Receipts, lost, lost_once, unproven

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
WHO = Identity(41, 77)
HELD = Frozen(WHO, "training", "train", 0, NOON, NOON)
DENIED = replace(HELD, frozen_at=None, denied="EPERM")
BOX = FrozenContainer(
    ContainerIdentity("c" * 64, "c" * 64),
    "api",
    "img:1",
    "no",
    auto_remove=False,
    why="w",
    seen_at=NOON,
    paused_at=NOON,
)
UNPAUSED = replace(BOX, paused_at=None, denied="no answer")


def ended(*ends: End) -> tuple[Stopped, ...]:
    return tuple(Stopped(WHO, "training", "train", (), end, NOON) for end in ends)


def ended_box(end: End, *, removed: bool = False) -> tuple[StoppedContainer, ...]:
    return (StoppedContainer(BOX.identity, "api", "img:1", (), end, 0, NOON, removed),)


def came(*ends: End) -> tuple[Returned, ...]:
    return tuple(Returned(WHO, "training", "train", "cron", end) for end in ends)


def check(*alive: str, cordoned: bool = True, **fields: object) -> Containment:
    return replace(Containment(NOON, alive, cordoned), **fields)  # type: ignore[arg-type]  # a table's fields


CORDON = Cordon("/l", held=True, guard=Identity(5, 1), since="noon", incident="IR-x")
RECOVERED = Recovery(NOON, WHO, "m.joblib", "ab" * 32)
ALL, SOME = True, False


@pytest.mark.parametrize(
    ("result", "complete", "told"),
    [
        (Freeze(NOON, (), settled=True), ALL, "nothing of the workload runs"),
        (Freeze(NOON, (HELD, HELD), settled=True), ALL, "2 processes frozen"),
        (Freeze(NOON, (HELD,), settled=False), SOME, "1 processes frozen, and new ones still come"),
        (Freeze(NOON, (HELD, DENIED), settled=True), SOME, "1 processes frozen; not frozen: 41: EPERM"),
        (Freeze(NOON, (), settled=True, containers=(BOX,)), ALL, "1 containers paused"),
        (
            Freeze(NOON, (HELD,), settled=True, containers=(BOX, UNPAUSED)),
            SOME,
            "1 processes frozen; 1 containers paused; not frozen: container api (cccccccccccc, img:1): no answer",
        ),
        (Freeze(NOON, (), settled=True, engine="away"), SOME, "containers unknown: away"),
        (Stop(NOON, ()), ALL, "nothing to stop"),
        (Stop(NOON, ended(End.KILLED, End.STOPPED, End.KILLED)), ALL, "1 stopped, 2 killed"),
        (Stop(NOON, ended(End.SURVIVED)), SOME, "1 survived"),
        (Stop(NOON, (), ended_box(End.SURVIVED)), SOME, "containers: 1 survived"),
        (Stop(NOON, ended(End.GONE), ended_box(End.STOPPED)), ALL, "1 ended by itself; containers: 1 stopped"),
        (Watch(NOON, (), (), ()), ALL, "nothing came back"),
        (Watch(NOON, came(End.KILLED), (), ("cron",)), ALL, "1 came back; brought by cron, which was stopped"),
        (Watch(NOON, came(End.HELD), (), ()), SOME, "1 came back"),
        (Watch(NOON, came(End.SURVIVED), (), ()), SOME, "1 came back"),
        (Watch(NOON, (), (), (), ended_box(End.HELD)), SOME, "1 came back"),
        (
            Watch(NOON, came(End.KILLED), ("cron",), (), ended_box(End.STOPPED)),
            SOME,
            "2 came back; brought by cron, which still stands",
        ),
        (Challenge(NOON), SOME, "a training could be started under the cordon"),
        (Challenge(NOON, caught="refused"), ALL, "a launch was caught: refused"),
        (Challenge(NOON, skipped="compromised"), ALL, "no launch was tried: compromised"),
        (CORDON, ALL, "/l is held by guard 5 since noon"),
        (replace(CORDON, guard=None), ALL, "/l is held by guard ? since noon"),
        (replace(CORDON, guard=NOBODY), ALL, "/l would be held by a guard"),
        (replace(CORDON, held=False, reason="cron has it"), SOME, "/l is not ours: cron has it"),
        (check(), ALL, "contained: nothing of the workload runs."),
        (check(reason="The lock refuses."), ALL, "contained: nothing of the workload runs. The lock refuses."),
        (check(left_alone=("x", "y")), ALL, "contained: nothing of the workload runs; 2 left alone: x."),
        (
            check(left_alone=("x",), notes=("1 excused: y",)),
            ALL,
            "contained: nothing of the workload runs; 1 left alone: x; 1 excused: y.",
        ),
        (check("a", notes=("b", "c", "d", "e")), SOME, "not contained: a; b; c; d"),
        (check("a", "b", "c", "d"), SOME, "not contained: a; b; c"),
        (check(cordoned=False, reason="nobody holds the lock"), SOME, "not contained: nobody holds the lock"),
        (
            check(recovered=True),
            ALL,
            "recovered: what this incident brought back is at work, and training is let in",
        ),
        (check("a", recovered=True), SOME, "not contained: a"),
        (
            RECOVERED,
            ALL,
            "the API answers (pid 41) with m.joblib, sha256 abababababab as in the manifest; at the freeze: not known",
        ),
        (
            replace(RECOVERED, sha256="", container="api", before="a.joblib (open in its process)"),
            ALL,
            "the API answers (container api) with m.joblib; at the freeze: a.joblib (open in its process)",
        ),
        (
            replace(RECOVERED, sha256="", url="http://127.0.0.1:8000"),
            ALL,
            "the API at http://127.0.0.1:8000 answers (pid 41) with m.joblib; at the freeze: not known",
        ),
        (
            replace(RECOVERED, sha256="", prediction="0.5", unproven=("a", "b")),
            SOME,
            "the API answers (pid 41) with m.joblib; at the freeze: not known, and predicts 0.5; not proven: a; b",
        ),
    ],
)
def test_each_tells_what_was_done_and_what_is_missing(result: StepResult, *, complete: bool, told: str) -> None:
    assert (result.is_complete, result.summary) == (complete, told)
    assert repr(result) == f"<{type(result).__name__}: {told}>"


def test_a_container_is_told_as_a_person_finds_it() -> None:
    assert [each.summary for each in (*ended_box(End.KILLED), *ended_box(End.KILLED, removed=True))] == [
        "api (img:1)",
        "api (img:1), removed with its end",
    ]


def test_what_is_lost_is_not_unproven_and_counts_once_beside_its_copy() -> None:
    proven = ObjectReceipt("evidence/a", "0", 5, proven=True)
    doubted = ObjectReceipt("evidence/b", "0", 7, proven=False, reason="another digest")
    gone = ObjectReceipt("evidence/c", "0", 9, proven=False, lost=True, reason="it changed")
    copy = replace(gone, key="snapshots/x/c")
    all_of_them = (proven, doubted, gone, copy)
    assert (unproven(all_of_them), lost(all_of_them), lost_once(all_of_them)) == ([doubted], [gone, copy], [gone])
    told = Receipts(all_of_them)
    assert not told.is_complete
    assert told.summary == "1 objects, 5 bytes; 1 not: evidence/b: another digest; 2 lost: evidence/c: it changed"
    assert (Receipts((proven, gone)).is_complete, Receipts((proven,)).summary) == (True, "1 objects, 5 bytes")


def test_what_its_own_start_has_started_besides_is_told_with_how_many_more() -> None:
    brought = tuple(f"{number}: python train.py" for number in range(5))
    assert "besides" not in RECOVERED.summary
    told = replace(RECOVERED, brought=brought)
    assert "its own start has started besides API 以外も起動: 0: python train.py; 1: python train.py" in told.summary
    assert "(+2)" in told.summary
    assert told.is_complete


@pytest.mark.parametrize(
    ("model", "unproven", "named"),
    [
        ("m.joblib", (f"{NOT_AS_BEFORE}, which is not known",), "m.joblib"),
        ("m.joblib", (), ""),
        ("m.joblib", ("a prediction",), ""),
        ("m.joblib", (f"{NOT_AS_BEFORE}, which is not known", "a prediction"), ""),
        ("a.joblib or b.joblib", (f"{NOT_AS_BEFORE}, which is not known",), ""),
    ],
)
def test_a_person_may_name_the_model_if_nothing_else_is_unproven(
    model: str, unproven: tuple[str, ...], named: str
) -> None:
    assert replace(RECOVERED, model=model, unproven=unproven).model_to_name == named
