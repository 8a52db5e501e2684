"""An incident whose store failed says so itself: nobody is accused, and what its host still has to send is named."""

from pathlib import Path

import pytest

from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore
from tasks.audit.report import lines
from tasks.audit.verify import verify_incident
from tasks.custody.audit.finding import Audit, AuditWord, Severity
from tasks.custody.audit.signers import read_signers
from tasks.custody.errors import TransientStoreError
from tasks.evidence.collect import collect
from tasks.incident.current import read_incident
from tests.support.memory_store import MemoryStore
from tests.support.run_context import INCIDENT, case_of, made
from tests.support.sealed_runs import NAMES, recorded_run
from tests.support.workloads import SmallWorkload


class Failing(MemoryStore):
    """Takes so many objects of the evidence, and all else; `forgets` are names of which it keeps nothing."""

    def __init__(self, left: int, forgets: str = "") -> None:
        """Take all, where that is not limited."""
        super().__init__()
        self.left, self.forgets = left, forgets

    def _keep(self, key: str, data: bytes, sha256: str) -> None:
        if "/evidence/" in key:
            if not self.left:
                raise TransientStoreError("an answer", "none", "Nothing was stored.", "Try again.")
            self.left -= 1
        if not (self.forgets and key.endswith(self.forgets)):
            super()._keep(key, data, sha256)


class Down(MemoryStore):
    """Takes nothing while it is down, as a bucket that is not there, or of which nobody has the credentials."""

    is_down = True

    def _keep(self, key: str, data: bytes, sha256: str) -> None:
        if self.is_down:
            raise TransientStoreError("an answer", "none", "Nothing was stored.", "Try again.")
        super()._keep(key, data, sha256)


def run(small: SmallWorkload, store: MemoryStore, key: SigningKey, *, stored: bool = True) -> None:
    """Run the incident, or carry it on; the store then has its record, or not."""
    with case_of(small.block(needed=["logs"]), store) as context:
        context.incident = read_incident(context.directory.path) or context.incident
        context.store.block = EvidenceStore(folder=small.root, signing=key)
        assert recorded_run(context, [made(collect.fn(context, name)) for name in NAMES]).stored is stored


def unsent(audit: Audit) -> list[str]:
    return [each.object for each in audit.findings if each.severity is Severity.UNSENT]


@pytest.mark.slow
@pytest.mark.parametrize(
    "store", [Failing(0), Failing(1), Failing(6), Failing(99, "coverage.json")], ids=["0", "1", "6", "99"]
)
def test_an_untouched_incident_that_ended_unverified_is_unfinished(
    tmp_path: Path, signing_key: SigningKey, store: Failing
) -> None:
    signers = read_signers(signing_key.allowed_signers)
    with SmallWorkload(tmp_path / "work load") as small:
        run(small, store, signing_key)
        audit = verify_incident(store, INCIDENT, signers, deep=True)
        assert audit.verdict.startswith("UNVERIFIED (record/001)")
        assert audit.word is AuditWord.UNFINISHED, audit.findings
        assert unsent(audit)
        assert all("its host still has to send it" in each.what for each in audit.findings)
        assert next(iter(lines(audit))).startswith(f"UNFINISHED  {INCIDENT}, host ")
        name = f"incidents/{INCIDENT}/record/001/verdict.json"
        verdict = store._objects.pop(name)
        assert verify_incident(store, INCIDENT, signers, deep=True).word is AuditWord.BROKEN
        store._objects[name] = verdict
        store.left, store.forgets = 99, ""
        run(small, store, signing_key)
        audit = verify_incident(store, INCIDENT, signers, deep=True)
        assert (audit.word, unsent(audit)) == (AuditWord.PROVEN, []), audit.findings
        assert audit.verdict.startswith("VERIFIED (record/002)")


@pytest.mark.slow
def test_what_an_unfinished_incident_has_is_what_was_sealed(tmp_path: Path, signing_key: SigningKey) -> None:
    store = Failing(99, "coverage.json")
    with SmallWorkload(tmp_path / "work load") as small:
        run(small, store, signing_key)
    key = f"incidents/{INCIDENT}/evidence/pip_freeze.txt"
    signers = read_signers(signing_key.allowed_signers)
    whole = store._objects.pop(key)
    assert verify_incident(store, INCIDENT, signers, deep=False).word is AuditWord.BROKEN  # it was proven to be there
    store._objects[key] = whole + b"?"
    assert verify_incident(store, INCIDENT, signers, deep=False).word is AuditWord.BROKEN


@pytest.mark.slow
@pytest.mark.parametrize("before", ["memory:", "memory:mistyped", "store block house"])
def test_an_incident_is_proven_where_it_was_carried_on_wherever_its_first_run_meant_to_store_it(
    tmp_path: Path, signing_key: SigningKey, before: str
) -> None:
    store = Down(before)
    with SmallWorkload(tmp_path / "work load") as small:
        run(small, store, signing_key, stored=False)
        assert not store._objects
        store.is_down, store._place = False, "memory:"
        run(small, store, signing_key)
    audit = verify_incident(store, INCIDENT, read_signers(signing_key.allowed_signers), deep=True)
    assert audit.word is AuditWord.PROVEN, audit.findings
    elsewhere = {f"incidents/{INCIDENT}/{name}" for name in ("record/001/closing.json", "evidence/manifest.json")}
    moved = {each.object for each in audit.findings if "another place" in each.what}
    assert moved == (set() if before == "memory:" else elsewhere)
    del store._objects[f"incidents/{INCIDENT}/claim.json"]
    assert (
        verify_incident(store, INCIDENT, read_signers(signing_key.allowed_signers), deep=True).word is AuditWord.BROKEN
    )
