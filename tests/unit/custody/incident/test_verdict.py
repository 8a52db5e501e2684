"""The verdict: a table of cases as the design states them, and the law behind the green one."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.containment.identity import Identity
from tasks.custody.containment.pause import Launcher, LauncherKind, LauncherState, Resume
from tasks.custody.containment.receipt import Containment, Unknown
from tasks.custody.containment.thaw import Thawed
from tasks.custody.evidence.acquisition import Evidence, Outcome, StoredFile
from tasks.custody.incident.verdict import Verdict, Word, judge, judge_thaw, why_not_recover
from tasks.custody.store.receipts import NOT_THERE, ObjectReceipt
from tasks.custody.visible import LINE_LIMIT, visible

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ID = "IR-20260102T030405Z"
CONTAINED = Containment(NOW, (), cordoned=True, reason="held")
ALIVE = Containment(NOW, ("training 7: python",), cordoned=True)
NODE = Unknown(Identity(4711, 9), "node serve.js", "it works in the root", 'bystanders = ["serve.js"]')
PERL = Unknown(Identity(4712, 9), "perl train.pl", "it works in the root", 'bystanders = ["train.pl"]')
KNOWN = "everything that is known of the workload is stopped; 1 process not known to be harmless"
UNSURE = replace(CONTAINED, unknown=(NODE,))
UNCORDONED = Containment(NOW, (), cordoned=False, reason="the lock is held by 4711")
FILE = StoredFile("logs/a.log", "logs/a.log", 3, "0" * 64)
LOGS = Evidence("logs", True, False, Outcome.COLLECTED, "", NOW, NOW, 1, (FILE,))
KERNEL = replace(LOGS, collector="kernel", needed=False, files=())
PROVEN = ObjectReceipt("incidents/a", "0" * 64, 3, proven=True)
LOST = ObjectReceipt("incidents/c", "0" * 64, 3, proven=False, reason="changed", lost=True)
UNPROVEN = ObjectReceipt("incidents/b", "0" * 64, 3, proven=False, reason="not there")


def logs(outcome: Outcome, *, may_be_missing: bool = False) -> Evidence:
    return replace(LOGS, outcome=outcome, may_be_missing=may_be_missing, reason="why")


def kernel(outcome: Outcome) -> Evidence:
    return replace(KERNEL, outcome=outcome, reason="why")


@pytest.mark.parametrize(
    ("containment", "evidence", "receipts", "trouble", "word"),
    [
        (CONTAINED, [LOGS], [PROVEN], [], Word.VERIFIED),
        (CONTAINED, [logs(Outcome.EMPTY)], [PROVEN], [], Word.VERIFIED),
        (CONTAINED, [logs(Outcome.MISSING)], [PROVEN], [], Word.PARTIAL),
        (CONTAINED, [logs(Outcome.MISSING, may_be_missing=True)], [PROVEN], [], Word.VERIFIED),
        (CONTAINED, [logs(Outcome.DENIED)], [PROVEN], [], Word.PARTIAL),
        (CONTAINED, [logs(Outcome.FAILED)], [PROVEN], [], Word.PARTIAL),
        (CONTAINED, [logs(Outcome.TIMED_OUT)], [PROVEN], [], Word.PARTIAL),
        (CONTAINED, [logs(Outcome.TRUNCATED)], [PROVEN], [], Word.PARTIAL),
        (CONTAINED, [logs(Outcome.WITHHELD)], [PROVEN], [], Word.VERIFIED),
        (CONTAINED, [logs(Outcome.DENIED, may_be_missing=True)], [PROVEN], [], Word.PARTIAL),
        (CONTAINED, [LOGS, kernel(Outcome.DENIED)], [PROVEN], [], Word.VERIFIED),
        (CONTAINED, [LOGS, kernel(Outcome.TIMED_OUT)], [PROVEN], [], Word.VERIFIED),
        (CONTAINED, [], [PROVEN], [], Word.PARTIAL),
        (CONTAINED, [LOGS], [PROVEN, UNPROVEN], [], Word.UNVERIFIED),
        (CONTAINED, [LOGS], [PROVEN, LOST], [], Word.PARTIAL),
        (CONTAINED, [LOGS], [PROVEN, LOST, UNPROVEN], [], Word.UNVERIFIED),
        (ALIVE, [LOGS], [PROVEN, LOST], [], Word.NOT_CONTAINED),
        (CONTAINED, [LOGS], [], [], Word.UNVERIFIED),
        (CONTAINED, [LOGS], [PROVEN], ["§5 offload: no network"], Word.UNVERIFIED),
        (CONTAINED, [logs(Outcome.FAILED)], [UNPROVEN], [], Word.UNVERIFIED),
        (ALIVE, [LOGS], [PROVEN], [], Word.NOT_CONTAINED),
        (ALIVE, [logs(Outcome.FAILED)], [UNPROVEN], ["trouble"], Word.NOT_CONTAINED),
        (ALIVE, [], [], [], Word.NOT_CONTAINED),
        (UNCORDONED, [LOGS], [PROVEN], [], Word.NOT_CONTAINED),
        (replace(UNCORDONED, reason=""), [LOGS], [PROVEN], [], Word.NOT_CONTAINED),
        (None, [LOGS], [PROVEN], [], Word.NOT_CONTAINED),
    ],
)
def test_one_word_for_each_case(
    containment: Containment | None,
    evidence: list[Evidence],
    receipts: list[ObjectReceipt],
    trouble: list[str],
    word: Word,
) -> None:
    verdict = judge(ID, containment, evidence, receipts, trouble)
    assert verdict.word is word
    assert ID in verdict.next
    assert verdict.message.startswith(f"{word}.")
    assert word is not Word.VERIFIED or not verdict.missing


@pytest.mark.parametrize("outcome", [Outcome.DENIED, Outcome.FAILED, Outcome.TIMED_OUT])
def test_an_optional_loss_is_a_note(outcome: Outcome) -> None:
    verdict = judge(ID, CONTAINED, [LOGS, kernel(outcome)], [PROVEN])
    assert verdict.notes == (f"kernel {outcome}: why",)
    assert verdict.missing == ()


def test_what_this_host_does_not_have_and_the_block_never_asked_for_is_no_note() -> None:
    """A host without a GPU or py-spy, a workload without scores; the table of losses has the reason."""
    item = kernel(Outcome.MISSING)
    assert judge(ID, CONTAINED, [LOGS, item], [PROVEN]).notes == ()
    asked = replace(item, needed=True, may_be_missing=True)
    (note,) = judge(ID, CONTAINED, [LOGS, asked], [PROVEN]).notes
    assert note.startswith("kernel missing: why; ")
    assert judge(ID, CONTAINED, [LOGS, replace(item, needed=True)], [PROVEN]).word is Word.PARTIAL


def test_what_may_be_missing_is_a_note_too() -> None:
    verdict = judge(ID, CONTAINED, [logs(Outcome.MISSING, may_be_missing=True)], [PROVEN])
    (note,) = verdict.notes
    assert note.startswith("logs missing: why; nothing of it was collected, and it was not needed: may_be_missing")


def test_what_comes_first_is_said_before_all_else() -> None:
    verdict = judge(ID, CONTAINED, [LOGS], [PROVEN], first="no model is sound")
    assert verdict.message.startswith("VERIFIED. First: no model is sound. Safe: ")
    assert "First" not in judge(ID, CONTAINED, [LOGS], [PROVEN]).message


@pytest.mark.parametrize("length", [1, 499, 5_000])
def test_the_line_begins_with_the_reason_and_what_is_safe_is_never_cut_off(length: int) -> None:
    """A fleet reads there whether a host is contained, and the reason may hold a stranger's command."""
    verdict = Verdict(Word.UNVERIFIED, (KNOWN, "2 files"), ("x" * length, "y" * 5_000), (), "look.")
    line = visible(verdict.message, LINE_LIMIT)
    assert line.startswith("UNVERIFIED. Missing: x")
    assert f"Safe: {KNOWN}; 2 files. Also missing: yyy" in line


