"""Whose word it is: a host signs for itself alone, persons add nothing to it, and a copy is called one."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr

from blocks.signing_key import SigningKey
from tasks.audit.report import lines
from tasks.audit.verify import verify_incident
from tasks.custody.audit.finding import AuditWord, Severity
from tasks.custody.audit.signers import read_signers
from tasks.custody.store.manifest import canonical
from tests.support.memory_store import MemoryStore
from tests.support.run_context import INCIDENT
from tests.support.sealed_runs import evacuated
from tests.unit.audit.conftest import Objects
from tests.unit.audit.test_audit_laws import HOME, findings, forged

Holding = Callable[[dict[str, bytes]], MemoryStore]
HERE = socket.gethostname()


def new_key(identity: str) -> SigningKey:
    """A key of somebody else."""
    made = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return SigningKey(private_key=SecretStr(made.decode()), identity=identity)


def resigned(objects: dict[str, bytes], key: SigningKey, **changes: Any) -> dict[str, bytes]:
    """The last closing with these fields, signed by this key, which it names."""
    name = f"{HOME}/record/002/closing.json"
    signer = {"identity": key.identity, "fingerprint": key.fingerprint, "public_key": key.public_key}
    closing = canonical({**json.loads(objects[name]), "signer": signer, **changes})
    return {**objects, name: closing, f"{name}.sig": key.sign(closing)}


@pytest.mark.parametrize("changes", [{}, {"host": "gpu2"}], ids=["in our name", "in its own name"])
def test_another_hosts_signer_in_an_incident_is_broken(
    objects: Objects, holding: Holding, allowed: str, changes: dict[str, str]
) -> None:
    other = new_key("evacuation@gpu2")
    store = holding(resigned(objects, other, **changes))
    audit = verify_incident(store, INCIDENT, read_signers(f"{allowed}{other.allowed_signers}\n"), deep=False)
    assert audit.word is AuditWord.BROKEN
    told = " ".join(findings(audit, Severity.BROKEN).values())
    assert ("of another host or workload" if changes else "got evacuation@gpu2") in told


@pytest.mark.parametrize(
    ("who", "word"),
    [
        (f"evacuation@{HERE}", AuditWord.PROVEN),
        ("evacuation@*", AuditWord.PROVEN),
        (f"evacuation@gpu2,evacuation@{HERE}", AuditWord.PROVEN),
        (f"evacuation@not-{HERE}", AuditWord.BROKEN),
        (f"root@{HERE}", AuditWord.BROKEN),
        (f"people@{HERE}", AuditWord.BROKEN),
        (f"people@x,evacuation@not-{HERE}", AuditWord.BROKEN),
    ],
)
def test_a_key_counts_for_the_hosts_that_the_auditors_file_names(
    objects: Objects, holding: Holding, signing_key: SigningKey, who: str, word: AuditWord
) -> None:
    signers = read_signers(f"{who} {signing_key.public_key}\n")
    assert verify_incident(holding(objects), INCIDENT, signers, deep=False).word is word


@pytest.mark.parametrize("name", ["host", "workload"])
def test_documents_of_two_hosts_or_workloads_are_broken(unsigned: Objects, holding: Holding, name: str) -> None:
    key = f"{HOME}/evidence/manifest.json"
    store = holding({**unsigned, key: canonical({**json.loads(unsigned[key]), name: "other"})})
    audit = verify_incident(store, INCIDENT, None, deep=False)
    assert "of another host or workload" in findings(audit, Severity.BROKEN)["evidence/manifest.json"]


def test_a_verdict_of_another_host_than_its_closings_is_broken(unsigned: Objects, holding: Holding) -> None:
    objects = forged(unsigned, 2, lambda facts: facts["incident"].update(host="gpu2"))
    audit = verify_incident(holding(objects), INCIDENT, None, deep=False)
    told = findings(audit, Severity.BROKEN)["record/002/closing.json"]
    assert "the host, workload or place of its verdict is another one" in told


@pytest.fixture(scope="module")
def person() -> SigningKey:
    return new_key("people@example.net")


@pytest.fixture(scope="module")
def restated(signing_key: SigningKey, person: SigningKey, tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """An incident whose last closing, which adds nothing, a person has signed."""
    store = MemoryStore()
    evacuated(tmp_path_factory.mktemp("restated") / "a", store, signing_key, then=[signing_key, person])
    return Objects({each.key: store.read(each.key) for each in store.list("")})


@pytest.mark.slow
def test_persons_sign_what_adds_nothing(restated: Objects, holding: Holding, allowed: str, person: SigningKey) -> None:
    audit = verify_incident(
        holding(restated), INCIDENT, read_signers(f"{allowed}{person.allowed_signers}\n"), deep=False
    )
    assert audit.word is AuditWord.PROVEN, audit.findings
    assert "people@example.net" in audit.signed


def test_persons_make_no_evidence_and_no_better_verdict(
    restated: Objects, objects: Objects, holding: Holding, allowed: str, person: SigningKey
) -> None:
    signers = read_signers(f"{allowed}{person.allowed_signers}\n")
    more = resigned(objects, person)  # it names the supplement, which no closing of the host does
    audit = verify_incident(holding(more), INCIDENT, signers, deep=False)
    assert "says more than the host's last closing" in findings(audit, Severity.BROKEN)["record/002/closing.json"]
    name = f"{HOME}/evidence/manifest.json"
    audit = verify_incident(
        holding({**objects, f"{name}.sig": person.sign(objects[name])}), INCIDENT, signers, deep=False
    )
    assert "only its host may" in findings(audit, Severity.BROKEN)["evidence/manifest.json"]
    worse = forged(restated, 2, lambda facts: facts["verdict"].update(word="UNVERIFIED", missing=["x"]))
    audit = verify_incident(holding(worse), INCIDENT, signers, deep=False)
    assert "says more than the host's last closing" in findings(audit, Severity.BROKEN)["record/003/closing.json"]


@pytest.mark.slow
def test_persons_cover_nothing_that_a_host_left_unsigned(tmp_path: Path, allowed: str, person: SigningKey) -> None:
    store = MemoryStore()
    evacuated(tmp_path / "a", store, None, then=[None, person])
    audit = verify_incident(store, INCIDENT, read_signers(f"{allowed}{person.allowed_signers}\n"), deep=False)
    assert audit.word is AuditWord.INDETERMINATE
    bare = {name for name, told in findings(audit, Severity.OPEN).items() if "it is not signed" in told}
    assert bare >= {"evidence/manifest.json", "record/001/closing.json", "record/002/closing.json"}


@pytest.mark.slow
def test_a_signature_beside_what_was_left_unsigned_and_is_covered_says_nothing(
    tmp_path: Path, holding: Holding, allowed: str, signing_key: SigningKey
) -> None:
    store = MemoryStore()
    evacuated(tmp_path / "a", store, None, then=[signing_key])
    objects, name = {each.key: store.read(each.key) for each in store.list("")}, f"{HOME}/record/001/closing.json"
    for planted in (new_key("evacuation@x").sign(objects[name]), b"rubbish"):
        audit = verify_incident(
            holding({**objects, f"{name}.sig": planted}), INCIDENT, read_signers(allowed), deep=False
        )
        assert audit.word is AuditWord.PROVEN, audit.findings
        assert "evacuation@x" not in audit.signed
    changed = canonical({**json.loads(objects[name]), "run": "x"})
    forgery = {**objects, name: changed, f"{name}.sig": new_key("evacuation@x").sign(changed)}
    assert verify_incident(holding(forgery), INCIDENT, read_signers(allowed), deep=False).word is AuditWord.BROKEN


def test_the_first_line_names_host_and_workload_and_a_copy(objects: Objects, allowed: str) -> None:
    for place, words in (("memory:", "PROVEN"), ("s3://copies/of", "PROVEN, a copy of memory:")):
        store = MemoryStore(place)
        store._objects.update(objects)
        audit = verify_incident(store, INCIDENT, read_signers(allowed), deep=False)
        assert audit.word is AuditWord.PROVEN
        assert next(iter(lines(audit))) == f"{words}  {INCIDENT}, host {HERE}, workload test, in {place}"
        assert audit.summary.startswith(f"{words}: host {HERE}, workload test: ")


@pytest.mark.parametrize(
    "name",
    [
        "evidence.9/a",
        "evidence.9/custody.jsonl",
        "evidence.3/coverage.json",
        "evidence/.git/config",
        "x",
        "evidence.9/manifest.json",
    ],
)
def test_an_object_that_no_record_names_is_named_and_breaks_nothing(
    objects: Objects, holding: Holding, allowed: str, name: str
) -> None:
    audit = verify_incident(
        holding({**objects, f"{HOME}/{name}": b"{}\n"}), INCIDENT, read_signers(allowed), deep=False
    )
    assert audit.word is AuditWord.PROVEN, audit.findings
    (told,) = audit.findings
    assert told.object.startswith(f"{HOME}/{name.partition('/')[0]}")
    assert "nobody vouches" in told.what


@pytest.mark.slow
def test_a_claim_names_the_place_that_it_was_made_for(tmp_path: Path) -> None:
    store = MemoryStore("s3://bucket/prefix")
    evacuated(tmp_path / "a", store, None)
    for name in ("claim.json", "evidence/manifest.json", "record/001/closing.json"):
        said = json.loads(store.read(f"{HOME}/{name}"))
        assert [said[each] for each in ("host", "workload", "place")] == [HERE, "test", "s3://bucket/prefix"]
