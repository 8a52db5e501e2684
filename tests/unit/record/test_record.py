"""§8: the record of a run closes whatever happens to its pages, and its closing covers what is there."""

import errno
import json
import re
import resource
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from blocks.store import EvidenceStore
from blocks.workload import Workload
from tasks.cli.status import status
from tasks.custody.containment.cordon import Cordon
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Recovery
from tasks.custody.errors import PermanentStoreError, TransientStoreError
from tasks.custody.evidence.keys import CLOSING, SEGMENT, TIME_STAMP, UNSTAMPED, VERDICT, claim_key, record_key
from tasks.custody.incident.log import broken
from tasks.custody.incident.verdict import Verdict, Word
from tasks.custody.store.manifest import canonical, digest, digest_bytes
from tasks.host.host import LinuxHost
from tasks.incident.current import note_opened
from tasks.incident.layout import INCIDENT
from tasks.record.content import RecordContent
from tasks.record.final_state import final_state, recovered_state
from tasks.record.findings import content_of, verdict_of
from tasks.record.last_record import build_recovery_content, last_record
from tasks.record.postmortem import PICTURE
from tasks.record.render import HTML, MARKDOWN
from tasks.record.write import Record, record
from tasks.runtime.context import RunContext
from tasks.runtime.progress import artifact_key
from tests.support.flushes import flushes
from tests.support.memory_store import MemoryStore
from tests.support.report_factory import NOW, WHO, story
from tests.support.run_context import case_of, made
from tests.support.sealed_runs import contained_findings

PAGES = {MARKDOWN, HTML, PICTURE}
OTHERS = {VERDICT, SEGMENT}


@pytest.fixture
def context(tmp_path: Path) -> Iterator[RunContext]:
    """A case with an empty store."""
    (tmp_path / "root").mkdir()
    with case_of(Workload(root=tmp_path / "root", evidence_dir=tmp_path / "evidence"), MemoryStore()) as opened:
        yield opened


def content(recovery: Recovery | str | None = None, **changes: Any) -> RecordContent:
    data = story(watch=None, inspection=None, seals=(), promoted=None, recovery=recovery)
    return replace(RecordContent(data.verdict, {"watch": None}, data.findings), **changes)


def closed(context: RunContext) -> dict[str, str]:
    files: dict[str, str] = json.loads((context.directory.record_dir(context.run.number) / CLOSING).read_bytes())[
        "files"
    ]
    return files


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def break_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> str:
        raise ValueError("no page today")

    monkeypatch.setattr("tasks.record.render.html", broken)


def test_the_closing_covers_the_pages_and_the_store_has_them(context: RunContext) -> None:
    told = made(record.fn(context, content()))
    assert (told.stored, told.reason) == (True, "")
    assert set(closed(context)) == PAGES | OTHERS
    assert closed(context) == {
        name: digest(context.directory.record_dir(context.run.number) / name) for name in PAGES | OTHERS
    }
    there = {
        each.key.rpartition("/")[2] for each in context.store.evidence.list(f"incidents/{context.incident.id}/record/")
    }
    assert there == PAGES | OTHERS | {CLOSING}


def test_nothing_is_written_into_an_incident_that_another_host_has_claimed(context: RunContext) -> None:
    store, home = context.store.evidence, f"incidents/{context.incident.id}/"
    claim = canonical({"incident": context.incident.id, "host": "another", "workload": "test"})
    store.create(claim_key(context.incident.id), claim, digest_bytes(claim))
    told = made(record.fn(context, content()))
    assert not told.stored
    assert "not in the store" in told.reason
    assert [each.key for each in store.list(home)] == [claim_key(context.incident.id)]
    assert context.state.claimed.read()
    assert set(closed(context)) == PAGES | OTHERS


