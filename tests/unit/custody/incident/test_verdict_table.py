"""The verdict over everything that can come out: outcome × needed × may be missing × contained × objects × steps.

The columns are those of the design's "Verdict and states"; what they hold was written by hand, not computed.
"""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from typing import Final

import pytest

from tasks.custody.containment.cordon import Challenge
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.pause import Launcher, LauncherKind, LauncherState, Pause
from tasks.custody.containment.receipt import Containment, Unknown
from tasks.custody.evidence.acquisition import Evidence, Outcome
from tasks.custody.incident.verdict import Word, judge, ways_in
from tasks.custody.store.receipts import ObjectReceipt

NOW: Final = datetime(2026, 1, 2, tzinfo=UTC)
ID: Final = "IR-20260102T030405Z"

#                              optional    needed      needed, and may be missing
LOSES: Final = {
    Outcome.COLLECTED:        ("complete", "complete", "complete"),
    Outcome.EMPTY:            ("complete", "complete", "complete"),
    Outcome.WITHHELD:         ("note",     "note",     "note"),
    Outcome.MISSING:          ("",         "LOST",     "note"),
    Outcome.TRUNCATED:        ("note",     "LOST",     "LOST"),
    Outcome.DENIED:           ("note",     "LOST",     "LOST"),
    Outcome.FAILED:           ("note",     "LOST",     "LOST"),
    Outcome.TIMED_OUT:        ("note",     "LOST",     "LOST"),
}  # fmt: skip
COLUMNS: Final = {(False, False): 0, (False, True): 0, (True, False): 1, (True, True): 2}

CONTAINED: Final = Containment(NOW, (), cordoned=True)
UNKNOWN: Final = (Unknown(Identity(7, 70), "node serve.js", "it works in the root", 'bystanders = ["serve.js"]'),)
CONTAINMENTS: Final[dict[str, tuple[Containment | None, bool]]] = {
    "one is not known": (replace(CONTAINED, unknown=UNKNOWN), True),
    "one is not known, one lives": (Containment(NOW, ("training 9",), cordoned=True, unknown=UNKNOWN), False),
    "contained": (CONTAINED, True),
    "recovered": (Containment(NOW, (), cordoned=True, recovered=True), True),
    "alive": (Containment(NOW, ("training 7",), cordoned=True), False),
    "the lock is another's": (Containment(NOW, (), cordoned=False, reason="held by 4711"), False),
    "the lock is open, nobody knows why": (Containment(NOW, (), cordoned=False), False),
    "not looked": (None, False),
}
PROVEN: Final = ObjectReceipt("incidents/a", "0" * 64, 3, proven=True)
UNPROVEN: Final = ObjectReceipt("incidents/b", "1" * 64, 3, proven=False, reason="not there")
LOST: Final = ObjectReceipt("incidents/c", "2" * 64, 3, proven=False, reason="changed", lost=True)
OBJECTS: Final[dict[str, tuple[list[ObjectReceipt], str]]] = {
    "every object proven": ([PROVEN, PROVEN], "proven"),
    "one unproven": ([PROVEN, UNPROVEN], "unproven"),
    "none at all": ([], "unproven"),
    "one lost for want of room": ([PROVEN, LOST], "lost"),
    "one lost, one unproven": ([LOST, UNPROVEN], "unproven"),
}
PAUSED: Final = Pause((LauncherState(Launcher(LauncherKind.POOL, "train"), paused=True),))
WAYS: Final[dict[str, tuple[Pause | None, Challenge | None, bool]]] = {
    "closed": (PAUSED, Challenge(NOW, caught="exit 75"), True),
    "no launch tried": (Pause(()), Challenge(NOW, skipped="no training_command"), True),
    "no challenge": (Pause(()), None, True),
    "a launch got through": (PAUSED, Challenge(NOW), False),
    "a pool runs on": (Pause((LauncherState(Launcher(LauncherKind.POOL, "train"), paused=False),)), None, False),
    "a pool could not be asked": (
        Pause((LauncherState(Launcher(LauncherKind.POOL, "train"), paused=None),)),
        None,
        False,
    ),
    "the pause left nothing": (None, Challenge(NOW, caught="exit 75"), False),
}


def expected(*, closed: bool, objects: str, trouble: bool, unknown: bool, lost: bool) -> Word:
    """What the design says, in its order."""
    if not closed:
        return Word.NOT_CONTAINED
    if trouble or objects == "unproven":
        return Word.UNVERIFIED
    if unknown:
        return Word.UNANSWERED
    return Word.PARTIAL if lost or objects == "lost" else Word.VERIFIED


def test_the_table_has_every_outcome() -> None:
    assert set(LOSES) == set(Outcome)


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize(("needed", "may_be_missing"), COLUMNS)
def test_the_verdict_follows_the_table(outcome: Outcome, *, needed: bool, may_be_missing: bool) -> None:
    effect = LOSES[outcome][COLUMNS[needed, may_be_missing]]
    attempt = Evidence("logs", needed, may_be_missing, outcome, "why", NOW, NOW, 1)
    other = Evidence("packages", True, False, Outcome.COLLECTED, "", NOW, NOW, 1)
    cases = product(CONTAINMENTS, OBJECTS, WAYS, ([], ["§5 offload: no network"]), (False, True))
    for containment, objects, ways, trouble, alone in cases:
        seen, contained = CONTAINMENTS[containment]
        receipts, proven = OBJECTS[objects]
        pause, challenge, shut = WAYS[ways]
        evidence = [attempt] if alone else [other, attempt]
        verdict = judge(ID, seen, evidence, receipts, trouble, ways_in=ways_in(pause, challenge, None))
        unknown = bool(seen and seen.unknown)
        closed, lost = contained and shut, effect == "LOST"
        word = expected(closed=closed, objects=proven, trouble=bool(trouble), unknown=unknown, lost=lost)
        case = (outcome, containment, objects, ways, trouble)
        assert verdict.word is word, case
        assert (f"logs {outcome}: why" in verdict.missing) == (effect == "LOST"), case
        noted = any(note.startswith(f"logs {outcome}: why") for note in verdict.notes)
        assert noted == (effect == "note"), case
        assert bool(verdict.missing) or objects == "none at all" or word is Word.VERIFIED, case
        assert not verdict.missing or word is not Word.VERIFIED, case
        assert (UNKNOWN[0].summary in verdict.missing) == unknown, case
        assert ("the workload is contained" in verdict.safe) == (contained and shut and not unknown), case


def test_no_evidence_at_all_is_never_verified() -> None:
    for (receipts, _), (pause, challenge, _) in product(OBJECTS.values(), WAYS.values()):
        verdict = judge(ID, CONTAINED, [], receipts, ways_in=ways_in(pause, challenge, None))
        assert verdict.word is not Word.VERIFIED
