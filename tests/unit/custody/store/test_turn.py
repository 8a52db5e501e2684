"""Laws of the turns of latest/, whatever lies there and whatever is wanted."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.evidence.acquisition import Evidence, Loss, Outcome
from tasks.custody.evidence.keys import begun_key, done_key, kept_key, latest_name, turn_of
from tasks.custody.store.latest import CHANGES, GIVEN_UP, Act, Latest, LatestTransaction, ObjectRef
from tasks.custody.store.latest_plan import kept_copies, pending, plan, surplus_of, unsure_of, why_not_now

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEYS = [f"latest/{folder}/{name}" for folder in ("models", "artifacts", "logs", "other") for name in "abc"]


def held(content: str, key: str = "snapshots/1/x") -> ObjectRef:
    return ObjectRef(hashlib.sha256(content.encode()).hexdigest(), len(content), key)


def latests(*keys: str) -> st.SearchStrategy[dict[str, ObjectRef]]:
    contents = st.builds(held, st.sampled_from("12345"), st.sampled_from(keys))
    return st.dictionaries(st.sampled_from(KEYS), contents)


presents, wishes = latests("", "snapshots/1/x", "incidents/1/x"), latests("snapshots/2/x")
some = st.sets(st.sampled_from(KEYS))


def turn(**changes: Any) -> LatestTransaction:
    return replace(LatestTransaction(7, "IR-2", "guarded", "run", NOW, ()), **changes)


def digests(latest: Latest) -> dict[str, str]:
    return {key: each.sha256 for key, each in latest.items()}


@given(presents, wishes, some, some)
def test_what_is_wanted_comes_and_nothing_goes_that_nobody_holds(
    present: dict[str, ObjectRef], wanted: dict[str, ObjectRef], surplus: set[str], remove: set[str]
) -> None:
    made = turn(rows=plan(7, present, wanted, surplus=surplus, remove=remove))
    assert digests(made.before) == digests(present)
    assert digests(wanted).items() <= digests(made.after).items()
    gone = {key for key in present if made.after.get(key, ObjectRef("", 0)).sha256 != present[key].sha256}
    assert all(made.before[key].key for key in gone)
    assert gone - wanted.keys() <= remove
    assert present.keys() - gone <= made.after.keys()


@given(presents, wishes, some)
def test_planned_again_there_is_nothing_to_do(
    present: dict[str, ObjectRef], wanted: dict[str, ObjectRef], remove: set[str]
) -> None:
    done = turn(rows=plan(7, present, wanted, remove=remove)).after
    again = plan(8, done, wanted, remove=remove)
    assert not any(row.act in CHANGES for row in again)


@given(presents, wishes, some)
def test_undone_it_is_what_it_was(
    present: dict[str, ObjectRef], wanted: dict[str, ObjectRef], remove: set[str]
) -> None:
    made = turn(rows=plan(7, present, wanted, remove=remove))
    back = turn(number=8, rows=plan(8, made.after, made.before, remove=made.after.keys()))
    assert digests(back.after) == digests(present)


@given(presents, wishes, some, st.data())
def test_carried_on_by_another_it_ends_the_same(
    present: dict[str, ObjectRef], wanted: dict[str, ObjectRef], remove: set[str], data: st.DataObject
) -> None:
    made = turn(rows=plan(7, present, wanted, remove=remove))
    changed = [row for row in made.rows if row.act in CHANGES]
    done = data.draw(st.sets(st.sampled_from(range(len(changed)))) if changed else st.just(set[int]()))
    half = made.before
    for row in (changed[number] for number in done):
        if row.after:
            half[row.key] = row.after
        else:
            del half[row.key]
    coming, going = pending(made)
    assert digests(turn(rows=plan(8, half, coming, remove=going)).after) == digests(made.after)


@given(presents, wishes, some)
def test_it_is_written_and_read_back(
    present: dict[str, ObjectRef], wanted: dict[str, ObjectRef], remove: set[str]
) -> None:
    made = turn(rows=plan(7, present, wanted, remove=remove), undoes=3)
    assert LatestTransaction.read([made.to_bytes()]) == made
    assert LatestTransaction.read([made.to_bytes()]).to_bytes() == made.to_bytes()


@given(presents, wishes, some)
def test_a_mirror_empties_no_folder_and_spares_what_the_workload_has(
    present: dict[str, ObjectRef], wanted: dict[str, ObjectRef], spared: set[str]
) -> None:
    surplus = surplus_of(present, wanted, spared)
    assert not surplus & (wanted.keys() | spared)
    assert all(any(key.split("/")[1] == each.split("/")[1] for each in wanted) for key in surplus)
    assert not any(key.startswith("latest/other/") for key in surplus)


def test_what_nobody_holds_is_kept_by_the_turn_itself() -> None:
    rows = plan(7, {KEYS[0]: held("1", ""), KEYS[1]: held("1")}, {KEYS[0]: held("2"), KEYS[1]: held("2")})
    assert kept_copies(7, rows) == {kept_key(7, latest_name(KEYS[0])): held("1").sha256}


def test_acts_are_told_apart() -> None:
    present = {KEYS[0]: held("1"), KEYS[1]: held("1"), KEYS[2]: held("1"), KEYS[3]: held("1"), KEYS[4]: held("1", "")}
    wanted = {KEYS[0]: held("1"), KEYS[1]: held("2"), KEYS[5]: held("3")}
    rows = plan(7, present, wanted, surplus={KEYS[3]}, remove={KEYS[2], KEYS[4]})
    assert {row.key: row.act for row in rows} == {
        KEYS[0]: Act.KEEP,
        KEYS[1]: Act.REPLACE,
        KEYS[2]: Act.DELETE,
        KEYS[3]: Act.WOULD_DELETE,
        KEYS[4]: Act.WOULD_DELETE,
        KEYS[5]: Act.ADD,
    }
    assert turn(rows=rows).summary == "1 add, 1 replace, 1 keep, 1 delete, 2 would delete"


@pytest.mark.parametrize(
    ("incident", "minutes", "waits"),
    [("IR-2", 1, False), ("IR-3", 1, True), ("IR-3", 14, True), ("IR-3", 16, False), ("", 1, True), ("", 16, False)],
)
def test_an_open_turn_is_carried_on_by_its_incident_at_once_by_others_later(
    incident: str, minutes: int, *, waits: bool
) -> None:
    why_not = why_not_now(turn(), incident, NOW + timedelta(minutes=minutes))
    assert ("turn 7 (IR-2, by run) is under way since 2026-01-02 03:04:05 UTC" in why_not) is waits
    assert bool(why_not) is waits


def test_a_rollback_that_was_broken_off_is_nobodys_incident() -> None:
    assert "a rollback before turn 3" in why_not_now(turn(incident="", undoes=3), "", NOW)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"number": 1}',
        turn(rows=plan(7, {}, {"incidents/x": held("1")})).to_bytes(),
        turn(rows=plan(7, {}, {KEYS[0]: held("1", "latest/x")})).to_bytes(),
        turn(begun_at=NOW.replace(tzinfo=None)).to_bytes(),
    ],
)
def test_what_is_no_turn_is_not_followed(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  pydantic's own is one
        LatestTransaction.read([data])


def test_keys_tell_their_turn() -> None:
    assert {turn_of(key) for key in (begun_key(7), done_key(7), kept_key(7, latest_name(KEYS[0])))} == {7}
    assert [turn_of(key) for key in ("promotions/IR-1.json", "promotions/7/x", "x/promotions/000007/a")] == [0, 0, 0]


def attempt(collector: str, outcome: Outcome, *lost: str) -> Evidence:
    losses = tuple(Loss(source, Outcome.DENIED, "not permitted") for source in lost)
    about = {"needed": False, "may_be_missing": False, "reason": "", "started_at": NOW, "ended_at": NOW, "volume": 1}
    return Evidence(collector=collector, outcome=outcome, losses=losses, **about)  # type: ignore[arg-type]


def test_a_folder_that_was_not_seen_whole_is_not_mirrored() -> None:
    seen = [
        attempt("models", Outcome.COLLECTED),
        attempt("logs", Outcome.DENIED),
        attempt("kernel", Outcome.DENIED),
        attempt("artifacts", Outcome.COLLECTED, "artifacts/secret.json"),
    ]
    assert unsure_of(seen) == {"logs", "artifacts"}
    present = {key: held("1") for key in KEYS}
    wanted = {key: held("1") for key in KEYS if key.endswith("a")}
    assert surplus_of(present, wanted, (), unsure_of(seen)) == {"latest/models/b", "latest/models/c"}


def test_a_turn_is_given_up_when_more_than_its_time_is_over() -> None:
    assert why_not_now(turn(), "IR-9", NOW + GIVEN_UP)
    assert not why_not_now(turn(), "IR-9", NOW + GIVEN_UP + timedelta(microseconds=1))