def test_what_is_missing_is_named_the_urgent_first() -> None:
    verdict = judge(ID, ALIVE, [logs(Outcome.FAILED)], [UNPROVEN], ["§6 verify: broken"])
    assert verdict.missing == ("training 7: python", "incidents/b: not there", "§6 verify: broken", "logs failed: why")
    assert "stop" in verdict.next


def test_a_lock_that_is_not_ours_is_said_so() -> None:
    assert judge(ID, UNCORDONED, [LOGS], [PROVEN]).missing == ("the lock is held by 4711",)
    both = replace(UNCORDONED, alive=("training 7: python",))
    assert judge(ID, both, [LOGS], [PROVEN]).missing == ("training 7: python", "the lock is held by 4711")


def test_many_unproven_objects_are_counted_not_listed() -> None:
    bad = [replace(UNPROVEN, key=str(number)) for number in range(9)]
    verdict = judge(ID, CONTAINED, [LOGS], bad)
    assert len(verdict.missing) == 6
    assert verdict.missing[-1] == "4 more objects"


OTHER = replace(UNPROVEN, reason=f"the store says sha256 {'1' * 64}, 3 bytes; sealed as {'0' * 64}, 3 bytes")
UNLOCKED = replace(UNPROVEN, reason="governance was asked, and this store was not seen to keep a lock")
ABSENT = replace(UNPROVEN, reason=NOT_THERE)


