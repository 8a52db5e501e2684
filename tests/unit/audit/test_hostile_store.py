"""A bucket that is hostile: whatever lies in it, an audit ends, tells what it saw, and is never PROVEN by it."""

import json
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.port import StoredObject
from tasks.audit.list_incidents import columns, fleets, holdings
from tasks.audit.report import lines, markdown, rows
from tasks.audit.verify import verify_incident
from tasks.custody.audit.examine import examine
from tasks.custody.audit.finding import Audit, AuditWord, Severity
from tasks.custody.audit.layout import layout_of
from tasks.custody.audit.signers import read_signers
from tasks.custody.errors import Refused, TransientStoreError
from tasks.custody.store.manifest import canonical
from tasks.storage import untrusted_reads as bucket
from tests.support.examples import scaled
from tests.support.memory_store import MemoryStore
from tests.support.run_context import INCIDENT
from tests.unit.audit.conftest import Objects
from tests.unit.custody.fleet.test_order import INCIDENT as FLEET

Holding = Callable[[dict[str, bytes]], MemoryStore]
HOME = f"incidents/{INCIDENT}"
RECORD = f"{HOME}/record/002"
DOCUMENTS = (
    f"{HOME}/claim.json",
    f"{HOME}/evidence/manifest.json",
    f"{HOME}/evidence/manifest.json.sig",
    f"{HOME}/evidence.2/coverage.json",
    f"{HOME}/evidence.2/custody.jsonl",
    f"{RECORD}/closing.json",
    f"{RECORD}/closing.json.sig",
    f"{RECORD}/verdict.json",
    "promotions/000002/begun.json",
)
CONTENT = {
    "not UTF-8": b"\xff\xfe{}",
    "nested": b"[" * 200_000,
    "nested objects": b'{"a":' * 200_000,
    "a long number": b'{"a": ' + b"9" * 100_000 + b"}",
    "infinite": b'{"a": 1e999}',
    "no number": b'{"a": NaN}',
    "twice": b'{"verdict": "PARTIAL", "verdict": "VERIFIED"}',
    "null": b"null",
    "a list": b"[]",
    "a list of numbers": b"[1, 2]",
    "an object": b"{}\n",
    "a string": b'"evidence"',
    "half a surrogate": b'{\n  "a": "\\ud800"\n}\n',
    "zeros": bytes(5000),
    "lines": b'{"seq": "x", "prev": null}\n[]\n\n\n{"seq": 1e999}\n',
    "no items": canonical({"generated_utc": 1, "incident": [], "items": {"a": 1}, "volume": "x"}),
    "odd items": canonical({"generated_utc": "", "incident": INCIDENT, "items": [1, None, []], "volume": 1}),
    "odd fields": canonical({"incident": {"id": {}}, "coverage": 3, "objects": [{}], "verdict": [], "run": None}),
}


def told(audit: Audit) -> str:
    """Everything that an audit says, which must be safe to show."""
    shown = [*lines(audit), json.dumps(rows(audit))]
    assert all(line.isprintable() for line in shown)
    return "\n".join([*shown, markdown(audit)])


