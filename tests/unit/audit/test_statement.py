"""The statement beside a verdict: public tools verify it, and it never says more than the record."""

import json
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as Fields
from pydantic import SecretStr
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # public by its docs

from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore
from blocks.workload import Workload
from tasks.audit.verify import verify_incident
from tasks.custody.audit.finding import AuditWord, Severity
from tasks.custody.audit.signers import read_signers
from tasks.custody.store.manifest import canonical, digest_bytes
from tasks.custody.store.statement import PREDICATE
from tasks.record.write import record
from tests.support.memory_store import MemoryStore
from tests.support.pages import PROJECT
from tests.support.run_context import INCIDENT, case_of, made
from tests.support.sealed_runs import lossy
from tests.support.shown import as_said, blocks_of, script_of
from tests.unit.audit.conftest import Objects
from tests.unit.audit.test_audit_laws import HOME, findings
from tests.unit.audit.test_roles import new_key
from tests.unit.record.test_record import content

Holding = Callable[[dict[str, bytes]], MemoryStore]
ONLY = f"{HOME}/record/001/verdict.intoto.json"
CLOSING = f"{HOME}/record/001/closing.json"


def verified(envelope: bytes, key: SigningKey) -> dict[str, Any]:
    """The statement, as an auditor reads it who has the public half of the key and the public libraries alone."""
    raw = subprocess.run(
        ["bash", "-c", "awk '{print $2}' | base64 -d | tail -c 32"],
        input=key.public_key.encode(),
        capture_output=True,
        check=True,
    )
    public = SSlibKey(key.fingerprint, "ed25519", "ed25519", {"public": raw.stdout.hex()})
    read = Envelope.from_dict(json.loads(envelope))
    read.verify([public], 1)
    assert read.payload_type == "application/vnd.in-toto+json"
    Statement.copy_from_pb(Parse(read.payload, Fields())).validate()
    said: dict[str, Any] = json.loads(read.payload)
    return said


def records(objects: dict[str, bytes]) -> dict[str, bytes]:
    return {key: data for key, data in objects.items() if key.endswith("/verdict.intoto.json")}


def test_public_tools_verify_the_statement_of_each_record_with_the_key_of_its_closing(
    objects: Objects, signing_key: SigningKey
) -> None:
    assert len(records(objects)) == 2
    for name, envelope in records(objects).items():
        folder = name.removesuffix("verdict.intoto.json")
        said, closing = verified(envelope, signing_key), json.loads(objects[f"{folder}closing.json"])
        facts = json.loads(objects[f"{folder}verdict.json"])
        assert said["predicateType"] == PREDICATE
        assert said["predicate"] == {
            **{each: closing[each] for each in ("incident", "host", "workload", "place", "record", "verdict")},
            "missing": facts["verdict"]["missing"],
        }
        assert {each["name"]: each["digest"]["sha256"] for each in said["subject"]} == {
            each: digest_bytes(objects[f"{HOME}/{each}"])
            for each in (*closing["manifests"], f"{folder.removeprefix(f'{HOME}/')}verdict.json")
        }
        assert closing["files"]["verdict.intoto.json"] == digest_bytes(envelope)


def test_public_tools_refuse_a_statement_that_was_changed_or_is_another_keys(
    objects: Objects, signing_key: SigningKey
) -> None:
    envelope = json.loads(objects[ONLY])
    payload = new_key("evacuation@gpu2").envelop(b"{}")
    for wrong in ({**envelope, "payload": json.loads(payload)["payload"]}, {**envelope, "payloadType": "text/plain"}):
        with pytest.raises(VerificationError):
            verified(canonical(wrong), signing_key)
    with pytest.raises(VerificationError):
        verified(payload, signing_key)