@pytest.mark.parametrize(
    ("receipts", "trouble", "cure"),
    [
        ([ABSENT, PROVEN], [], "fix the store or the network"),
        ([OTHER, PROVEN], [], "why it is not as it was sealed"),
        ([ABSENT, OTHER], [], "why it is not as it was sealed"),
        ([UNLOCKED], [], "why it is not as it was sealed"),
        ([], ["§5 offload: denied. Renew the credentials."], "as is said there"),
        ([ABSENT], ["§5 offload: denied. Renew the credentials."], "as is said there"),
        ([OTHER], ["§5 promote: expected a; got b. Keep both."], "as is said there"),
    ],
)
def test_what_is_to_be_done_of_an_unverified_incident_is_what_is_wrong_with_it(
    receipts: list[ObjectReceipt], trouble: list[str], cure: str
) -> None:
    then = judge(ID, CONTAINED, [LOGS], receipts, trouble).next
    cures = ("fix the store or the network", "why it is not as it was sealed", "as is said there")
    assert [each for each in cures if each in then] == [cure]
    assert f"incident_id={ID}" in then


def test_a_lost_file_is_named_once_and_not_again_for_its_copy() -> None:
    copy = replace(LOST, key="snapshots/20260102T030405Z/models/m")
    verdict = judge(ID, CONTAINED, [LOGS], [PROVEN, LOST, copy])
    assert verdict.missing == ("incidents/c: changed",)
    assert "files collected on this host" not in str(verdict.safe)


def test_what_is_safe_is_counted() -> None:
    verdict = judge(ID, CONTAINED, [LOGS], [PROVEN, UNPROVEN])
    assert verdict.safe == (
        "the workload is contained",
        "1 files collected on this host",
        "1 objects proven by the store's own digests",
    )
    assert judge(ID, ALIVE, [], []).safe == ()


containments = st.none() | st.builds(
    Containment, st.just(NOW), st.lists(st.text(max_size=3), max_size=2).map(tuple), st.booleans(), st.text(max_size=3)
)
attempts = st.lists(
    st.builds(
        lambda needed, may, outcome: replace(LOGS, needed=needed, may_be_missing=may, outcome=outcome),
        st.booleans(),
        st.booleans(),
        st.sampled_from(Outcome),
    ),
    max_size=4,
)
objects = st.lists(st.sampled_from([PROVEN, replace(PROVEN, proven=False), LOST]), max_size=4)
troubles = st.lists(st.text(max_size=3), max_size=1)


@given(containments, attempts, objects, troubles)
def test_laws(
    containment: Containment | None, evidence: list[Evidence], receipts: list[ObjectReceipt], trouble: list[str]
) -> None:
    verdict = judge(ID, containment, evidence, receipts, trouble)
    contained = containment is not None and containment.is_contained
    proven = bool(receipts) and all(receipt.proven or receipt.lost for receipt in receipts)
    lost = LOST in receipts or any(
        item.needed
        and item.outcome not in {Outcome.COLLECTED, Outcome.EMPTY, Outcome.WITHHELD}
        and not (item.outcome is Outcome.MISSING and item.may_be_missing)
        for item in evidence
    )
    assert (verdict.word is Word.NOT_CONTAINED) == (not contained)
    assert (verdict.word is Word.VERIFIED) == (contained and proven and not trouble and not lost and bool(evidence))
    if verdict.word is Word.PARTIAL:
        assert contained
        assert proven
    if lost or not contained or trouble:
        assert verdict.missing