@pytest.mark.parametrize("ran_s", [30.0, 0.4])
def test_what_a_grace_let_run_on_is_in_message_record_and_page(context: RunContext, ran_s: float) -> None:
    asked = context.incident.opened_at
    context.log.write("run opened", context.incident.id, triggered=asked.isoformat())
    context.log.write("frozen", "7", at=(asked + timedelta(seconds=2.07)).isoformat())
    context.log.write("stopped", "7", ran_s=ran_s, ran_until=(asked + timedelta(seconds=32.8)).isoformat())
    found = contained_findings(asked)
    judged = content_of(context.log, verdict_of(context, found), found)
    told = made(record.fn(context, judged))
    folder = context.directory.record_dir(context.run.number)
    page, facts = (folder / MARKDOWN).read_text().replace("\\", ""), json.loads((folder / VERDICT).read_bytes())
    said = str(final_state(context, judged.verdict, told, None).message)
    words = "The grace let some of it run on 猶予中に稼働を再開 after all stood (contained_s=2.07)"
    assert facts["contained_s"] == 2.07
    assert facts.get("stopped_s") == (32.8 if ran_s > 1 else None)
    assert (words in said) == (f"{words}, until stopped_s=32.80 at the latest" in said) == (ran_s > 1)
    assert ("contained_s=2.07  stopped_s=32.80  total_s=" in page) == (words[1:] in page) == (ran_s > 1)


