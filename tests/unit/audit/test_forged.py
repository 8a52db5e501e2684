"""Forgeries that fit together, and hosts that leave something out: what an audit makes of them."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tasks.audit.verify import verify_incident
from tasks.custody.audit.finding import AuditWord, Severity
from tasks.custody.audit.signers import read_signers
from tasks.custody.errors import PermanentStoreError
from tasks.custody.store.manifest import canonical
from tasks.custody.store.signature import PrivateKey, public_key, sign
from tests.support.memory_store import MemoryStore
from tests.support.run_context import INCIDENT
from tests.unit.audit.conftest import Objects
from tests.unit.audit.test_audit_laws import HOME, findings, forged

Holding = Callable[[dict[str, bytes]], MemoryStore]


@pytest.fixture(scope="module")
def stranger() -> PrivateKey:
    """A key that nobody knows."""
    return Ed25519PrivateKey.generate()


def signed_anew(objects: dict[str, bytes], key: PrivateKey, *names: str) -> dict[str, bytes]:
    """What somebody makes who may write to the store: each closing names their key, and they sign it."""
    made = dict(objects)
    for name in (f"{HOME}/{name}" for name in names):
        closing = json.loads(objects[name])
        closing["signer"] |= {"fingerprint": public_key(key).fingerprint}
        made[name] = canonical(closing)
        made[f"{name}.sig"] = sign(key, made[name])
    return made


def test_a_forgery_that_is_signed_by_anybodys_key_is_never_proven_without_signers(
    objects: Objects, holding: Holding, stranger: PrivateKey
) -> None:
    forgery = signed_anew(objects, stranger, "record/002/closing.json")
    audit = verify_incident(holding(forgery), INCIDENT, None, deep=True)
    assert audit.word is AuditWord.INDETERMINATE
    told = findings(audit, Severity.OPEN)
    assert list(told) == [""]  # the incident as a whole
    assert "nobody vouches for the key that signed it" in told[""]
    assert "signed by several keys" in told[""]
    assert public_key(stranger).fingerprint in told[""]


def asking(objects: dict[str, bytes], record: int, retention: object) -> dict[str, bytes]:
    key = f"{HOME}/record/{record:03d}/closing.json"
    return objects | {key: canonical(json.loads(objects[key]) | {"retention": retention})}


def test_a_later_run_that_asks_for_no_retention_takes_nothing_back(unsigned: Objects, holding: Holding) -> None:
    strong = {"lock": "compliance", "days": 30, "hold": False}
    objects = asking(unsigned, 1, strong)
    audit = verify_incident(holding(objects), INCIDENT, None, deep=False)
    assert any("compliance for 30 days was asked" in each for each in findings(audit, Severity.OPEN).values())
    told = findings(audit, Severity.NOTE)["record/002/closing.json"]
    assert "record 001: compliance for 30 days; record 002: nothing" in told
    alike = verify_incident(holding(asking(objects, 2, strong)), INCIDENT, None, deep=False)
    assert findings(alike, Severity.NOTE) == {}


@pytest.mark.parametrize("collector", ["packages", "logs", "models"])
def test_an_attempt_that_was_sealed_must_not_be_left_out(unsigned: Objects, holding: Holding, collector: str) -> None:
    def leave_out(facts: dict[str, Any]) -> None:
        facts["coverage"] = [item for item in facts["coverage"] if item["collector"] != collector]

    audit = verify_incident(holding(forged(unsigned, 2, leave_out)), INCIDENT, None, deep=False)
    told = findings(audit, Severity.BROKEN)["record/002/verdict.json"]
    assert f"it leaves out the attempt of {collector} that was sealed" in told


class DeniedStore(MemoryStore):
    """A bucket with versions that this reader may not list."""

    def count_versions(self, prefix: str) -> dict[str, int] | None:
        """Denied."""
        raise PermanentStoreError(f"the versions under {prefix}", "AccessDenied", "They are unknown.", "Allow it.")


def test_versions_that_must_not_be_listed_leave_it_open(objects: Objects, allowed: str) -> None:
    store = DeniedStore()
    store._objects.update(objects)
    audit = verify_incident(store, INCIDENT, read_signers(allowed), deep=False)
    assert audit.word is AuditWord.INDETERMINATE
    assert "its versions could not be listed: AccessDenied" in findings(audit, Severity.OPEN)[""]
    assert "keeps no versions" not in " ".join(audit.unproven)


@pytest.mark.parametrize("days", [-1, 36_501, 10**10, 10**300])
def test_a_retention_that_no_block_can_ask_for_is_broken(unsigned: Objects, holding: Holding, days: int) -> None:
    objects = asking(unsigned, 2, {"lock": "governance", "days": days, "hold": False})
    audit = verify_incident(holding(objects), INCIDENT, None, deep=False)
    assert "record/002/closing.json" in findings(audit, Severity.BROKEN)


@pytest.mark.parametrize(
    ("opened", "told"),
    [("2026-01-02T03:04:05", "the time zone"), ("9999-12-31T00:00:00+00:00", "after the last possible date")],
)
def test_an_incident_that_was_opened_at_no_real_time_is_a_finding(
    unsigned: Objects, holding: Holding, opened: str, told: str
) -> None:
    objects = forged(unsigned, 2, lambda facts: facts["incident"].update(opened_at=opened))
    objects = asking(objects, 2, {"lock": "governance", "days": 30, "hold": False})
    audit = verify_incident(holding(objects), INCIDENT, None, deep=False)
    assert told in " ".join(each.summary for each in audit.findings)


@pytest.mark.parametrize("time", [10**310, 10**400, 1.5])
def test_a_manifest_with_a_time_that_no_file_can_have_is_broken(
    unsigned: Objects, holding: Holding, time: float
) -> None:
    key = f"{HOME}/evidence/manifest.json"
    manifest = json.loads(unsigned[key])
    manifest["items"][0] |= {"mtime_ns": time, "mtime": 1.0}
    audit = verify_incident(holding(unsigned | {key: canonical(manifest)}), INCIDENT, None, deep=False)
    assert "it is not what it should be" in findings(audit, Severity.BROKEN)["evidence/manifest.json"]


@pytest.mark.parametrize("names", [["challenge"], ["pause"], ["pause", "challenge"], ["watch"], ["promotion"]])
def test_a_verdict_without_all_its_facts_is_broken(unsigned: Objects, holding: Holding, names: list[str]) -> None:
    objects: dict[str, bytes] = unsigned
    for record in (1, 2):
        objects = forged(objects, record, lambda facts: [facts.pop(name) for name in names])
    audit = verify_incident(holding(objects), INCIDENT, None, deep=True)
    assert audit.word is AuditWord.BROKEN, audit.summary
    assert "it is not what it should be" in findings(audit, Severity.BROKEN)["record/001/verdict.json"]