@pytest.mark.sample(60)
@pytest.mark.parametrize("content", CONTENT.values(), ids=CONTENT)
@pytest.mark.parametrize("key", DOCUMENTS)
def test_a_document_of_rubbish_is_a_finding(objects: Objects, holding: Holding, key: str, content: bytes) -> None:
    audit = verify_incident(holding(objects | {key: content}), INCIDENT, None, deep=False)
    assert audit.word is AuditWord.BROKEN
    assert key.removesuffix(".sig") in told(audit)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.just(INCIDENT),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def replaced(draw: st.DrawFn, value: Any) -> Any:
    """The same document with one of its parts, however deep, exchanged for anything."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        name = draw(st.sampled_from(sorted(value)))
        return value | {name: replaced(draw, value[name])}
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], replaced(draw, value[at]), *value[at + 1 :]]
    return draw(values)


@pytest.mark.slow
@settings(max_examples=scaled(200), deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_no_value_in_any_document_ends_an_audit(objects: Objects, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from([key for key in DOCUMENTS if key.endswith(".json")]))
    changed = data.draw(st.composite(lambda draw: canonical(replaced(draw, json.loads(objects[key]))))())
    documents = {name: objects[name] for name in DOCUMENTS} | {key: changed}
    found = examine(layout_of(INCIDENT, objects), objects, documents, None, None)
    assert all(finding.summary.isprintable() for finding in found.findings)


@pytest.mark.parametrize(
    "name",
    [
        "../claim.json",
        "a/../../b",
        "a\nb",
        "\x1b[2J",
        "e\u0301\u202e",
        "evidence/|`<b>x</b>",
        "",
        "/",
        "record/1/a",
        "record/1000/a",
    ],
)
def test_a_key_that_nobody_would_make_is_named_and_cannot_write_on_a_terminal(
    objects: Objects, holding: Holding, allowed: str, name: str
) -> None:
    audit = verify_incident(holding(objects | {f"{HOME}/{name}": b""}), INCIDENT, read_signers(allowed), deep=True)
    assert audit.word is AuditWord.PROVEN, "it breaks nothing that is proven"
    assert len(audit.findings) == 1
    assert "<b>" not in markdown(audit)
    told(audit)


@pytest.mark.parametrize("name", ["http://evil.example/a", "www.evil.example/login.html", "x@evil.example"])
def test_an_address_in_a_key_is_code_and_never_a_link(objects: Objects, holding: Holding, name: str) -> None:
    page = markdown(verify_incident(holding(objects | {f"{HOME}/record/002/{name}": b""}), INCIDENT, None, deep=False))
    assert page.count(name) == page.count(f"{HOME}/record/002/{name}`")
    assert f"`{HOME}/record/002/{name}`" in page


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "a//b", "a\nb", "closing.json/../x"])
def test_a_document_that_names_a_path_out_of_its_folder_names_nothing(
    objects: Objects, holding: Holding, name: str
) -> None:
    for key, field in ((f"{RECORD}/closing.json", "files"), (f"{RECORD}/closing.json", "manifests")):
        said = json.loads(objects[key])
        said[field][name] = "0" * 64
        audit = verify_incident(holding(objects | {key: canonical(said)}), INCIDENT, None, deep=False)
        assert audit.word is AuditWord.BROKEN
        told(audit)


def test_too_large_a_document_is_not_read(objects: Objects, holding: Holding, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "DOCUMENT_LIMIT", 20_000)
    key = f"{HOME}/claim.json"
    audit = verify_incident(holding(objects | {key: b"x" * 20_001}), INCIDENT, None, deep=False)
    assert f"open: {key}: it is too large to be read as a document" in told(audit)
    assert audit.word is AuditWord.BROKEN


def test_documents_that_are_too_many_to_hold_are_open_and_never_proven(
    objects: Objects, holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "DOCUMENTS_LIMIT", 20_000)
    audit = verify_incident(holding(objects), INCIDENT, None, deep=False)
    assert audit.word is AuditWord.INDETERMINATE, told(audit)


class OddStore(MemoryStore):
    """Sizes that lie, streams without an end, objects that cannot be read."""

    def __init__(self, objects: dict[str, bytes], key: str, *, size: int | None = None, endless: bool = False) -> None:
        """`size` is what the listing says of the key; with neither it fails to be read."""
        super().__init__()
        self._objects.update(objects)
        self._key, self._size, self._endless = key, size, endless
        self.given = 0

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """With the lie."""
        for each in super().list(prefix):
            yield StoredObject(each.key, self._size, None) if each.key == self._key and self._size else each

    def read(self, key: str, limit: int | None = None) -> bytes:
        """With the fault."""
        return b"".join(islice(self.stream(key), 2))[:limit]

    def stream(self, key: str) -> Iterator[bytes]:
        """With the fault."""
        if key != self._key or self._size:
            yield super().read(key)
        elif self._endless:
            while True:
                self.given += 1
                yield bytes(1 << 20)
        else:
            raise TransientStoreError(f"{key} to be read", "503", "It was not read.", "Try again.")


@pytest.mark.parametrize("key", [f"{RECORD}/closing.json", f"{HOME}/evidence/models/model_builtin.joblib"])
def test_a_stream_without_an_end_is_left(objects: Objects, key: str) -> None:
    store = OddStore(objects, key, endless=True)
    audit = verify_incident(store, INCIDENT, None, deep=True)
    assert audit.word is not AuditWord.PROVEN
    assert key in told(audit)
    assert store.given < 5


@pytest.mark.parametrize("size", [1, 10**15])
def test_a_listing_that_lies_about_a_size_is_found(objects: Objects, size: int) -> None:
    key = f"{RECORD}/closing.json"
    audit = verify_incident(OddStore(objects, key, size=size), INCIDENT, None, deep=False)
    assert audit.word is not AuditWord.PROVEN
    assert key in told(audit)


@pytest.mark.parametrize("key", [*DOCUMENTS, f"{HOME}/evidence/models/model_builtin.joblib"])
def test_what_cannot_be_read_is_open_and_no_accusation(objects: Objects, key: str) -> None:
    audit = verify_incident(OddStore(objects, key), INCIDENT, None, deep=True)
    assert audit.word is AuditWord.INDETERMINATE, told(audit)
    assert key in {finding.object for finding in audit.findings}
    assert Severity.BROKEN not in {finding.severity for finding in audit.findings}


def test_a_store_without_the_incident_is_refused(holding: Holding) -> None:
    with pytest.raises(Refused, match="no object of it"):
        verify_incident(holding({"incidents/IR-20260102T030405Z-other/claim.json": b""}), INCIDENT, None, deep=False)
    with pytest.raises(Refused):
        verify_incident(holding({}), "../../etc", None, deep=False)


def test_a_list_of_rubbish_is_a_list(objects: Objects, holding: Holding) -> None:
    rubbish = {
        "incidents/x": b"",
        "incidents/IR-x/claim.json": b"",
        "incidents/\x1b[31m/a": b"",
        "incidents/IR-20260101T000000Z/claim.json": b"\xff",
        "incidents/IR-20260101T000000Z/record/003/closing.json": canonical({"verdict": {"\x1b": "[2J"}}),
    }
    table = {row["id"]: row for row in holdings(holding(objects | rubbish))}
    assert table[INCIDENT]["verdict"] == "VERIFIED"
    assert table["(no valid id)"]["objects"] == "3"
    assert table["IR-20260101T000000Z"]["opened"] == ""
    assert all(line.isprintable() for line in columns(list(table.values()), "incidents"))


def test_a_list_of_fleets_of_rubbish_is_a_list(holding: Holding) -> None:
    rubbish = {
        "fleets/x/targets.json": b"",
        f"fleets/{FLEET.id}/targets.json": canonical({"name": "\x1b", "opened_at": [], "hosts": {}}),
        f"fleets/{FLEET.id}/record/001/closing.json": b"\xff",
    }
    stray, row = fleets(holding(rubbish))
    assert (stray["id"], stray["objects"]) == ("(no valid id)", "1")
    assert (row["id"], row["hosts"], row["verdict"]) == (FLEET.id, "?", "?")
    assert all(line.isprintable() for line in columns([stray, row], "fleets"))


def test_a_listing_that_is_cut_is_never_proven_and_says_so(
    objects: Objects, holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lay beyond the limit was not looked at, without a word."""
    place = holding(objects)
    count = sum(key.startswith(f"{HOME}/") for key in objects)
    monkeypatch.setattr(bucket, "KEYS_LIMIT", count)
    assert "not all of it was listed" not in told(verify_incident(place, INCIDENT, None, deep=False))
    monkeypatch.setattr(bucket, "KEYS_LIMIT", count - 1)
    audit = verify_incident(place, INCIDENT, None, deep=False)
    assert f"{HOME}/" in told(audit)
    assert "not all of it was listed" in told(audit)
    assert audit.word is not AuditWord.PROVEN