def test_the_custody_log_is_on_disk_before_a_segment_of_it(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = flushes(monkeypatch)
    record.fn(context, content())
    names = [path.name for path in flushed]
    assert names.index(context.log.path.name) < names.index(f".{SEGMENT}.new") < names.index(f".{CLOSING}.new")


def ask(context: RunContext, monkeypatch: pytest.MonkeyPatch, answer: bytes | str) -> list[bytes]:
    """Name an authority that answers so; the closings that it is asked for, which the store has by then."""
    asked = list[bytes]()

    def answered(_: object, closing: bytes) -> bytes | str:
        assert context.store.evidence.read(stored(context, CLOSING)) == closing
        asked.append(closing)
        return answer

    monkeypatch.setattr("tasks.evidence.time_stamp.time_stamp", answered)
    url = "https://tsa.example/tsr"
    context.store.block = EvidenceStore(folder=context.directory.base, timestamp_url=url)
    return asked


def stored(context: RunContext, name: str) -> str:
    return record_key(context.incident.id, context.run.number, name)


def test_a_stored_record_is_stamped_and_the_time_stamp_lies_beside_its_closing(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ask(context, monkeypatch, b"a time stamp")
    told = made(record.fn(context, content()))
    (closing,) = asked
    assert (told.stored, told.untimed, json.loads(closing)["timestamp_url"]) == (True, "", "https://tsa.example/tsr")
    assert (Path(told.folder) / TIME_STAMP).read_bytes() == b"a time stamp"
    assert context.store.evidence.read(stored(context, TIME_STAMP)) == b"a time stamp"
    (entry,) = [each for each in context.log.entries() if each["action"] == "stamped"]
    assert (entry["digest"], entry["object"]) == (digest_bytes(closing), "record/001/closing.json")


def test_an_authority_that_fails_costs_no_verdict_and_is_no_silence(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(context, monkeypatch, "https://tsa.example/tsr: it was shut")
    told = made(record.fn(context, content()))
    assert (told.stored, told.is_complete) == (True, True)
    assert told.summary.endswith("; no time vouched for, because https://tsa.example/tsr: it was shut")
    said = json.loads(context.store.evidence.read(stored(context, UNSTAMPED)))
    assert said == {"reason": "https://tsa.example/tsr: it was shut"}
    assert [each["result"] for each in context.log.entries() if each["action"] == "unstamped"] == [said["reason"]]
    state = final_state(context, told.verdict, told, None)
    assert "No time vouched for 時刻の証明なし: https://tsa.example/tsr: it was shut. Next: " in str(state.message)
    assert state.name == final_state(context, told.verdict, replace(told, untimed=""), None).name


def test_a_time_stamp_that_the_store_does_not_take_is_told_and_goes_with_the_next_record(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(context, monkeypatch, b"a time stamp")
    create = context.store.evidence.create

    def full(key: str, *rest: Any) -> None:
        if key.endswith(".tsr"):
            raise TransientStoreError("an answer", "none", "Nothing was stored.", "Try again.")
        create(key, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(context.store.evidence, "create", full)
        told = made(record.fn(context, content()))
    assert told.stored
    assert told.untimed.startswith("the time stamp could not be stored: ")
    first = stored(context, TIME_STAMP)
    context.run = replace(context.run, number=2)
    record.fn(context, content())
    assert context.store.evidence.read(first) == b"a time stamp"


def test_no_authority_is_asked_for_a_record_that_is_not_stored_or_in_a_dry_run(
    context: RunContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = ask(context, monkeypatch, b"a time stamp")
    with monkeypatch.context() as patched:
        patched.setattr(context.store.evidence, "create", nothing_taken)
        assert not made(record.fn(context, content())).stored
    workload = Workload(root=tmp_path / "root", evidence_dir=tmp_path / "dry")
    with case_of(workload, MemoryStore(), dry_run=True) as rehearsal:
        none = ask(rehearsal, monkeypatch, b"a time stamp")
        folder = Path(made(record.fn(rehearsal, content())).folder)
        assert "timestamp_url" not in json.loads((folder / CLOSING).read_bytes())
    assert (asked, none) == ([], [])


def test_the_page_says_what_the_custody_log_says(context: RunContext) -> None:
    context.log.write("step done", "§2 freeze the workload", seconds=0.1, result="14 processes frozen")
    told = made(record.fn(context, content()))
    assert "14 processes frozen" in (context.directory.record_dir(context.run.number) / MARKDOWN).read_text()
    assert "14 processes frozen" in (context.directory.record_dir(context.run.number) / HTML).read_text()
    assert {"timeline", "postmortem"} <= {
        leaf.key.partition("-")[0] for leaf in told.artifacts if "](data:image/svg+xml;base64," in leaf.content
    }


def test_a_page_that_cannot_be_made_is_told_and_the_record_closes(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_page(monkeypatch)
    told = made(record.fn(context, content()))
    assert told.stored
    assert "postmortem.html could not be made: ValueError: no page today" in told.summary
    assert set(closed(context)) == (PAGES - {HTML}) | OTHERS
    assert "no page today" in (context.directory.record_dir(context.run.number) / MARKDOWN).read_text()
    assert "page missing" in (context.directory.record_dir(context.run.number) / SEGMENT).read_text()


def test_pages_of_the_ui_that_cannot_be_made_are_told_and_the_record_closes(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.record.artifacts.plan", lambda entries: [][len(list(entries))])
    context.run = replace(context.run, dry_run=True)
    told = made(record.fn(context, content()))
    assert "the pages of the UI could not be made: IndexError" in told.summary
    assert set(closed(context)) == PAGES | OTHERS | {"plan.txt"}


def test_the_state_of_a_step_begins_with_its_key_term_in_japanese(context: RunContext) -> None:
    assert str(record.fn(context, content()).message).startswith("記録: PARTIAL; record in ")


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond what the page in HTML needs; every other one has room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_page_that_the_disk_does_not_take_is_told_and_nothing_half_is_in_the_closing(
    context: RunContext,
    small_files: None,  # noqa: ARG001  a fixture cannot be marked
) -> None:
    told = made(record.fn(context, content()))
    assert told.stored
    assert "postmortem.html could not be written" in told.summary
    assert set(closed(context)) == (PAGES - {HTML}) | OTHERS
    assert "page missing" in (context.directory.record_dir(context.run.number) / SEGMENT).read_text()


def test_facts_in_another_form_cost_no_record(context: RunContext) -> None:
    record.fn(context, content())
    last = last_record(context.directory.path)
    odd = replace(last, facts={**last.facts, "freeze": None, "stop": 1, "watch": {"of": "another form"}})
    told = build_recovery_content(context.incident, odd, (), recovery="why not", containment=None, despite="")
    assert (told.findings.stop, told.findings.watch, told.facts["stop"]) == (None, None, 1)


@pytest.mark.parametrize("rows", [[], [{"name": ".env", "files": 1, "bytes": 9, "reason": "withheld"}]])
def test_the_message_tells_before_the_next_step_what_was_not_taken(
    context: RunContext, rows: list[dict[str, object]]
) -> None:
    recorded = made(record.fn(context, content()))
    (folder := context.directory.path / "evidence").mkdir(exist_ok=True)
    (folder / "not_taken.json").write_text(json.dumps({"not_taken": rows}))
    message = str(final_state(context, recorded.verdict, recorded, None).message)
    line = f" Not taken 未採取: 1 file of 9 bytes; {folder / 'not_taken.json'} lists what and why. Next: "
    assert (line in message) is bool(rows)
    assert ("Not taken" in message) is bool(rows)
    (fallback := context.directory.path.with_name("fallback") / "evidence").mkdir(parents=True)
    (folder / "not_taken.json").rename(fallback / "not_taken.json")
    context.directory = replace(context.directory, fallback=fallback.parent)
    message = str(final_state(context, recorded.verdict, recorded, None).message)
    assert (line.replace(str(folder), str(fallback)) in message) is bool(rows), "of a full evidence disk"


def test_of_a_record_that_the_disk_does_not_take_the_ui_has_the_pages(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.record.write.sign", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    recorded = made(record.fn(context, content()))
    assert (recorded.lost, recorded.stored) == ("no space left", False)
    assert recorded.artifacts
    state = final_state(context, recorded.verdict, recorded, None)
    assert "record could not be written, 記録を書けません: no space left" in str(state.message)


def test_a_disk_that_fails_once_is_tried_again_and_a_full_one_is_not(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    for number in (errno.EIO, errno.ENOSPC):
        with monkeypatch.context() as disk:
            disk.setattr("tasks.record.write.sign", lambda *_, code=number: (_ for _ in ()).throw(OSError(code, "")))
            told.append(tried_again(record.fn(context, content())))
    assert told == [True, False]
    recorded = made(record.fn(context, content()))
    assert recorded.stored
    assert broken(context.log.lines()) == []


@pytest.mark.parametrize("lost", ["no space left", ""], ids=["lost", "not stored"])
@pytest.mark.parametrize("word", [Word.VERIFIED, Word.PARTIAL, Word.UNVERIFIED, Word.NOT_CONTAINED])
def test_the_message_of_a_run_begins_with_the_word_that_it_ends_with(
    context: RunContext, word: Word, lost: str
) -> None:
    """It ended Unverified, and said VERIFIED and to write the postmortem."""
    verdict = Verdict(word, ("a",), ("b",), (), "write the postmortem.")
    recorded = Record("folder", verdict, stored=False, reason="not in the store: no answer", lost=lost)
    state = final_state(context, verdict, recorded, None)
    said = str(state.message).removeprefix(f"{context.incident.id}: ")
    assert said.startswith(str(state.name).upper())
    assert (lost or "not in the store: no answer") in said
    if word is Word.VERIFIED:
        assert f"--param incident_id={context.incident.id}" in said.partition("Next: ")[2]


@pytest.mark.parametrize("lost", ["", "But the record could not be written: no room"])
def test_nothing_follows_the_command_of_a_message_that_is_to_be_copied(context: RunContext, lost: str) -> None:
    command = "evacuation run /srv/w.toml --incident IR-20260102T030405Z"
    verdict = Verdict(Word.NOT_CONTAINED, (), ("a loop",), (), f"stop it, then: {command}")
    recorded = Record("folder", verdict, stored=False, reason="not in the store: no answer")
    said = str(final_state(context, verdict, lost or recorded, None).message)
    assert said.endswith(f" Next: stop it, then: {command}")
    assert (lost or "But the record is not in the store: no answer") in said


@pytest.mark.parametrize("word", [Word.VERIFIED, Word.PARTIAL, Word.UNVERIFIED])
def test_a_recovery_whose_record_is_not_stored_calls_nothing_verified(context: RunContext, word: Word) -> None:
    verdict = Verdict(word, ("a",), (), (), "write the postmortem.")
    recorded = Record("folder", verdict, stored=False, reason="not in the store: no answer")
    assert not recorded.summary.startswith(word)
    state = recovered_state(context, recorded, Recovery(NOW, WHO, "HTTP 200", "0" * 64))
    assert state.name == "Unverified"
    assert "The incident is UNVERIFIED" in str(state.message)
    assert Word.VERIFIED.value not in str(state.message).replace("UNVERIFIED", "")
    assert "no answer" in str(state.message)


@pytest.mark.parametrize(
    ("incident", "key"),
    [
        ("IR-20260102T030405Z", "postmortem-ir-20260102t030405z"),
        ("IR-20260102T030405Z-gpu1.example", "postmortem-ir-20260102t030405z-gpu1-example"),
    ],
)
def test_an_incidents_artifact_has_a_key_of_its_own(incident: str, key: str) -> None:
    assert artifact_key("postmortem", incident) == key


@pytest.mark.parametrize(
    ("word", "japanese"),
    [
        (Word.VERIFIED, "検証済み"),
        (Word.PARTIAL, "一部欠落"),
        (Word.UNANSWERED, "未回答のプロセスあり"),
        (Word.UNVERIFIED, "未検証"),
        (Word.NOT_CONTAINED, "封じ込め未完了"),
    ],
)
def test_the_state_tells_the_verdict_in_japanese_as_well(context: RunContext, word: Word, japanese: str) -> None:
    recorded = Record("folder", Verdict(word, ("a",), ("b",), (), "next."), stored=True, reason="")
    assert str(final_state(context, recorded.verdict, recorded, None).message).startswith(
        f"{context.incident.id}: {word} {japanese}. Missing: b. Safe: a."
    )


@pytest.mark.sample(18)
@pytest.mark.parametrize("recovery", [None, "no answer from /health", Recovery(NOW, WHO, "HTTP 200", "0" * 64)])
@pytest.mark.parametrize("word", Word)
@pytest.mark.parametrize("reached", [False, True])
def test_the_state_the_page_in_the_ui_and_status_tell_the_same_end(
    context: RunContext,
    monkeypatch: pytest.MonkeyPatch,
    recovery: Recovery | str | None,
    word: Word,
    reached: bool,  # noqa: FBT001  pytest gives it by name
) -> None:
    if not reached:
        monkeypatch.setattr(context.store.evidence, "create", nothing_taken)
    note_opened(context.workload, context.incident)
    (context.directory.path / INCIDENT).write_text("{}")
    told = content(recovery, verdict=Verdict(word, ("a",), (), (), "next."))
    recorded = made(record.fn(context, told))
    assert recorded.stored == reached
    state = final_state(context, recorded.verdict, recorded, recovery)
    first = next(line for line in str(recorded.artifacts[0].content).split("\n") if re.match("[✔▲✖] ", line))
    assert f"**{state.name}**".lower() in first.lower()
    assert state.is_completed() == first.startswith("✔")
    line = next(status(context.workload, LinuxHost(root=context.workload.root)))
    shown = line.removeprefix(f"incident  {context.incident.id}  ")
    assert shown.partition(";")[0].lower() == str(state.name).lower()
    assert word in shown
    if state.name == "NotRecovered":
        url = context.workload.api_address
        why = f"The API at {url} did not come back API は復旧していません: no answer from /health"
        assert str(state.message).startswith(f"{context.incident.id}: {why}")


def test_a_recovery_that_fails_beside_an_api_that_is_back_does_not_say_that_it_is_gone(context: RunContext) -> None:
    """A mistyped model was refused, and the message said that the API that answered had not come back."""
    recorded = made(record.fn(context, content()))
    for there, words in (([], "did not come back"), ([WHO], "stays as an earlier recovery has brought it back")):
        context.state.recovered.write(there)
        state = recovered_state(context, recorded, "expected a model of the manifest; got models/none")
        assert state.name == "NotRecovered"
        assert words in str(state.message)


def nothing_taken(*_: object, **__: object) -> None:
    raise TransientStoreError("a store", "none", "It is on this host.", "Run again.")


@pytest.mark.slow
def test_status_of_an_incident_of_a_version_that_did_not_write_down_its_end(context: RunContext) -> None:
    note_opened(context.workload, context.incident)
    (context.directory.path / INCIDENT).write_text("{}")
    made(record.fn(context, content()))
    assert (
        next(status(context.workload, LinuxHost(root=context.workload.root)))
        == f"incident  {context.incident.id}  PARTIAL"
    )


def test_an_end_that_is_older_than_the_last_record_is_not_told(context: RunContext) -> None:
    note_opened(context.workload, context.incident)
    (context.directory.path / INCIDENT).write_text("{}")
    context.state.ended.write({"record": 1, "end": "NotRecovered"})
    context.run = replace(context.run, number=2)
    made(record.fn(context, content()))
    assert (
        next(status(context.workload, LinuxHost(root=context.workload.root)))
        == f"incident  {context.incident.id}  PARTIAL"
    )


def test_the_guard_that_no_folder_lets_write_a_marker_is_named_also_where_an_earlier_run_started_it(
    context: RunContext,
) -> None:
    context.directory = replace(context.directory, real=False)
    guard = Identity(4711, 1)
    cordon = Cordon("lock", True, guard, "now", context.incident.id)
    verdict = Verdict(Word.UNVERIFIED, (), (), (), "next.")
    for standing, named in ((cordon, True), (None, False)):
        state = final_state(context, verdict, "no room", None, standing)
        assert ("the guard, process 4711, holds the lock without a marker" in str(state.message)) is named


def tried_again(state: State[Any]) -> bool:
    condition: Any = record.retry_condition_fn
    return bool(condition(None, None, state))


def segments(context: RunContext) -> list[bytes]:
    return (context.directory.record_dir(context.run.number) / SEGMENT).read_bytes().splitlines(keepends=True)


def test_a_second_try_sends_what_is_closed_and_writes_none_of_it_again(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    context.log.write("step started", "any")
    with monkeypatch.context() as offline:
        store = context.store.evidence
        offline.setattr(store, "create", failing(TransientStoreError("an answer", "none", "Nothing is sent.", "Wait.")))
        first = record.fn(context, content())
    assert first.is_failed()
    assert tried_again(first), "the store may take it yet"
    folder = context.directory.record_dir(context.run.number)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    told = made(record.fn(context, content()))
    assert (told.stored, told.reason) == (True, "")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sum(entry["action"] == "verdict" for entry in context.log.entries()) == 1


def test_a_record_that_a_store_or_the_disk_refuses_is_not_tried_again(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, refused = context.store.evidence, PermanentStoreError("a permission", "none", "Nothing is sent.", "Ask.")
    with monkeypatch.context() as denied:
        denied.setattr(store, "create", failing(refused))
        assert not tried_again(record.fn(context, content()))
    context.run = replace(context.run, number=context.run.number + 1)
    monkeypatch.setattr(context.directory.__class__, "write", failing(OSError(errno.ENOSPC, "no room")))
    lost = record.fn(context, content())
    assert made(lost).lost
    assert not tried_again(lost)


def test_what_a_try_has_left_without_a_closing_costs_the_log_no_line(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken_key:
        broken_key.setattr("tasks.record.write.sign", failing(RuntimeError("no key for a moment")))
        with pytest.raises(RuntimeError, match="for a moment"):
            record.fn(context, content())
    assert segments(context)
    assert made(record.fn(context, content())).stored
    lines = segments(context)
    assert lines == context.log.path.read_bytes().splitlines(keepends=True)[: len(lines)]
    assert broken(lines) == []