@given(containments, attempts, objects, troubles)
def test_one_more_loss_never_makes_the_verdict_better(
    containment: Containment | None, evidence: list[Evidence], receipts: list[ObjectReceipt], trouble: list[str]
) -> None:
    worse = [
        judge(ID, containment, evidence, receipts, trouble),
        judge(ID, containment, [*evidence, logs(Outcome.FAILED)], receipts, trouble),
        judge(ID, containment, [*evidence, logs(Outcome.FAILED)], [*receipts, UNPROVEN], trouble),
        judge(ID, ALIVE, [*evidence, logs(Outcome.FAILED)], [*receipts, UNPROVEN], trouble),
    ]
    ranks = [list(Word).index(verdict.word) for verdict in worse]
    assert all(before <= after for before, after in pairwise(ranks))


def test_what_was_left_alone_is_told_for_what_it_is() -> None:
    """A bystander matches, or works in the root: the note does not say which where it does not know."""
    verdict = judge("IR-20260102T030405Z", replace(CONTAINED, left_alone=("7: python x.py",)), (), ())
    why = "left alone, since it matches only in part, or only reads in the root"
    assert verdict.notes == (f"{why}: 7: python x.py",)
    many = judge("IR-20260102T030405Z", replace(CONTAINED, left_alone=("7: python x.py", "8", "9")), (), ())
    assert many.notes == (f"{why}: 7: python x.py, and 2 more in verdict.json",)
    assert judge("IR-20260102T030405Z", replace(CONTAINED, notes=("1 excused: 8",)), (), ()).notes == ("1 excused: 8",)


@pytest.mark.parametrize(
    ("word", "despite", "why"),
    [
        (Word.VERIFIED, "", ""),
        (Word.PARTIAL, "", ""),
        (Word.UNVERIFIED, "the boss said so", ""),
        (Word.UNVERIFIED, "", "its evidence is not proven"),
        (Word.UNANSWERED, "the boss said so", ""),
        (Word.UNANSWERED, "", "processes live that are not known to be harmless"),
        (Word.NOT_CONTAINED, "the boss said so", "it is not contained"),
        (Word.THAWED, "the boss said so", "it was thawed"),
        (None, "the boss said so", "none of its runs"),
    ],
)
def test_a_recovery_is_refused_unless_the_evidence_is_safe(word: Word | None, despite: str, why: str) -> None:
    said = why_not_recover(word, despite)
    assert said.startswith(why)
    assert bool(said) == bool(why)


LET_GO = Thawed(NOW, ("process 1",), (), (), (), Resume(()))
PAUSED = Resume((LauncherState(Launcher(LauncherKind.POOL, "p"), None, "no answer"),))


@pytest.mark.parametrize(
    ("thawed", "trouble", "word", "missing", "then"),
    [
        (LET_GO, (), Word.THAWED, (), "write the postmortem: evacuation postmortem evacuation.toml:NAME IR-x"),
        (
            replace(LET_GO, resumed=PAUSED),
            (),
            Word.THAWED,
            ("work pool p is still paused: no answer",),
            "resume by hand",
        ),
        (replace(LET_GO, left=("process 2 stays",)), (), Word.NOT_CONTAINED, ("process 2 stays",), "again, as root"),
        (
            None,
            ("no disk",),
            Word.NOT_CONTAINED,
            ("no disk",),
            "again, as root where it was denied: prefect deployment run thaw/thaw-NAME --param incident_id=IR-x",
        ),
    ],
)
def test_a_thaw_that_leaves_something_frozen_does_not_end_the_incident(
    thawed: Thawed | None, trouble: tuple[str, ...], word: Word, missing: tuple[str, ...], then: str
) -> None:
    made = judge_thaw("IR-x", thawed, ("a note",), trouble)
    assert (made.word, made.missing, made.notes) == (word, missing, ("a note",))
    assert made.next.startswith(then)


