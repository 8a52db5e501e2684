"""Which changes contradict that everything was stopped: one table."""

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.host.process.process import Process
from tasks.host.silence import SETTLE_SECONDS, Change, Heard, Silence, is_below, judge_silence
from tests.support.paper_host import process

ARMED = datetime(2026, 1, 2, 3, 12, tzinfo=UTC)
SOON, LATER = ARMED + timedelta(seconds=0.5), ARMED + timedelta(seconds=9)
STRANGER, EDITOR, CAUGHT = process(1), process(2, ("vim", "x")), process(3, ("python", "train.py"))
WAITED = process(7, ("tee", "x"))
CHILD = process(4, parent=3)


def by(*lineage: Process, file: str = "models/m", at: datetime = LATER) -> Change:
    return Change(file, at, lineage[0].pid if lineage else 0, lineage)


def judged(*events: Change, at_work: tuple[Process, ...] = (), **heard: object) -> Silence:
    alive = {each.identity for each in at_work}
    return judge_silence(
        Heard(ARMED, events, there=frozenset({WAITED.pid}), **heard),  # type: ignore[arg-type]
        lambda change: change.lineage[0] == EDITOR,
        {CAUGHT.identity},
        lambda who: who in alive,
    )


@pytest.mark.parametrize(
    ("change", "at_work", "is_broken", "is_settled"),
    [
        (by(STRANGER), (STRANGER,), True, False),
        (by(STRANGER), (), True, False),  # it has ended since, and still it has written
        (by(STRANGER, at=SOON), (STRANGER,), True, False),
        (by(STRANGER, at=SOON), (), True, False),  # it was started since, and so waited for nothing
        (by(WAITED, at=SOON), (), False, True),  # the last words of what waited for the workload
        (by(WAITED, at=SOON), (WAITED,), True, False),
        (by(WAITED, at=LATER), (), True, False),
        (by(STRANGER, WAITED, at=SOON), (), False, True),  # a wrapper's child, as it writes down the end
        (by(STRANGER, WAITED, at=SOON), (WAITED,), True, False),  # a loop's
        (Change("models/m", LATER, 4711), (), True, False),  # gone before it could be looked up
        (Change("models/m", SOON, 4711), (), True, False),
        (Change("models/m", SOON, WAITED.pid), (), False, True),
        (Change("models/m", SOON, CAUGHT.pid), (), False, True),
        (by(), (), True, False),
        (by(at=SOON), (), True, False),
        (by(EDITOR), (EDITOR,), False, False),
        (by(CAUGHT), (), False, True),  # frozen or ended on record
        (by(CHILD, CAUGHT), (), False, True),
        (by(CAUGHT), (CAUGHT,), True, False),  # whoever froze it, it runs
        (by(CHILD, CAUGHT), (CHILD,), True, False),
    ],
)
def test_a_change_counts_by_who_made_it(
    change: Change, at_work: tuple[Process, ...], *, is_broken: bool, is_settled: bool
) -> None:
    made = judged(change, at_work=at_work)
    assert (made.broken, made.settled) == ((change,) if is_broken else (), (change,) if is_settled else ())


@pytest.mark.parametrize("unread", [0, 1, 2])
def test_who_had_ended_before_its_group_was_read_is_where_its_parent_is(unread: int) -> None:
    """Three processes of a container, started by its shim; the nearest have ended as they are looked at."""
    inside: dict[str, Any] = {"cgroup": "0::/docker/abc", "container": "abc"}
    shim = process(9, ("shim",), cgroup="0::/")
    whole = [process(4, parent=3, **inside), process(3, parent=2, **inside), process(2, parent=9, **inside), shim]
    seen = [replace(each, cgroup="", container=None) if at < unread else each for at, each in enumerate(whole)]
    row = {"file": "a", "at": LATER.isoformat(), "pid": 4, "lineage": [asdict(each) for each in seen]}
    assert Change.of(row).lineage == tuple(whole)


@pytest.mark.parametrize(
    ("events", "differs", "counts"),
    [
        ((by(EDITOR, file="src/a"),), "src/a", False),
        ((by(EDITOR, file="old"),), "old/deep/a", False),  # a folder that was moved
        ((by(EDITOR, file="src/a"),), "src/b", True),
        ((by(EDITOR, file="src/a"),), "src/a.swp", True),
        ((), "models/mapped", True),
    ],
)
def test_a_difference_is_explained_by_an_event_on_it_or_on_a_folder_above_it(
    events: tuple[Change, ...], differs: str, *, counts: bool
) -> None:
    assert bool(judged(*events, differences=(Change(differs, LATER),)).broken) is counts


