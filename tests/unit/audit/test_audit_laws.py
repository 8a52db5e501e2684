"""Records that fit together and claim too much, runs that died, neighbours, retention: what an audit makes of them."""

import json
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from blocks.port import StoredObject
from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore
from tasks.audit.verify import verify_incident
from tasks.custody.audit.chain import signing_entries
from tasks.custody.audit.facts import coverage_holds, read_coverage, read_facts
from tasks.custody.audit.finding import Audit, AuditWord, Severity
from tasks.custody.audit.layout import layout_of
from tasks.custody.audit.promise import Promise, Seen, check_promise
from tasks.custody.audit.records import RecordOf, admitted_objects
from tasks.custody.audit.signers import AllowedSigner, read_signers
from tasks.custody.audit.turns import turns_hold
from tasks.custody.audit.untrusted import read_manifest
from tasks.custody.evidence.keys import SEGMENT, begun_key, done_key
from tasks.custody.incident.verdict import Word
from tasks.custody.store.latest import LatestTransaction
from tasks.custody.store.manifest import canonical, digest_bytes
from tasks.custody.store.signature import Data
from tasks.evidence.collect import collect
from tests.support.memory_store import MemoryStore
from tests.support.run_context import INCIDENT, case_of, made
from tests.support.sealed_runs import NAMES, evacuated, lossy, one_run
from tests.support.workloads import SmallWorkload
from tests.unit.audit.conftest import Objects

Holding = Callable[[dict[str, bytes]], MemoryStore]
HOME = f"incidents/{INCIDENT}"
STAMP = INCIDENT.removeprefix("IR-")


def findings(audit: Audit, severity: Severity) -> dict[str, str]:
    """All that is said of each object."""
    found = dict[str, str]()
    for each in (each for each in audit.findings if each.severity is severity):
        name = each.object.removeprefix(f"{HOME}/")
        found[name] = f"{found.get(name, '')}{each.summary}; "
    return found


def forged(objects: dict[str, bytes], record: int, change: Callable[[dict[str, Any]], object]) -> dict[str, bytes]:
    """A record whose facts were changed by somebody who may write everywhere, and who set every digest right again."""
    folder = f"{HOME}/record/{record:03d}"
    facts = json.loads(objects[f"{folder}/verdict.json"])
    change(facts)
    verdict = canonical(facts)
    closing = json.loads(objects[f"{folder}/closing.json"])
    closing["files"]["verdict.json"] = digest_bytes(verdict)
    closing["verdict"] = facts["verdict"]["word"]
    return objects | {f"{folder}/verdict.json": verdict, f"{folder}/closing.json": canonical(closing)}


def lose(facts: dict[str, Any], about: dict[str, object] | None = None) -> None:
    (item,) = [item for item in facts["coverage"] if item["collector"] == "logs"]
    item.update(about or {"outcome": "denied", "reason": "not permitted"})


