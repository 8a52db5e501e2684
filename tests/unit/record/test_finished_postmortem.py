"""§8 by people: what they write is signed, chained and stored, and an audit proves it; what lies beside it is named."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore
from blocks.workload import Workload
from tasks.audit.verify import verify_incident
from tasks.cli.postmortem import show_written
from tasks.custody.audit.finding import Audit, AuditWord, Severity
from tasks.custody.audit.signers import read_signers
from tasks.custody.errors import Refused
from tasks.custody.incident.postmortem_fields import PostmortemFields
from tasks.custody.store.manifest import digest_bytes
from tasks.evidence.seal import read_seals
from tasks.incident.current import read_incident
from tasks.incident.directory import find_home
from tasks.incident.last_postmortem import written_before
from tasks.record.final_state import written_state
from tasks.record.last_record import build_postmortem_content, last_record, note_written
from tasks.record.write import record
from tests.support.memory_store import MemoryStore
from tests.support.run_context import INCIDENT, case_of, made
from tests.support.sealed_runs import evacuated

HOME = f"incidents/{INCIDENT}/record"
FIRST = {"title": "Disk full", "effect": "No answers from 9 to 10", "cause": "no quota\non the logs"}
SECOND = {"cause": "a quota that nobody had set", "prevention": "<script>alert(1)</script> [x](http://x)"}


@dataclass
class Case:
    """An incident of two runs, and what two people have written afterwards."""

    store: MemoryStore = field(default_factory=MemoryStore)
    states: list[Any] = field(default_factory=list)
    written: list[PostmortemFields] = field(default_factory=list)
    ended: list[Any] = field(default_factory=list)

    def write(self, block: Workload, key: SigningKey, texts: Mapping[str, str]) -> None:
        """As the flow does, without a server."""
        with case_of(block, self.store) as context:
            home = context.directory.path
            context.incident = read_incident(home) or context.incident
            context.store.block = EvidenceStore(folder=block.root, signing=key)
            last = last_record(home)
            context.state.ended.write({"record": last.number, "end": "Recovered"})
            fields = note_written(context.log, home, context.incident.id, "ana", texts)
            content = build_postmortem_content(last, read_seals(context.directory, context.run.volume), fields)
            self.states.append(written_state(context, made(record.fn(context, content)), content, last.number))
            self.written.append(written_before(home))
            self.ended.append(context.state.ended.read())

    def audit(self, key: SigningKey, **more: bytes) -> Audit:
        """Audit the store, with more objects below the incident."""
        store = MemoryStore()
        store._objects.update(self.store._objects)
        store._objects.update({f"{HOME}/{name}": content for name, content in more.items()})
        return verify_incident(store, INCIDENT, read_signers(key.allowed_signers), deep=True)


@pytest.fixture(scope="module")
def case(signing_key: SigningKey, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Two evacuations, then two people who write."""
    told = Case()

    def both(block: Workload) -> None:
        told.write(block, signing_key, FIRST)
        told.write(block, signing_key, SECOND)
        file = block.root / "w.toml"
        file.write_text(f'[workload.w]\nroot = "{block.root}"\nevidence_dir = "{block.evidence}"\n')
        told.states.append(show_written(str(file), INCIDENT, as_json=False))
        with pytest.raises(Refused, match="an incident of w on this host"):
            show_written(str(file), "IR-20200101T000000Z", as_json=False)
        assert find_home(block, INCIDENT).is_dir()

    evacuated(tmp_path_factory.mktemp("finished") / "work load", told.store, signing_key, last=both)
    return told


@pytest.mark.slow
def test_an_incident_with_a_finished_postmortem_is_proven(case: Case, signing_key: SigningKey) -> None:
    found = case.audit(signing_key)
    assert (found.word, found.findings) == (AuditWord.PROVEN, ()), found.summary
    assert found.verdict.startswith("VERIFIED (record/004)")
    below = {key.removeprefix(f"{HOME}/") for key in case.store._objects if key.startswith(f"{HOME}/postmortem/")}
    assert below == {f"postmortem/{number}.{kind}" for number in ("003", "004") for kind in ("md", "html")}
    closing = json.loads(case.store.read(f"{HOME}/003/closing.json"))
    assert closing["postmortem"] == {
        name: digest_bytes(case.store.read(f"{HOME}/{name}")) for name in below if "/003." in name
    }
    assert "postmortem.md" not in closing["files"], "it lies in one place"


