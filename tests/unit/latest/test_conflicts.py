"""One wrong object costs one object: all else is sent and proven, and what was sealed lies beside it."""

import json
from pathlib import Path
from typing import Any

import pytest

from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore
from tasks.audit.verify import verify_incident
from tasks.custody.audit.finding import Audit, AuditWord
from tasks.custody.audit.signers import read_signers
from tasks.custody.evidence.keys import beside_key
from tasks.custody.store.manifest import canonical, digest_bytes
from tasks.evidence.collect import collect
from tasks.incident.current import read_incident
from tasks.latest.pull import RestoreOutcome, pull
from tasks.record.final_state import final_state
from tests.support.memory_store import MemoryStore
from tests.support.run_context import INCIDENT, case_of, made
from tests.support.sealed_runs import NAMES, recorded_run
from tests.support.workloads import SmallWorkload

HOME = f"incidents/{INCIDENT}"
LOG = "logs/train-20260101_000000.log"
SNAPSHOT = f"snapshots/{INCIDENT.removeprefix('IR-')}/{LOG}"
KEYS = (
    f"{HOME}/claim.json",
    f"{HOME}/evidence/{LOG}",
    f"{HOME}/evidence/pip_freeze.txt",
    f"{HOME}/evidence/coverage.json",
    f"{HOME}/evidence/custody.jsonl",
    f"{HOME}/evidence/SHA256SUMS",
    f"{HOME}/evidence/manifest.json",
    f"{HOME}/evidence/manifest.json.sig",
    SNAPSHOT,
)
FOREIGN = b"of somebody else"


class Runs:
    """Runs of one incident against one store."""

    def __init__(self, small: SmallWorkload, key: SigningKey, folder: Path) -> None:
        """Begin with an empty store."""
        self.small, self.key, self.folder, self.store = small, key, folder, MemoryStore()

    def run(self) -> tuple[str, str]:
        """Run it, or carry it on; return the name of its state, and the message."""
        with case_of(self.small.block(needed=["logs"]), self.store) as context:
            context.incident = read_incident(context.directory.path) or context.incident
            context.store.block = EvidenceStore(folder=self.folder, signing=self.key)
            recorded = recorded_run(context, [made(collect.fn(context, name)) for name in NAMES])
            state = final_state(context, recorded.verdict, recorded, None)
            return str(state.name), str(state.message)

    def audit(self) -> Audit:
        """Prove it."""
        return verify_incident(self.store, INCIDENT, read_signers(self.key.allowed_signers), deep=True)

    def receipts(self) -> dict[str, dict[str, Any]]:
        """The last record's, by key."""
        last = max(each.key for each in self.store.list(HOME) if each.key.endswith("/verdict.json"))
        return {each["key"]: each for each in json.loads(self.store.read(last))["objects"]}


@pytest.fixture
def runs(tmp_path: Path, signing_key: SigningKey) -> Runs:
    """An incident that nobody has touched."""
    with SmallWorkload(tmp_path / "work load") as small:
        return Runs(small, signing_key, tmp_path)


def require_partial(runs: Runs, key: str, foreign: bytes, ended: tuple[str, str]) -> None:
    name, told = ended
    assert name == "Partial", told
    assert f"{key}: other content lies there; what was sealed is at {HOME}/conflicts/" in told
    assert "nothing has to be sent again" in told
    assert runs.store.read(key) == foreign
    receipts = runs.receipts()
    beside = receipts[key]["beside"]
    assert beside == beside_key(INCIDENT, receipts[key]["sha256"])
    assert digest_bytes(runs.store.read(beside)) == receipts[key]["sha256"]
    assert [each for each, receipt in receipts.items() if not receipt["proven"]] == [key]
    audit = runs.audit()
    assert audit.word is AuditWord.PROVEN, audit.findings
    assert [each.object for each in audit.findings] == [key]
    assert "other content lies here" in audit.findings[0].what


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS)
def test_foreign_bytes_at_one_key_cost_that_key(runs: Runs, key: str) -> None:
    runs.store._objects[key] = FOREIGN
    require_partial(runs, key, FOREIGN, runs.run())


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS)
def test_an_object_that_the_store_has_truncated_is_answered_by_the_next_run(runs: Runs, key: str) -> None:
    assert runs.run()[0] == "Verified"
    short = runs.store.read(key)[:-1]
    runs.store._objects[key] = short
    require_partial(runs, key, short, runs.run())