UNKNOWN = {"identity": {"pid": 7, "start": 1}, "command": "node serve.js", "why": "in the root", "line": ""}
CLAIMS: dict[str, Callable[[dict[str, Any]], object]] = {
    "lost needed evidence": lose,
    "an object that was never proven": lambda facts: facts["objects"][0].update(proven=False),
    "no receipts": lambda facts: facts.update(objects=[]),
    "one receipt less": lambda facts: facts["objects"].pop(),
    "no evidence": lambda facts: facts.update(coverage=[]),
    "something alive": lambda facts: facts["containment"].update(alive=["training 7"]),
    "nobody looked": lambda facts: facts.update(containment=None),
    "nothing was paused": lambda facts: facts.update(pause=None),
    "a launch that got through": lambda facts: facts.update(challenge={"at": "2026-01-02T00:00:00Z"}),
    "a process that nobody knows": lambda facts: facts["containment"].update(unknown=[UNKNOWN]),
    "what is missing": lambda facts: facts["verdict"].update(missing=["logs denied"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CLAIMS.values(), ids=CLAIMS)
def test_a_record_that_claims_verified_over_its_own_facts_is_broken(
    unsigned: Objects, holding: Holding, change: Callable[[dict[str, Any]], object]
) -> None:
    audit = verify_incident(holding(forged(unsigned, 2, change)), INCIDENT, None, deep=True)
    assert audit.word is AuditWord.BROKEN
    assert "it claims VERIFIED" in findings(audit, Severity.BROKEN)["record/002/verdict.json"]


def test_a_record_that_claims_less_than_its_facts_is_believed(unsigned: Objects, holding: Holding) -> None:
    # A step that failed without a receipt makes a verdict worse, and no record has its reason as a fact.
    objects = forged(unsigned, 2, lambda facts: facts["verdict"].update(word="UNVERIFIED", missing=["§6: broken"]))
    audit = verify_incident(holding(objects), INCIDENT, None, deep=False)
    assert findings(audit, Severity.BROKEN).keys() == {"record/002/closing.json"}
    assert "the verdict in the custody log" in findings(audit, Severity.BROKEN)["record/002/closing.json"]


@pytest.mark.parametrize("about", [{"outcome": "empty"}, {"needed": False}, {"may_be_missing": True}])
def test_an_attempt_that_is_told_otherwise_than_it_was_sealed_is_broken(
    unsigned: Objects, holding: Holding, about: dict[str, object]
) -> None:
    objects = forged(unsigned, 2, lambda facts: lose(facts, about))
    audit = verify_incident(holding(objects), INCIDENT, None, deep=False)
    assert "differently than the sealed coverage.json" in findings(audit, Severity.BROKEN)["record/002/verdict.json"]


@pytest.mark.parametrize("word", ["VERIFIED", "UNVERIFIED"])
def test_files_in_a_folder_that_nobody_sealed_prove_nothing(unsigned: Objects, holding: Holding, word: str) -> None:
    def later(facts: dict[str, Any]) -> None:
        lose(facts, {"volume": 9})
        facts["verdict"].update(word=word)

    told = findings(verify_incident(holding(forged(unsigned, 2, later)), INCIDENT, None, deep=False), Severity.BROKEN)
    said = "it counts files of logs that no manifest names" in told.get("record/002/verdict.json", "")
    assert said is (word == "VERIFIED"), "a run that could not seal says that it is UNVERIFIED"


def test_a_file_that_was_collected_and_is_in_no_manifest_is_broken(unsigned: Objects, holding: Holding) -> None:
    ghost = {"stored": "logs/ghost.log", "source": "", "size": 0, "sha256": "0" * 64}
    objects = forged(unsigned, 2, lambda facts: facts["coverage"][0]["files"].append(ghost))
    audit = verify_incident(holding(objects), INCIDENT, None, deep=False)
    assert "logs/ghost.log" in findings(audit, Severity.BROKEN)["record/002/verdict.json"]


@pytest.mark.parametrize("name", ["id", "host", "boot", "workload", "opened_at"])
def test_a_claim_of_another_host_workload_or_time_is_broken(unsigned: Objects, holding: Holding, name: str) -> None:
    claim = json.loads(unsigned[f"{HOME}/claim.json"])
    claim["incident" if name == "id" else name] = "2026-01-02T03:04:05+00:00" if name == "opened_at" else "IR-other"
    audit = verify_incident(holding(unsigned | {f"{HOME}/claim.json": canonical(claim)}), INCIDENT, None, deep=False)
    assert "claim.json" in findings(audit, Severity.BROKEN)


def test_records_that_tell_of_different_incidents_are_broken(unsigned: Objects, holding: Holding) -> None:
    objects = forged(unsigned, 1, lambda facts: facts["incident"].update(host="elsewhere"))
    audit = verify_incident(holding(objects), INCIDENT, None, deep=False)
    assert "name different digests of it" in findings(audit, Severity.BROKEN)["claim.json"]


def without(objects: dict[str, bytes], *starts: str) -> dict[str, bytes]:
    return {
        key: data for key, data in objects.items() if not key.startswith(tuple(f"{HOME}/{each}" for each in starts))
    }


@pytest.fixture
def signers(allowed: str) -> tuple[AllowedSigner, ...]:
    return read_signers(allowed)


def test_a_run_that_died_before_its_closing_is_named(
    objects: Objects, holding: Holding, signers: tuple[AllowedSigner, ...]
) -> None:
    left = without(objects, "record/001/closing.json")
    audit = verify_incident(holding(left), INCIDENT, signers, deep=False)
    assert audit.word is AuditWord.INDETERMINATE
    told = findings(audit, Severity.OPEN)["record/001/closing.json"]
    assert "its run died, or it was removed" in told
    assert "verdict.json" in told


def test_a_last_record_that_was_cut_off_leaves_its_evidence_without_a_witness(
    objects: Objects, holding: Holding, signers: tuple[AllowedSigner, ...]
) -> None:
    audit = verify_incident(holding(without(objects, "record/002/")), INCIDENT, signers, deep=False)
    assert audit.word is AuditWord.INDETERMINATE
    assert "no closing vouches for it" in findings(audit, Severity.OPEN)["evidence.2/manifest.json"]
    assert audit.verdict.startswith("VERIFIED (record/001)")


def test_a_record_in_the_middle_that_was_taken_out_breaks_the_chain(
    objects: Objects, holding: Holding, signers: tuple[AllowedSigner, ...]
) -> None:
    audit = verify_incident(holding(without(objects, "record/001/")), INCIDENT, signers, deep=False)
    assert audit.word is AuditWord.BROKEN
    assert "record 001 is missing" in findings(audit, Severity.OPEN)["record/001/closing.json"]
    assert "custody chain" in findings(audit, Severity.BROKEN)["evidence.2/custody.jsonl"]


def test_an_offload_that_was_broken_off_is_open_and_nobody_is_accused(
    objects: Objects, holding: Holding, signers: tuple[AllowedSigner, ...]
) -> None:
    left = without(objects, "record/", "evidence/manifest.json", "evidence/SHA256SUMS", "evidence.2/")
    left = {
        key: data
        for key, data in left.items()
        if not key.startswith((f"snapshots/{STAMP}.2/", "promotions/", "latest/"))
    }
    audit = verify_incident(holding(left), INCIDENT, signers, deep=False)
    assert audit.word is AuditWord.INDETERMINATE, findings(audit, Severity.BROKEN)
    assert audit.verdict.startswith("none")


def test_neighbours_are_nobodys_business(
    objects: Objects, holding: Holding, signers: tuple[AllowedSigner, ...]
) -> None:
    strangers = [
        f"{HOME}-gpu1/claim.json",
        f"snapshots/{STAMP}-gpu1/models/a",
        "promotions/000009/begun.json",
        "snapshots/20250102T030405Z/models/a",
        "promotions/notes.txt",
        "latest/models/other",
        "notes.txt",
    ]
    audit = verify_incident(holding(objects | dict.fromkeys(strangers, b"theirs")), INCIDENT, signers, deep=False)
    assert audit.word is AuditWord.PROVEN, audit.summary


def test_a_stamp_with_a_host_is_not_taken_for_anothers_supplement() -> None:
    plain = layout_of("IR-20260102T030405Z", ["incidents/IR-20260102T030405Z/evidence/a"])
    assert plain.owns("snapshots/20260102T030405Z/models/a")
    assert plain.owns("snapshots/20260102T030405Z.2/models/a")
    host = layout_of("IR-20260102T030405Z-gpu", ["incidents/IR-20260102T030405Z-gpu/evidence/a"])
    assert host.owns("snapshots/20260102T030405Z-gpu/models/a")
    assert not host.owns("snapshots/20260102T030405Z-gpu.2/models/a")
    assert replace(host, volumes=(1, 2)).owns("snapshots/20260102T030405Z-gpu.2/models/a")


def test_latest_that_went_on_is_a_note(objects: Objects, holding: Holding, signers: tuple[AllowedSigner, ...]) -> None:
    key = next(key for key in objects if key.startswith("latest/"))
    for changed in (objects | {key: b"newer"}, {name: data for name, data in objects.items() if name != key}):
        audit = verify_incident(holding(changed), INCIDENT, signers, deep=False)
        assert audit.word is AuditWord.PROVEN
        assert "no longer has what this incident promoted" in findings(audit, Severity.NOTE)[key]


def test_a_turn_that_no_record_tells_of_is_open_unless_a_later_one_has_carried_it_on(
    objects: Objects, holding: Holding, signers: tuple[AllowedSigner, ...]
) -> None:
    last = LatestTransaction.read([objects[begun_key(2)]])
    assert last.incident == INCIDENT
    silent = objects | {begun_key(3): replace(last, number=3).to_bytes()}
    audit = verify_incident(holding(silent), INCIDENT, signers, deep=False)
    assert "no record tells of this turn" in findings(audit, Severity.OPEN)[begun_key(3)]
    rolled_back = replace(last, number=3, incident="", undoes=2, by="root by hand")
    audit = verify_incident(holding(objects | {begun_key(3): rolled_back.to_bytes()}), INCIDENT, signers, deep=False)
    assert audit.word is AuditWord.PROVEN
    assert "brought back to what it was before turn 2, by root by hand" in findings(audit, Severity.NOTE)[begun_key(3)]


@pytest.mark.slow
def test_what_the_records_tell_of_a_turn_is_compared(
    objects: Objects, holding: Holding, signers: tuple[AllowedSigner, ...]
) -> None:
    another = replace(LatestTransaction.read([objects[begun_key(2)]]), incident="IR-20260102T030406Z").to_bytes()
    for number in (1, 2):
        for key in (begun_key(number), done_key(number)):
            gone = {name: data for name, data in objects.items() if name != key}
            for changed in (gone, objects | {key: objects[key] + b" "}, objects | {key: another}):
                audit = verify_incident(holding(changed), INCIDENT, signers, deep=False)
                assert key in findings(audit, Severity.BROKEN), key


def test_a_turn_whose_run_died_and_that_was_carried_on_is_a_note() -> None:
    first = LatestTransaction(1, INCIDENT, "guarded", "run", datetime.now(UTC), ())
    second = replace(first, number=2, carries_on=1)
    (found,) = turns_hold(INCIDENT, {begun_key(2)}, [first, second])
    assert (found.severity, found.object) == (Severity.NOTE, begun_key(1))
    assert not list(turns_hold("IR-20260102T030406Z", set(), [first, second]))


def test_nobody_signed_is_said_and_is_not_proven(unsigned: Objects, holding: Holding) -> None:
    audit = verify_incident(holding(unsigned), INCIDENT, None, deep=True)
    assert audit.word is AuditWord.INDETERMINATE
    assert audit.signed == "not signed"
    assert any(sentence.startswith("Who made this") for sentence in audit.unproven)


@pytest.fixture(scope="module")
def later(signing_key: SigningKey, tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """An incident whose first run had no key, and whose second one had."""
    store = MemoryStore()
    evacuated(tmp_path_factory.mktemp("later") / "work load", store, None, then=[signing_key])
    return Objects({each.key: store.read(each.key) for each in store.list("")})


@pytest.mark.slow
def test_what_was_left_unsigned_is_covered_by_a_later_closing_that_is_signed(
    later: Objects, holding: Holding, signers: tuple[AllowedSigner, ...]
) -> None:
    first = {f"{HOME}/evidence/manifest.json", f"{HOME}/record/001/closing.json"}
    assert not [key for key in first if f"{key}.sig" in later]
    audit = verify_incident(holding(later), INCIDENT, signers, deep=True)
    assert audit.word is AuditWord.PROVEN, audit.findings
    told = findings(audit, Severity.NOTE)
    covered = {key for key, what in told.items() if "record/002/closing.json, which was signed later" in what}
    assert {f"{HOME}/{key}" for key in covered} == first
    assert audit.signed.endswith("; what was left unsigned, later signatures cover")


def test_only_a_signature_that_counts_covers_and_only_the_digest_that_it_names(
    later: Objects, holding: Holding, signers: tuple[AllowedSigner, ...]
) -> None:
    first = f"{HOME}/record/001/closing.json"
    audit = verify_incident(holding(stripped(later, "record/002/closing.json")), INCIDENT, signers, deep=False)
    assert "it is not signed" in findings(audit, Severity.OPEN)["record/001/closing.json"]
    forged_first = json.loads(later[first]) | {"closed_utc": "2026-01-02T03:04:05+00:00"}
    audit = verify_incident(holding(later | {first: canonical(forged_first)}), INCIDENT, signers, deep=False)
    assert "it is not signed" in findings(audit, Severity.OPEN)["record/001/closing.json"]
    assert audit.word is not AuditWord.PROVEN
    stranger = read_signers(
        "evacuation@test ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDiuf0v7R0P9Pz7mNPl4k2Nu1FIV6pg1zvbGzuZs9yMq"
    )
    audit = verify_incident(holding(later), INCIDENT, stranger, deep=False)
    assert "it is not signed" in findings(audit, Severity.OPEN)["record/001/closing.json"]


def stripped(objects: dict[str, bytes], *names: str) -> dict[str, bytes]:
    """Without the signatures of these documents, as somebody leaves it who may write to the bucket."""
    gone = {f"{HOME}/{name}.sig" for name in names}
    assert gone <= objects.keys()
    return {key: data for key, data in objects.items() if key not in gone}


@pytest.mark.slow
def test_a_manifest_whose_signature_was_taken_away_is_not_covered_by_a_closing_that_names_it(
    tmp_path: Path, signing_key: SigningKey, holding: Holding, signers: tuple[AllowedSigner, ...]
) -> None:
    store = MemoryStore()
    with SmallWorkload(tmp_path / "work load") as small, case_of(small.block(needed=["logs"]), store) as context:
        context.store.block = EvidenceStore(folder=tmp_path, signing=signing_key)
        one_run(context, [made(collect.fn(context, name)) for name in NAMES], proven=None)
    objects = {each.key: store.read(each.key) for each in store.list("")}
    assert verify_incident(store, INCIDENT, signers, deep=False).word is AuditWord.PROVEN
    audit = verify_incident(holding(stripped(objects, "evidence/manifest.json")), INCIDENT, signers, deep=False)
    assert audit.word is AuditWord.INDETERMINATE, audit.findings
    assert "it is not signed" in findings(audit, Severity.OPEN)["evidence/manifest.json"]
    assert audit.signed.endswith(", but not everywhere")


@pytest.fixture(scope="module")
def at_last(signing_key: SigningKey, tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """An incident of four runs, of which only the last had a key; the last two sealed nothing."""
    store = MemoryStore()
    evacuated(tmp_path_factory.mktemp("last") / "work load", store, None, then=[None, None, signing_key])
    return Objects({each.key: store.read(each.key) for each in store.list("")})


@pytest.mark.slow
def test_a_closing_that_is_covered_covers_in_its_turn(
    at_last: Objects, holding: Holding, signers: tuple[AllowedSigner, ...]
) -> None:
    assert [key for key in at_last if key.endswith(".sig")] == [f"{HOME}/record/004/closing.json.sig"]
    audit = verify_incident(holding(at_last), INCIDENT, signers, deep=True)
    assert audit.word is AuditWord.PROVEN, audit.findings
    told = findings(audit, Severity.NOTE)
    names = {"evidence/manifest.json", "evidence.2/manifest.json", *(f"record/{n:03d}/closing.json" for n in (1, 2, 3))}
    assert {name for name in told if "record/004/closing.json, which was signed" in told[name]} == names


def cut(segment: bytes) -> bytes:
    return segment[: segment.rstrip(b"\n").rindex(b"\n") + 1]


@pytest.mark.slow
def test_a_segment_that_was_changed_covers_nothing(
    at_last: Objects, holding: Holding, signers: tuple[AllowedSigner, ...]
) -> None:
    link, first = f"{HOME}/record/004/custody.jsonl", f"{HOME}/record/002/closing.json"
    forged_first = canonical(json.loads(at_last[first]) | {"closed_utc": "2026-01-02T03:04:05+00:00"})
    old, new = (digest_bytes(data).encode() for data in (at_last[first], forged_first))
    segment = f"{HOME}/record/003/custody.jsonl"
    assert old in at_last[segment]
    forged_segment = at_last[segment].replace(old, new)
    closing = f"{HOME}/record/003/closing.json"
    forged_closing = canonical(
        (said := json.loads(at_last[closing])) | {"files": said["files"] | {SEGMENT: digest_bytes(forged_segment)}}
    )
    with_segment = at_last | {first: forged_first, segment: forged_segment}
    for changed in (with_segment, with_segment | {closing: forged_closing}, at_last | {link: cut(at_last[link])}):
        audit = verify_incident(holding(changed), INCIDENT, signers, deep=False)
        assert audit.word is AuditWord.BROKEN
        assert "it is not signed" in findings(audit, Severity.OPEN)["record/002/closing.json"]


def test_a_signed_closing_and_segment_of_another_incident_cover_nothing_here(
    later: Objects, unsigned: Objects, holding: Holding, signers: tuple[AllowedSigner, ...]
) -> None:
    other = "IR-20260102T030406Z"
    ours = {key.replace(INCIDENT, other).replace(STAMP, other.removeprefix("IR-")): later[key] for key in later}
    audit = verify_incident(holding(ours), other, signers, deep=False)
    assert audit.word is AuditWord.BROKEN
    replayed = {key: data for key, data in later.items() if key.startswith(f"{HOME}/record/002/")}
    audit = verify_incident(holding(unsigned | replayed), INCIDENT, signers, deep=False)
    assert audit.word is AuditWord.BROKEN
    assert "it is not signed" in findings(audit, Severity.OPEN)["record/001/closing.json"]


@pytest.mark.slow
def test_a_key_that_failed_leaves_what_a_later_signature_covers(
    tmp_path: Path, signing_key: SigningKey, monkeypatch: pytest.MonkeyPatch, signers: tuple[AllowedSigner, ...]
) -> None:
    made_by_key, tries = SigningKey.sign, iter([True, True])

    def fail_at_first(self: SigningKey, data: Data) -> bytes:
        if next(tries, False):
            raise OSError("the key is gone")
        return made_by_key(self, data)

    monkeypatch.setattr(SigningKey, "sign", fail_at_first)
    store, first = MemoryStore(), f"{HOME}/record/001/closing.json"
    evacuated(tmp_path / "work load", store, signing_key)
    assert json.loads(store.read(first))["signer"]
    assert store.head(f"{first}.sig") is None
    audit = verify_incident(store, INCIDENT, signers, deep=True)
    assert audit.word is AuditWord.PROVEN, audit.findings
    assert "vouches for its digest" in findings(audit, Severity.NOTE)["record/001/closing.json"]
    assert audit.signed.endswith("; what was left unsigned, later signatures cover")


def test_a_segment_tells_every_digest_that_was_left_unsigned_and_nothing_that_is_no_entry() -> None:
    lines = [
        {"action": "unsigned", "object": "evidence/manifest.json", "digest": "a" * 64},
        {"action": "unsigned", "object": "evidence/manifest.json", "digest": "b" * 64},
        {"action": "signed", "object": "unsigned", "digest": "c" * 64},
        {"action": "unsigned", "object": ["evidence/manifest.json"], "digest": "d" * 64},
        {"action": "unsigned", "object": "evidence/manifest.json"},
    ]
    segment = b"".join(json.dumps(line).encode() + b"\n" for line in lines) + b'"unsigned"\n{"unsigned"\n'
    assert [sha256[0] for action, _, sha256 in signing_entries(segment) if action == "unsigned"] == ["a", "b"]


def test_whose_the_key_is_is_not_proven_without_signers(objects: Objects, holding: Holding) -> None:
    audit = verify_incident(holding(objects), INCIDENT, None, deep=False)
    assert audit.word is AuditWord.INDETERMINATE
    assert [each.what for each in audit.findings] == ["nobody vouches for the key that signed it"]
    assert audit.signed.endswith("a key that nobody vouched for")
    assert any(sentence.startswith("Whose the signing key is") for sentence in audit.unproven)


def test_a_key_that_the_auditor_does_not_know_is_broken(objects: Objects, holding: Holding, allowed: str) -> None:
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDiuf0v7R0P9Pz7mNPl4k2Nu1FIV6pg1zvbGzuZs9yMq"
    for text in (
        f"evacuation@{socket.gethostname()} {other}",
        allowed.replace('namespaces="evacuation"', 'namespaces="git"'),
    ):
        audit = verify_incident(holding(objects), INCIDENT, read_signers(text), deep=False)
        assert audit.word is AuditWord.BROKEN
        assert len(findings(audit, Severity.BROKEN)) == 4


def test_a_signature_that_was_taken_away_is_open_and_the_closing_still_names_its_signer(
    objects: Objects, holding: Holding
) -> None:
    left = {key: data for key, data in objects.items() if not key.endswith(".sig")}
    audit = verify_incident(holding(left), INCIDENT, None, deep=False)
    assert audit.word is AuditWord.BROKEN  # the receipts name the manifests' signatures
    assert "as its signer, and has no signature" in findings(audit, Severity.OPEN)["record/002/closing.json"]


@pytest.mark.slow
def test_an_incident_that_lost_something_and_says_so_is_proven(
    tmp_path: Path, signing_key: SigningKey, signers: tuple[AllowedSigner, ...]
) -> None:
    store = MemoryStore()
    incident = lossy(tmp_path / "work load", store, signing_key)
    audit = verify_incident(store, incident, signers, deep=True)
    assert audit.word is AuditWord.PROVEN, audit.summary
    assert audit.verdict.startswith("PARTIAL (record/001)")


@pytest.mark.parametrize(
    ("about", "in_place", "severity"),
    [
        ({"proven": False, "lost": True, "reason": "changed"}, True, Severity.NOTE),
        ({"proven": False, "lost": True, "reason": "changed"}, False, Severity.UNSENT),
        ({"proven": False, "reason": "it is not in the store"}, False, Severity.UNSENT),
        ({"proven": True}, True, None),
    ],
)
def test_what_the_record_itself_says_never_came_to_the_store_accuses_nobody(
    unsigned: Objects, about: dict[str, Any], severity: Severity | None, *, in_place: bool
) -> None:
    facts = read_facts(unsigned[f"{HOME}/record/002/verdict.json"])
    receipt = replace(facts.objects[0], **{"proven": False, **about})
    record = RecordOf(2, None, replace(facts, objects=(receipt,)), None)
    assert admitted_objects({2: record}, frozenset({receipt.key} if in_place else ())).get(receipt.key) is severity
    missing = check_promise(
        Promise(receipt.key, receipt.sha256, None, "x"), Seen(receipt.key, there=False), severity or Severity.BROKEN
    )
    assert missing
    assert missing.severity is (severity or Severity.BROKEN)
    proven_before = RecordOf(1, None, replace(facts, objects=(replace(receipt, proven=True, lost=False),)), None)
    assert admitted_objects({1: proven_before, 2: record}, frozenset({receipt.key})) == {}


class LockingStore(MemoryStore):
    """Says of every object that it is locked until then; of one it says that it is not."""

    until = datetime(2027, 1, 1, tzinfo=UTC)
    free = ""

    def head(self, key: str) -> StoredObject | None:
        """As a bucket with Object Lock does."""
        seen = super().head(key)
        return seen and (seen if key == self.free else replace(seen, retained_until=self.until, lock="governance"))


def asking(objects: dict[str, bytes], **asked: object) -> dict[str, bytes]:
    key = f"{HOME}/record/002/closing.json"
    said = json.loads(objects[key]) | {"retention": {"lock": "governance", "days": 30, "hold": False, **asked}}
    return objects | {key: canonical(said)}


@pytest.mark.parametrize(
    ("asked", "lacks"),
    [
        ({}, ""),
        ({"lock": "compliance"}, "it is locked in governance mode, compliance was asked"),
        ({"hold": True}, "it is not under legal hold"),
        ({"days": 36_000}, "it is locked until"),
    ],
)
def test_retention_is_held_against_what_was_asked(unsigned: Objects, asked: dict[str, object], lacks: str) -> None:
    store = LockingStore()
    store.until = datetime.now(UTC) + timedelta(days=365)
    store._objects.update(asking(unsigned, **asked))
    audit = verify_incident(store, INCIDENT, None, deep=False)
    count = sum(not key.startswith("latest/") for key in unsigned)
    told = [each for each in findings(audit, Severity.OPEN).values() if "not signed" not in each]
    assert f"{count} under governance" in audit.retained
    assert [lacks in each and f"({count} objects)" in each for each in told] == [True] * bool(lacks)


def test_one_object_whose_lock_is_gone_is_named(unsigned: Objects) -> None:
    store = LockingStore()
    store.until, store.free = datetime.now(UTC) + timedelta(days=365), f"{HOME}/evidence/pip_freeze.txt"
    store._objects.update(asking(unsigned))
    audit = verify_incident(store, INCIDENT, None, deep=False)
    assert "it is not locked" in findings(audit, Severity.OPEN)["evidence/pip_freeze.txt"]


class RememberingStore(MemoryStore):
    """A bucket that keeps versions."""

    versions: dict[str, int] | None = None

    def count_versions(self, prefix: str) -> dict[str, int] | None:
        """Those that are there more than once."""
        kept = self.versions
        return None if kept is None else {key: times for key, times in kept.items() if key.startswith(prefix)}


def test_an_object_that_was_overwritten_and_put_back_is_found_where_versions_are_kept(
    objects: Objects, signers: tuple[AllowedSigner, ...]
) -> None:
    store = RememberingStore()
    store._objects.update(objects)
    assert "keeps no versions" in " ".join(verify_incident(store, INCIDENT, signers, deep=False).unproven)
    store.versions = {f"snapshots/{STAMP}-gpu1/a": 2, "latest/a": 9}
    audit = verify_incident(store, INCIDENT, signers, deep=False)
    assert audit.word is AuditWord.PROVEN
    assert "keeps no versions" not in " ".join(audit.unproven)
    store.versions |= {f"{HOME}/claim.json": 3}
    audit = verify_incident(store, INCIDENT, signers, deep=False)
    assert "written or deleted again" in findings(audit, Severity.BROKEN)["claim.json"]


def test_a_record_that_was_closed_before_the_seal_may_tell_an_attempt_that_was_made_again(objects: Objects) -> None:
    """A run was cancelled after a collector had failed, the next one repeated it, and the audit was BROKEN."""
    key = f"{HOME}/record/001/verdict.json"
    facts = read_facts(objects[key])
    manifest = read_manifest([objects[f"{HOME}/evidence/manifest.json"]])
    first, *others = read_coverage(objects[f"{HOME}/evidence/coverage.json"])
    again = {1: (replace(first, needed=not first.needed), *others)}
    (told,) = coverage_holds(key, facts, {1: manifest}, again, {1})
    assert "differently than the sealed coverage.json" in told.what
    early = replace(facts, verdict=replace(facts.verdict, word=Word.UNVERIFIED))
    assert [*coverage_holds(key, early, {}, again, set())] == []