def test_a_thawed_incident_is_never_better_than_what_an_audit_makes_of_its_facts() -> None:
    """An audit judges the facts again: none of the other words may come out worse."""
    assert list(Word)[-1] is Word.THAWED


SAFE = ("the workload is contained", "2 objects are proven")


def test_a_recovered_api_takes_the_place_of_the_containment_in_what_is_safe() -> None:
    before = Verdict(Word.PARTIAL, SAFE, ("kernel",), (), "carry on", "no model is sound")
    back = before.after_recovery("the API answers")
    assert not back.first
    assert back.safe == ("2 objects are proven", "it was contained, and now the API answers")
    assert (back.word, back.missing, back.next) == (
        Word.PARTIAL,
        ("kernel",),
        "write the postmortem (`evacuation postmortem`).",
    )
    named = before.after_recovery("the API answers", "evacuation recover FILE --model m.pkl").next
    assert named.endswith(
        ": evacuation recover FILE --model m.pkl; then write the postmortem (`evacuation postmortem`)."
    )
    assert back.after_recovery("the API serves").safe[1:] == ("it was contained, and now the API serves",)


@pytest.mark.parametrize("word", [Word.UNANSWERED, Word.UNVERIFIED, Word.NOT_CONTAINED])
def test_what_is_worse_than_losses_is_still_next_after_a_recovery(word: Word) -> None:
    then = Verdict(word, SAFE, (), (), "carry on").after_recovery("the API answers").next
    assert then.startswith("what follows stops the API again")
    assert then.endswith("; carry on")


def test_an_api_that_did_not_come_back_leaves_the_workload_contained_if_nothing_lives() -> None:
    back = Verdict(Word.VERIFIED, SAFE, (), (), "carry on").after_recovery("the API answers")
    failed = back.after_failed_recovery(ID, ())
    assert (failed.word, failed.safe) == (Word.VERIFIED, SAFE)
    alive = back.after_failed_recovery(ID, ("api 7: python",))
    assert (alive.word, alive.safe, alive.missing) == (Word.NOT_CONTAINED, SAFE[1:], ("api 7: python",))
    assert alive.next == judge(ID, ALIVE, [LOGS], [PROVEN]).next


def test_where_no_folder_took_a_file_containment_alone_is_safe() -> None:
    kept = Verdict(Word.UNVERIFIED, SAFE, (), (), "carry on").of_what_was_not_kept()
    assert kept.safe == SAFE[:1]
    assert kept.next.startswith("free some room")


def test_who_is_not_known_is_named_with_the_line_that_answers_it() -> None:
    verdict = judge(ID, replace(CONTAINED, unknown=(NODE, PERL)), [LOGS], [PROVEN], workload="portfolio")
    assert verdict.word is Word.UNANSWERED
    assert verdict.safe[0] == KNOWN.replace("1 process", "2 processes")
    assert verdict.missing[0] == "4711 is not known: node serve.js: it works in the root"
    for pid in (4711, 4712):
        assert f"evacuation answer evacuation.toml:portfolio {ID} {pid} bystander (or: end)" in verdict.next
    assert "deployment answer/answer-portfolio" in verdict.next


def test_the_words_are_ordered_by_how_bad_they_are() -> None:
    """Not contained outranks unverified, that outranks unanswered; no word loses the others' sentences."""
    worst = judge(ID, replace(ALIVE, unknown=(NODE,)), [logs(Outcome.FAILED)], [UNPROVEN])
    stored = judge(ID, replace(CONTAINED, unknown=(NODE,)), [logs(Outcome.FAILED)], [UNPROVEN])
    partial = judge(ID, replace(CONTAINED, unknown=(NODE,)), [logs(Outcome.FAILED)], [PROVEN])
    assert [each.word for each in (worst, stored, partial)] == [Word.NOT_CONTAINED, Word.UNVERIFIED, Word.UNANSWERED]
    for verdict in (worst, stored, partial):
        assert {NODE.summary, "logs failed: why"} <= {*verdict.missing}
        assert "the workload is contained" not in verdict.safe
    assert stored.safe[0] == partial.safe[0] == KNOWN
    assert stored.of_what_was_not_kept().safe == (KNOWN,)