@pytest.mark.parametrize(
    ("deaf", "blind", "contradictions", "notes"), [("", "", 0, 0), ("x", "", 0, 1), ("", "y", 0, 1), ("x", "y", 1, 0)]
)
def test_not_knowing_is_never_silence(deaf: str, blind: str, contradictions: int, notes: int) -> None:
    made = judged(deaf=deaf, blind=blind)
    assert (len(made.contradictions), len(made.notes)) == (contradictions, notes)


def test_the_lines_name_file_time_and_process_and_are_few() -> None:
    made = judged(*(by(process(n, ("python", "-c", "x")), file=f"models/{n}.joblib") for n in range(10, 19)))
    assert made.contradictions[0] == (
        "models/10.joblib was changed at 03:12:09Z by process 50000010 (python -c x), after everything was stopped"
    )
    assert made.contradictions[3:] == ("6 more changes after everything was stopped",)
    assert "a process that is not known" in judged(by()).contradictions[0]


def test_of_what_one_parent_started_the_first_is_named_and_others_are_not_hidden_by_it() -> None:
    loop = "started by process 7 (sh loop.sh), which lives"
    children = [replace(by(process(n), file=f"models/{n}"), source=loop) for n in range(10, 30)]
    found = judged().contradictions, replace(judged(), broken=(by(), *children, by(EDITOR, at=SOON))).contradictions
    assert found[0] == ()
    assert found[1][0].endswith(f"after everything was stopped; {loop}")
    assert [line[:8] for line in found[1]] == ["models/1", "models/m", "models/m", "19 more "]
    gone = [Change(f"models/{name}", LATER, 4711) for name in ("10", "other")]
    lines = replace(judged(), broken=(*gone, *children)).contradictions
    assert [line.partition(" was")[0] for line in lines[:2]] == ["models/10", "models/other"]
    assert lines[2:] == ("20 more changes after everything was stopped",)


def test_below_is_by_whole_names() -> None:
    assert is_below("evidence/a/b", {"evidence"})
    assert is_below("evidence", {"evidence"})
    assert not is_below("evidence2/a", {"evidence"})


LOOP, DATE = process(5, ("sh", "-c", "while date")), process(6, ("date",), parent=5)
GONE = Change("old/beat", LATER, 4711)


@pytest.mark.parametrize(
    ("earlier", "others", "is_broken"),
    [
        ((by(DATE, LOOP, file="old/beat"),), (), False),
        ((), (by(LOOP, file="old/beat"),), False),
        ((by(DATE, LOOP, file="old/beat"),), (by(EDITOR, file="old/beat"),), False),
        ((by(DATE, LOOP, file="old/beat"),), (by(STRANGER, file="old/beat"),), True),  # it may be the stranger's
        ((by(DATE, LOOP, file="old/beat"), by(CAUGHT, file="old/beat")), (), True),
        ((by(EDITOR, file="old/beat"),), (), True),  # it writes by itself, and lives
        ((by(DATE, LOOP, file="old/other"),), (), True),
        ((Change("old/beat", LATER, 4712),), (), True),
        ((), (), True),
    ],
)
def test_who_was_gone_before_it_was_looked_up_counts_as_the_only_known_author_of_the_file(
    earlier: tuple[Change, ...], others: tuple[Change, ...], *, is_broken: bool
) -> None:
    made = judge_silence(
        Heard(ARMED, (GONE, *others), earlier=earlier),
        lambda change: change.lineage[0] == EDITOR,
        {CAUGHT.identity},
        lambda _: False,
        lambda change: LOOP in change.lineage,
    )
    assert (GONE in made.broken, GONE in made.by_bystanders) == (is_broken, not is_broken)
    assert any("by bystanders" in note for note in made.notes) is bool(made.by_bystanders)


def test_what_a_bystander_has_started_writes_for_it_and_a_note_says_so() -> None:
    change = by(DATE, LOOP, file="old/beat")
    heard = Heard(ARMED, (change, GONE))
    made = judge_silence(heard, lambda _: False, (), lambda _: True, lambda each: LOOP in each.lineage)
    assert (made.broken, made.by_bystanders, made.contradictions) == ((), (change, GONE), ())
    (note,) = made.notes
    assert note.startswith("2 changes by bystanders")
    assert "old/beat was changed" in note


@pytest.mark.parametrize(
    ("change", "is_broken"),
    [
        (GONE, False),  # its files were closed as it ended
        (replace(GONE, at=LATER + timedelta(seconds=SETTLE_SECONDS + 0.1)), True),  # another has that pid by now
        (replace(GONE, at=LATER - timedelta(seconds=SETTLE_SECONDS + 0.1)), True),
        (replace(GONE, pid=4712), True),
        (replace(GONE, lineage=(STRANGER,)), True),
    ],
)
def test_what_came_back_closes_its_files_as_it_is_killed(change: Change, *, is_broken: bool) -> None:
    made = judged(change, killed={GONE.pid: LATER})
    assert (bool(made.broken), bool(made.settled)) == (is_broken, not is_broken)