def test_what_was_written_before_stays_and_what_is_written_again_replaces_it(case: Case) -> None:
    assert case.written[0] == PostmortemFields(**FIRST)
    assert case.written[1] == PostmortemFields(**{**FIRST, **SECOND})
    assert [state.name for state in case.states[:2]] == ["Written", "Written"]
    assert str(case.states[0].message).endswith("Still open 未記入: measures, prevention, contact")
    assert case.states[2] == 0
    entries = map(json.loads, case.store.read(f"{HOME}/004/custody.jsonl").splitlines())
    (entry,) = [each for each in entries if each["action"] == "postmortem"]
    assert (entry["by"], entry["fields"], entry["open"]) == ("ana", [*SECOND], ["measures", "contact"])
    assert case.ended == [{"record": number, "end": "Recovered"} for number in (3, 4)], "how it stands is as it was"


def test_the_page_has_what_people_wrote_as_text_and_the_picture_of_its_record(case: Case) -> None:
    markdown, page = (case.store.read(f"{HOME}/postmortem/004.{kind}").decode() for kind in ("md", "html"))
    for text in (FIRST["title"], FIRST["effect"], SECOND["cause"]):
        assert text in markdown
        assert text in page
    assert "<script>" not in page
    assert "<script>" not in markdown.replace("\\<script", "")
    assert "../004/timeline.svg" in markdown
    assert f"{HOME}/004/timeline.svg" in case.store._objects
    assert "未記入" in markdown, "the fields that nobody has written"


@pytest.mark.slow
def test_a_page_that_was_changed_or_removed_is_found(case: Case, signing_key: SigningKey) -> None:
    key = f"{HOME}/postmortem/003.md"
    assert case.audit(signing_key, **{"postmortem/003.md": b"nothing happened"}).word is AuditWord.BROKEN
    page = case.store._objects.pop(key)
    try:
        (fault,) = case.audit(signing_key).findings
    finally:
        case.store._objects[key] = page
    assert (fault.object, fault.severity) == (key, Severity.BROKEN)


@pytest.mark.parametrize("name", ["postmortem/005.md", "postmortem/final.md", "004/notes.txt", "x", "postmortem.html"])
def test_an_object_that_no_record_names_is_named_and_breaks_nothing(
    case: Case, signing_key: SigningKey, name: str
) -> None:
    found = case.audit(signing_key, **{name: b"a finished text"})
    assert found.word is AuditWord.PROVEN
    assert [(each.object, each.severity) for each in found.findings] == [(f"{HOME}/{name}", Severity.NOTE)]


texts = st.dictionaries(st.sampled_from([*asdict(PostmortemFields())]), st.text(max_size=20))


@pytest.mark.slow
@given(texts, texts)
def test_fields_are_replaced_one_by_one(first: dict[str, str], second: dict[str, str]) -> None:
    written = PostmortemFields().with_texts(first).with_texts(second)
    for name, text in asdict(written).items():
        assert text == second.get(name, first.get(name, "")).strip()
        assert (name in written.open) is (not text)


def test_a_damaged_earlier_postmortem_does_not_prevent_the_next(tmp_path: Path) -> None:
    (tmp_path / "record/postmortem").mkdir(parents=True)
    (tmp_path / "record/postmortem/003.md").write_text("x")
    assert written_before(tmp_path) == PostmortemFields(), "no closing names it"
    (tmp_path / "record/003").mkdir()
    (tmp_path / "record/003/closing.json").write_text("{}")
    for content in ("", "{}", "[]", '{"postmortem": 1}', '{"postmortem": {"title": 1}}'):
        (tmp_path / "record/003/verdict.json").write_text(content)
        assert written_before(tmp_path) == PostmortemFields()