@pytest.fixture(scope="module")
def partial(signing_key: SigningKey, tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """An incident that was denied something, in one record that says so."""
    store = MemoryStore()
    lossy(tmp_path_factory.mktemp("partial") / "work load", store, signing_key)
    return Objects({each.key: store.read(each.key) for each in store.list("")})


def stating(objects: dict[str, bytes], key: SigningKey, envelope: bytes) -> dict[str, bytes]:
    """The record with this statement, by the holder of the key, who has set every digest right."""
    closing = json.loads(objects[CLOSING])
    closing["files"]["verdict.intoto.json"] = digest_bytes(envelope)
    data = canonical(closing)
    return {**objects, ONLY: envelope, CLOSING: data, f"{CLOSING}.sig": key.sign(data)}


def change(statement: dict[str, Any], **said: object) -> dict[str, Any]:
    return {**statement, "predicate": {**statement["predicate"], **said}}


CHANGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "a better word": lambda said: change(said, verdict="VERIFIED"),
    "a worse word": lambda said: change(said, verdict="UNVERIFIED"),
    "nothing missing": lambda said: change(said, missing=[]),
    "another host": lambda said: change(said, host="gpu2"),
    "another incident": lambda said: change(said, incident="IR-20270102T030405Z"),
    "another record": lambda said: change(said, record=2),
    "one subject less": lambda said: {**said, "subject": said["subject"][1:]},
    "another digest": lambda said: {**said, "subject": [{**said["subject"][0], "digest": {"sha256": "0" * 64}}]},
    "another type": lambda said: {**said, "predicateType": "https://slsa.dev/verification_summary/v1"},
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_statement_that_says_something_else_than_its_record_is_broken(
    partial: Objects, holding: Holding, signing_key: SigningKey, allowed: str, how: str
) -> None:
    said = CHANGES[how](verified(partial[ONLY], signing_key))
    store = holding(stating(partial, signing_key, signing_key.envelop(canonical(said))))
    audit = verify_incident(store, INCIDENT, read_signers(allowed), deep=False)
    assert audit.word is AuditWord.BROKEN
    told = findings(audit, Severity.BROKEN)
    assert told.keys() == {"record/001/verdict.intoto.json"}
    assert "it states something else than verdict.json and the closing" in told["record/001/verdict.intoto.json"]


def test_a_record_whose_statement_says_the_same_is_proven(
    partial: Objects, holding: Holding, signing_key: SigningKey, allowed: str
) -> None:
    said = verified(partial[ONLY], signing_key)
    assert (said["predicate"]["verdict"], bool(said["predicate"]["missing"])) == ("PARTIAL", True)
    again = stating(partial, signing_key, signing_key.envelop(canonical(said)))
    assert again == partial
    assert verify_incident(holding(again), INCIDENT, read_signers(allowed), deep=False).word is AuditWord.PROVEN


ENVELOPES: dict[str, Callable[[bytes], object]] = {
    "another key": lambda said: json.loads(new_key("evacuation@gpu2").envelop(said)),
    "no signature": lambda said: {"payload": said.decode(), "payloadType": TYPE, "signatures": []},
    "a signature that is none": lambda _: {"payload": "", "payloadType": TYPE, "signatures": [{"sig": 1}]},
    "two signatures": lambda said: {"payload": said.decode(), "payloadType": TYPE, "signatures": [{}, {}]},
    "signatures that are none": lambda said: {"payload": said.decode(), "payloadType": TYPE, "signatures": 7},
    "no payload": lambda said: {"payloadType": TYPE, "signatures": [{"sig": said.decode()}]},
    "nothing": lambda _: {},
    "a list": lambda _: [],
    "a text": lambda _: "statement",
}
TYPE = "application/vnd.in-toto+json"


@pytest.mark.parametrize("how", ENVELOPES)
def test_a_statement_that_the_key_of_its_closing_has_not_signed_is_broken(
    partial: Objects, holding: Holding, signing_key: SigningKey, allowed: str, how: str
) -> None:
    envelope = canonical(ENVELOPES[how](canonical(verified(partial[ONLY], signing_key))))
    store = holding(stating(partial, signing_key, envelope))
    audit = verify_incident(store, INCIDENT, read_signers(allowed), deep=False)
    assert audit.word is AuditWord.BROKEN
    told = findings(audit, Severity.BROKEN)["record/001/verdict.intoto.json"]
    assert "it is no statement by the key that its closing names" in told


@pytest.mark.parametrize("line", [None, "", "ssh-ed25519 AAAA", "ssh-ed25519 \udcff"])
def test_a_closing_that_names_no_key_that_can_be_read_has_no_statement(
    partial: Objects, holding: Holding, signing_key: SigningKey, allowed: str, line: str | None
) -> None:
    closing = json.loads(partial[CLOSING])
    closing["signer"] = None if line is None else {**closing["signer"], "public_key": line}
    data = json.dumps(closing).encode()
    store = holding({**partial, CLOSING: data, f"{CLOSING}.sig": signing_key.sign(data)})
    audit = verify_incident(store, INCIDENT, read_signers(allowed), deep=False)
    assert audit.word is AuditWord.BROKEN


def test_a_statement_in_another_spelling_is_broken(
    partial: Objects, holding: Holding, signing_key: SigningKey, allowed: str
) -> None:
    said = verified(partial[ONLY], signing_key)
    store = holding(stating(partial, signing_key, signing_key.envelop(json.dumps(said).encode())))
    assert verify_incident(store, INCIDENT, read_signers(allowed), deep=False).word is AuditWord.BROKEN


def test_a_statement_that_was_removed_or_changed_is_missed_and_one_that_no_closing_names_is_a_note(
    partial: Objects, unsigned: Objects, holding: Holding, signing_key: SigningKey, allowed: str
) -> None:
    gone = {key: data for key, data in partial.items() if key != ONLY}
    for changed in (gone, {**partial, ONLY: partial[ONLY][:-2] + b"\n"}):
        assert verify_incident(holding(changed), INCIDENT, read_signers(allowed), deep=False).word is AuditWord.BROKEN
    added = verify_incident(holding({**unsigned, ONLY: signing_key.envelop(b"{}")}), INCIDENT, None, deep=False)
    assert "nobody vouches for this object" in findings(added, Severity.NOTE)["record/001/verdict.intoto.json"]
    assert added.word is verify_incident(holding(unsigned), INCIDENT, None, deep=False).word


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_with_a_key_that_makes_no_statement_the_record_is_signed_without_one_and_says_why(
    tmp_path: Path, kind: str
) -> None:
    path, store = tmp_path / "key", MemoryStore()
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True)
    key = SigningKey(private_key=SecretStr(path.read_text()), identity=f"evacuation@{socket.gethostname()}")
    lossy(tmp_path / "small", store, key)
    assert store.head(f"{CLOSING}.sig")
    assert not store.head(ONLY)
    said = [json.loads(line) for line in store.read(f"{HOME}/record/001/custody.jsonl").splitlines()]
    (why,) = [each["result"] for each in said if each["object"] == "record/001/verdict.intoto.json"]
    assert why.startswith("the key failed: ValueError: no in-toto statement: it takes an Ed25519 key, and this one is ")
    signers = read_signers(f"{key.allowed_signers}\n")
    assert verify_incident(store, INCIDENT, signers, deep=False).word is AuditWord.PROVEN


def test_without_a_key_and_in_a_rehearsal_there_is_no_statement(
    unsigned: Objects, signing_key: SigningKey, tmp_path: Path
) -> None:
    assert records(unsigned) == {}
    with case_of(Workload(root=tmp_path / "root", evidence_dir=tmp_path / "e"), MemoryStore(), dry_run=True) as context:
        context.store.block = EvidenceStore(folder=tmp_path, signing=signing_key)
        folder = Path(made(record.fn(context, content())).folder)
        assert (folder / "closing.json.sig").exists()
        assert not (folder / "verdict.intoto.json").exists()


@pytest.mark.slow
def test_the_commands_of_the_page_verify_a_statement(objects: Objects, signing_key: SigningKey, tmp_path: Path) -> None:
    page = (PROJECT / "docs/audit.md").read_text().partition("\n### The statement\n")[2].partition("\n##")[0]
    (record := tmp_path / "record/001").mkdir(parents=True)
    (record / "verdict.intoto.json").write_bytes(objects[ONLY])
    (tmp_path / "signing.key.pub").write_text(f"{signing_key.public_key} a comment\n")
    commands = blocks_of(page)
    done = subprocess.run(
        ["bash", "-euc", script_of(commands)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    as_said(commands, done.stdout)