@pytest.mark.slow
def test_where_the_place_beside_it_is_taken_too_the_object_alone_is_unproven(runs: Runs) -> None:
    key = f"{HOME}/evidence/{LOG}"
    runs.store._objects[key] = FOREIGN
    sealed = digest_bytes((runs.small.root / LOG).read_bytes())
    runs.store._objects[beside_key(INCIDENT, sealed)] = FOREIGN
    name, told = runs.run()
    assert name == "Unverified"
    assert f"{key}: the store says sha256 {digest_bytes(FOREIGN)}" in told
    receipts = runs.receipts()
    assert {each for each, receipt in receipts.items() if not receipt["proven"]} == {key, SNAPSHOT}


RECORD = ("verdict.json", "custody.jsonl", "postmortem.md", "closing.json", "closing.json.sig")


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORD)
def test_a_file_of_an_earlier_record_that_the_store_has_truncated_is_answered(runs: Runs, name: str) -> None:
    assert runs.run()[0] == "Verified"
    key = f"{HOME}/record/001/{name}"
    short = runs.store.read(key)[:-1]
    runs.store._objects[key] = short
    require_partial(runs, key, short, runs.run())


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORD)
def test_foreign_bytes_in_the_place_of_a_record_are_named_and_the_next_run_answers_them(runs: Runs, name: str) -> None:
    key = f"{HOME}/record/001/{name}"
    runs.store._objects[key] = FOREIGN
    ended, told = runs.run()
    assert ended == "Unverified"
    assert key in told
    require_partial(runs, key, FOREIGN, runs.run())


@pytest.mark.slow
def test_nobody_touched_it(runs: Runs) -> None:
    assert runs.run()[0] == "Verified"
    assert not list(runs.store.list(f"{HOME}/conflicts/"))
    audit = runs.audit()
    assert (audit.word, audit.findings) == (AuditWord.PROVEN, ())


@pytest.mark.slow
def test_a_forged_word_that_an_object_lies_beside_its_key_proves_nothing(runs: Runs) -> None:
    assert runs.run()[0] == "Verified"
    key = f"{HOME}/evidence/{LOG}"
    sha256 = digest_bytes(runs.store.read(key))
    runs.store._objects[beside_key(INCIDENT, sha256)] = runs.store.read(key)
    runs.store._objects[key] = FOREIGN
    assert runs.audit().word is AuditWord.BROKEN  # the record says that it was at its own key
    name = f"{HOME}/record/001/verdict.json"
    facts = json.loads(runs.store.read(name))
    for each in facts["objects"]:
        each.update({"proven": False, "beside": beside_key(INCIDENT, sha256)} if each["key"] == key else {})
    runs.store._objects[name] = canonical(facts)
    assert runs.audit().word is AuditWord.BROKEN


@pytest.mark.slow
@pytest.mark.parametrize("other", [{"host": "gpu2"}, {"workload": "another"}])
def test_a_claim_of_another_host_or_workload_lets_nothing_in(runs: Runs, other: dict[str, str]) -> None:
    ours = {"incident": INCIDENT, "host": "gpu1", "workload": "test"}
    runs.store._objects[f"{HOME}/claim.json"] = canonical(ours | other)
    name, told = runs.run()
    assert (name, "incident_suffix" in told) == ("Unverified", True)
    assert [each.key for each in runs.store.list("")] == [f"{HOME}/claim.json"]


@pytest.mark.slow
@pytest.mark.parametrize("claim", [b"", b"{", b"[]", b'{"incident": 1}', FOREIGN])
def test_what_is_no_claim_keeps_nobody_out(runs: Runs, claim: bytes) -> None:
    runs.store._objects[f"{HOME}/claim.json"] = claim
    assert runs.run()[0] == "Partial"


@pytest.mark.slow
def test_a_pull_brings_what_lies_beside(runs: Runs, tmp_path: Path) -> None:
    key = f"{HOME}/evidence/{LOG}"
    runs.store._objects[key] = FOREIGN
    runs.run()
    (into := tmp_path / "into").mkdir()
    made_ = {each.name: each.outcome for each in pull(runs.store, INCIDENT, into).files}
    beside = runs.receipts()[key]["beside"].removeprefix("incidents/")
    assert (made_[key.removeprefix("incidents/")], made_[beside]) == (RestoreOutcome.FAILED, RestoreOutcome.NEW)
    assert RestoreOutcome.UNPROMISED not in made_.values()