def test_a_recovery_despite_an_unknown_process_claims_no_containment() -> None:
    before = judge(ID, replace(CONTAINED, unknown=(NODE,)), [LOGS], [PROVEN])
    back = before.after_recovery("the API answers")
    assert not any("stopped" in each or each == "the workload is contained" for each in back.safe)
    assert (back.word, back.missing) == (Word.UNANSWERED, before.missing)
    failed = back.after_failed_recovery(ID, (), (NODE,))
    assert (failed.word, failed.safe[0], failed.missing) == (Word.UNANSWERED, KNOWN, before.missing)


@pytest.mark.parametrize("word", list(Word)[:-1])
def test_who_is_not_known_after_a_failed_recovery_makes_no_word_better(word: Word) -> None:
    before = Verdict(word, SAFE, (), (), "carry on")
    failed = before.after_failed_recovery(ID, (), (NODE,))
    order = list(Word)
    assert order.index(failed.word) == max(order.index(word), order.index(Word.UNANSWERED))
    assert (failed.safe[0], failed.missing) == (KNOWN, (NODE.summary,))
    assert failed.next == ("carry on" if failed.word is word else judge(ID, UNSURE, [LOGS], [PROVEN]).next)
    alive = before.after_failed_recovery(ID, ("api 7: python",), (NODE,))
    assert (alive.word, alive.missing) == (Word.NOT_CONTAINED, ("api 7: python", NODE.summary))


def test_a_check_with_unknown_processes_is_contained_and_not_complete() -> None:
    assert (UNSURE.is_contained, UNSURE.is_complete, CONTAINED.is_complete) == (True, False, True)
    assert UNSURE.summary.startswith(f"{KNOWN}: 4711 is not known: node serve.js")
    assert "contained:" not in UNSURE.summary


def test_of_many_unknown_processes_each_is_named_and_five_have_their_line() -> None:
    many = tuple(replace(NODE, identity=Identity(5000 + each, 9)) for each in range(7))
    verdict = judge(ID, replace(CONTAINED, unknown=many), [LOGS], [PROVEN])
    assert {each.summary for each in many} <= {*verdict.missing}
    assert verdict.next.count("evacuation answer ") == 5
    assert "2 more in the same way" in verdict.next


@pytest.mark.parametrize("may_thaw", [True, False])
def test_after_a_cancel_nobody_stops_by_hand_what_stands_frozen(*, may_thaw: bool) -> None:
    """The last screen listed the frozen workload under "Missing", and "Next: stop what is named here by hand"."""
    lines = ("41: python train.py (it matches)", "42: sh -c loop (it may start it again)", "db is paused (named)")
    for seen in (replace(CONTAINED, alive=lines), None):
        verdict = judge(ID, seen, [logs(Outcome.FAILED)], [], ["the run was cancelled: frozen, not stopped"])
        frozen = verdict.while_frozen([41], ID, "portfolio", may_thaw=may_thaw)
        assert frozen.word is Word.NOT_CONTAINED
        assert frozen.missing[: 2 if seen else 1] == (
            *lines[1:2] * bool(seen),
            "the run was cancelled: frozen, not stopped",
        )
        assert "nothing of what stands frozen is lost" in frozen.message
        assert "by hand" not in frozen.message
        assert f"incident_id={ID}" in frozen.next
        assert ("thaw/thaw-portfolio" in frozen.next) is may_thaw


@pytest.mark.parametrize(
    ("lines", "by_hand"),
    [
        ((), False),
        (("41: python train.py (it matches)",), False),
        (("41: python train.py (it matches)", "42: sh loop (to stop it 停止方法: kill 42)"), True),
        (("7: python other.py (it has a model open)",), True),
        (("cron entry in /etc/crontab, line 1 (to stop it 停止方法: crontab -e)",), True),
    ],
)
def test_after_a_cancel_only_what_carrying_on_cannot_end_is_stopped_by_hand(
    lines: tuple[str, ...], *, by_hand: bool
) -> None:
    """What was named was the workload's own training, for which no command stood there."""
    seen = replace(CONTAINED, alive=lines) if lines else None
    verdict = judge(ID, seen, [LOGS], [], ["the run was cancelled: not contained"])
    told = verdict.when_cancelled([41], ID, "portfolio")
    assert told.missing == verdict.missing
    assert ("by hand" in told.next) is by_hand
    assert f"incident_id={ID}" in told.next
