"""What an offload and a change of latest/ tell, and which documents prove the change."""

import pytest

from tasks.custody.evidence.keys import begun_key, done_key, kept_key
from tasks.custody.store.latest import Act, LatestRow, ObjectRef, Promotion, TurnProof
from tasks.custody.store.latest_plan import kept_copies
from tasks.custody.store.receipts import ObjectReceipt
from tasks.custody.store.sent import Sent

PROOF = TurnProof(3, "b" * 64, "d" * 64, {"promotions/000003/kept/m": "e" * 64})
BAD = ObjectReceipt("latest/m", "0", 1, proven=False, reason="another digest")


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (Sent(2, 30, "s3", sent=30), "2 objects, 30 bytes to s3"),
        (Sent(2, 30, "s3", sent=10), "2 objects, 30 bytes to s3 (10 sent, 20 there already)"),
        (Sent(2, 30, "s3", copied=30), "2 objects, 30 bytes to s3 (30 copied inside the store)"),
        (
            Sent(3, 30, "s3", sent=5, copied=10),
            "3 objects, 30 bytes to s3 (5 sent, 10 copied inside the store, 15 there already)",
        ),
        (Sent(0, 0, "s3"), "0 objects, 0 bytes to s3"),
    ],
)
def test_an_offload_tells_what_crossed_the_network(sent: Sent, told: str) -> None:
    assert (sent.is_complete, sent.summary) == (True, told)


@pytest.mark.parametrize(
    ("promotion", "complete", "told"),
    [
        (Promotion(reason="the policy is never"), True, "the policy is never"),
        (Promotion(reason="another is at work", again=True), False, "another is at work"),
        (Promotion(turn=PROOF, counts="1 add"), True, "turn 3: 1 add"),
        (Promotion(turn=PROOF, counts="1 add", reason="m held"), True, "turn 3: 1 add; m held"),
        (Promotion((BAD,), PROOF, "1 add"), False, "turn 3: 1 add; 1 not: latest/m: another digest"),
    ],
)
def test_a_promotion_tells_whether_another_try_may_do_better(
    promotion: Promotion, *, complete: bool, told: str
) -> None:
    assert (promotion.is_complete, promotion.summary) == (complete, told)


def test_a_turn_is_proven_by_both_documents_and_by_what_it_kept() -> None:
    assert PROOF.digests == {begun_key(3): "b" * 64, done_key(3): "d" * 64, "promotions/000003/kept/m": "e" * 64}


def test_a_turn_keeps_only_what_it_replaced_and_nobody_else_holds() -> None:
    ours = ObjectRef("1" * 64, 1, kept_key(3, "m"))
    snapshot = ObjectRef("2" * 64, 1, "snapshots/20260102T030405Z/n")
    after = ObjectRef("3" * 64, 1, "snapshots/20260102T030405Z/m")
    replaced = LatestRow("latest/m", Act.REPLACE, ours, after)
    others = [
        LatestRow("latest/n", Act.REPLACE, snapshot, after),
        LatestRow("latest/o", Act.ADD, None, after),
        LatestRow("latest/m", Act.KEEP, ours, ours),
        LatestRow("latest/p", Act.REPLACE, ours, after),
    ]
    assert kept_copies(3, [*others, replaced]) == {ours.key: ours.sha256}
    assert kept_copies(4, [replaced]) == {}
