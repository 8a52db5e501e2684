"""What follows from each promise that a store was, or was not, seen to keep."""

from itertools import product

import pytest

from tasks.custody.store.promises import KEPT, ONE_REQUEST, CreationWay, Promises

BEYOND = ONE_REQUEST + 1
YES, SENT, LOOKED = CreationWay.CONDITION, CreationWay.SENT, CreationWay.LOOKED


@pytest.mark.parametrize(
    ("puts", "copies", "parts", "small", "large", "huge", "copy", "huge_copy"),
    [
        (True, True, True, YES, YES, YES, YES, YES),
        (True, True, False, YES, SENT, LOOKED, YES, LOOKED),
        (True, False, True, YES, YES, YES, SENT, YES),
        (True, False, False, YES, SENT, LOOKED, SENT, LOOKED),
        (False, True, True, LOOKED, YES, YES, YES, YES),
        (False, True, False, LOOKED, LOOKED, LOOKED, YES, LOOKED),
        (False, False, True, LOOKED, YES, YES, LOOKED, YES),
        (False, False, False, LOOKED, LOOKED, LOOKED, LOOKED, LOOKED),
    ],
)
def test_how_an_object_is_created(  # noqa: PLR0913, PLR0917  the columns of a table
    puts: bool,  # noqa: FBT001
    copies: bool,  # noqa: FBT001
    parts: bool,  # noqa: FBT001
    small: CreationWay,
    large: CreationWay,
    huge: CreationWay,
    copy: CreationWay,
    huge_copy: CreationWay,
) -> None:
    kept = Promises(puts=puts, copies=copies, parts=parts)
    assert kept.way(1) is small
    assert kept.way(ONE_REQUEST, divided=True) is large
    assert kept.way(BEYOND, divided=True) is huge
    assert kept.way(ONE_REQUEST, divided=True, copied=True) is copy
    assert kept.way(BEYOND, divided=True, copied=True) is huge_copy
    assert kept.exclusive(1) == (CreationWay.LOOKED not in {small, copy})
    assert kept.exclusive(BEYOND, divided=True) == (CreationWay.LOOKED not in {huge, huge_copy})


def test_a_digest_counts_only_where_a_wrong_one_is_refused() -> None:
    assert [Promises(refuses=r, tells=t).digests for r, t in product((True, False), repeat=2)] == [True, *[False] * 3]


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (KEPT, []),
        (Promises(tells=False), ["reports no digest", "read back"]),
        (Promises(refuses=False), ["accepts a wrong digest", "read back"]),
        (Promises(puts=False), ["before and after"]),
        (Promises(copies=False), ["sent again instead of copied"]),
        (Promises(parts=False), ["sent whole; above 5 GiB"]),
        (Promises(refuses_parts=False), ["of a part"]),
        (Promises(locks=False), ["does not keep a lock"]),
        (Promises(tells=False, locks=False), ["reports no digest", "read back", "does not keep a lock"]),
        (Promises(refuses=False, tells=False, puts=False, untried="403"), ["not be tried", "read", "each new"]),
        (Promises(refuses=False, locks=False, untried="403"), ["not be tried", "read", "locks that it reports count"]),
    ],
)
def test_what_is_done_in_another_way_is_said(seen: Promises, told: list[str]) -> None:
    assert len(seen.notes) == len(told)
    assert all(words in note for words, note in zip(told, seen.notes, strict=True))
