"""A key that was stolen: what stays proven, because an authority has seen it before, what does not, and for whom."""

import json
import socket
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.x509 import Certificate

from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore
from tasks.audit.verify import verify_incident
from tasks.custody.audit.finding import Audit, AuditWord, Severity
from tasks.custody.audit.signers import read_signers
from tasks.custody.store.manifest import canonical
from tasks.custody.store.timestamp import read_roots
from tests.support.memory_store import MemoryStore
from tests.support.run_context import INCIDENT
from tests.support.sealed_runs import evacuated
from tests.support.shown import blocks_of
from tests.support.time_authority import TimeAuthority
from tests.unit.audit.conftest import Objects
from tests.unit.audit.test_audit_laws import HOME, findings
from tests.unit.audit.test_roles import new_key, resigned
from tests.unit.audit.test_rotated import rotation

HERE = socket.gethostname()
FIRST, LAST = (f"{HOME}/record/00{number}/closing.json" for number in (1, 2))
DOCUMENTS = {"evidence/manifest.json", "record/001/closing.json", "evidence.2/manifest.json", "record/002/closing.json"}
MINUTE = timedelta(minutes=1)
Auditing = Callable[..., Audit]


@pytest.fixture(scope="module")
def stamped(
    signing_key: SigningKey, time_authority: TimeAuthority, tmp_path_factory: pytest.TempPathFactory
) -> Objects:
    """An incident of two runs, a few minutes apart by their closings' time stamps."""
    folder, store = tmp_path_factory.mktemp("revoked"), MemoryStore()
    block = EvidenceStore(folder=folder, signing=signing_key, timestamp_url="https://tsa.example/tsr")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tasks.evidence.time_stamp.time_stamp", lambda _, data: time_authority.stamp(data))
        evacuated(folder / "work", store, signing_key, block)
    objects = Objects({each.key: store.read(each.key) for each in store.list("")})
    later = closed(objects, LAST).replace(microsecond=0) + 5 * MINUTE
    return Objects({**objects, f"{LAST}.tsr": time_authority.stamp(objects[LAST], later)})


@pytest.fixture(scope="module")
def roots(time_authority: TimeAuthority) -> tuple[Certificate, ...]:
    return read_roots(time_authority.roots)


def closed(objects: dict[str, bytes], key: str) -> datetime:
    """When a closing says that it was written."""
    return datetime.fromisoformat(json.loads(objects[key])["closed_utc"])


def until(key: SigningKey, at: datetime, who: str = f"evacuation@{HERE}") -> str:
    """The auditor's line for a key that was revoked from then on."""
    return f'{who} valid-before="{at.astimezone(UTC):%Y%m%d%H%M%SZ}" {key.public_key}\n'


@pytest.fixture
def audit(holding: Callable[[dict[str, bytes]], MemoryStore], roots: tuple[Certificate, ...]) -> Auditing:
    """Audit these objects by these lines, knowing the authority unless it is taken away."""

    def audit(objects: dict[str, bytes], lines: str, *, known: bool = True) -> Audit:
        return verify_incident(holding(objects), INCIDENT, read_signers(lines), roots if known else None, deep=False)

    return audit


@pytest.mark.slow
def test_what_an_authority_has_seen_before_stays_proven_and_each_document_is_named(
    stamped: Objects, audit: Auditing, signing_key: SigningKey
) -> None:
    found = audit(stamped, until(signing_key, closed(stamped, LAST) + 10 * MINUTE))
    assert found.word is AuditWord.PROVEN, found.findings
    told = findings(found, Severity.NOTE)
    assert told.keys() == DOCUMENTS
    assert all("and it stays: an authority saw it at 20" in each for each in told.values())


def test_what_nobody_has_seen_before_the_date_is_not_proven_and_what_was_stays(
    stamped: Objects, audit: Auditing, signing_key: SigningKey
) -> None:
    """The last closing says that it is older than the date. A thief would say so too."""
    found = audit(stamped, until(signing_key, closed(stamped, LAST) + MINUTE))
    assert found.word is AuditWord.INDETERMINATE
    assert findings(found, Severity.NOTE).keys() == {"evidence/manifest.json", "record/001/closing.json"}
    left = findings(found, Severity.OPEN)
    assert left.keys() == {"evidence.2/manifest.json", "record/002/closing.json"}
    assert all(
        "it is not proven to be older: expected a proven time stamp before that" in each for each in left.values()
    )


@pytest.mark.slow
def test_without_the_authoritys_roots_or_any_stamp_nothing_of_the_key_is_proven(
    stamped: Objects, objects: Objects, audit: Auditing, signing_key: SigningKey
) -> None:
    lines = until(signing_key, closed(stamped, LAST) + timedelta(days=1))
    for found in (audit(stamped, lines, known=False), audit(objects, lines, known=False), audit(objects, lines)):
        assert found.word is AuditWord.INDETERMINATE
        assert findings(found, Severity.OPEN).keys() >= DOCUMENTS


@pytest.mark.parametrize("signer", ["stranger", "web", "expired"])
def test_a_stamp_that_leads_to_no_root_keeps_nothing(
    stamped: Objects, audit: Auditing, signing_key: SigningKey, time_authority: TimeAuthority, signer: str
) -> None:
    faked = {f"{LAST}.tsr": time_authority.stamp(stamped[LAST], closed(stamped, LAST), signer=signer)}
    found = audit({**stamped, **faked}, until(signing_key, closed(stamped, LAST) + 10 * MINUTE))
    assert found.word is AuditWord.INDETERMINATE
    assert "record/002/closing.json" in findings(found, Severity.OPEN)


def test_a_later_closing_that_was_seen_before_covers_what_itself_was_not(
    stamped: Objects, audit: Auditing, signing_key: SigningKey
) -> None:
    bare = {key: data for key, data in stamped.items() if key != f"{FIRST}.tsr"}
    found = audit(bare, until(signing_key, closed(stamped, LAST) + 10 * MINUTE))
    assert found.word is AuditWord.PROVEN, found.findings
    assert findings(found, Severity.NOTE).keys() == DOCUMENTS
    other = canonical({**json.loads(bare[FIRST]), "run": "another"})  # by the thief, of whom no later closing tells
    found = audit(
        {**bare, FIRST: other, f"{FIRST}.sig": signing_key.sign(other)},
        until(signing_key, closed(stamped, LAST) + 10 * MINUTE),
    )
    assert "is not proven to be older" in findings(found, Severity.OPEN)["record/001/closing.json"]


def test_a_document_that_says_itself_that_it_is_younger_is_broken(
    stamped: Objects, audit: Auditing, signing_key: SigningKey
) -> None:
    found = audit(stamped, until(signing_key, closed(stamped, FIRST) - timedelta(days=1)))
    assert found.word is AuditWord.BROKEN
    told = findings(found, Severity.BROKEN)
    assert told.keys() >= DOCUMENTS
    assert "until " in told["record/001/closing.json"]


@pytest.mark.slow
def test_a_thief_who_dates_a_closing_back_is_not_believed(
    stamped: Objects, audit: Auditing, signing_key: SigningKey, time_authority: TimeAuthority
) -> None:
    date = closed(stamped, LAST) + 10 * MINUTE
    forged = resigned(stamped, signing_key, workload="other")
    for stamp in (stamped[f"{LAST}.tsr"], time_authority.stamp(forged[LAST], date + MINUTE)):
        found = audit({**forged, f"{LAST}.tsr": stamp}, until(signing_key, date))
        assert found.word is not AuditWord.PROVEN
        assert "is not proven to be older" in findings(found, Severity.OPEN)["record/002/closing.json"]


def test_a_key_that_counts_by_another_line_is_not_revoked(
    stamped: Objects, audit: Auditing, signing_key: SigningKey
) -> None:
    lines = until(signing_key, closed(stamped, LAST) + MINUTE) + f"{signing_key.allowed_signers}\n"
    assert audit(stamped, lines).findings == ()


@pytest.mark.slow
def test_a_persons_key_is_revoked_as_a_hosts(
    audit: Auditing, allowed: str, tmp_path: Path, signing_key: SigningKey
) -> None:
    person, store = new_key("people@example.net"), MemoryStore()
    evacuated(tmp_path / "a", store, signing_key, then=[signing_key, person])
    bucket = {each.key: store.read(each.key) for each in store.list("")}
    lines = allowed + until(person, datetime.now(UTC) + timedelta(days=1), "people@example.net")
    found = audit(bucket, lines, known=False)
    assert found.word is AuditWord.INDETERMINATE
    assert findings(found, Severity.OPEN).keys() == {"record/003/closing.json"}


@pytest.fixture(scope="module")
def following() -> SigningKey:
    return new_key(f"evacuation@{HERE}")


@pytest.fixture(scope="module")
def carried_on(following: SigningKey, tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """An incident of the next key alone."""
    store = MemoryStore()
    evacuated(tmp_path_factory.mktemp("next") / "a", store, following)
    return Objects({each.key: store.read(each.key) for each in store.list("")})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dated", "seen", "word"),
    [
        (-60, -59, AuditWord.PROVEN),
        (-60, 0, AuditWord.PROVEN),
        (-60, 1, AuditWord.BROKEN),
        (-60, None, AuditWord.BROKEN),
        (1, 1, AuditWord.BROKEN),
        (1, -59, AuditWord.BROKEN),
    ],
)
def test_a_revoked_key_names_only_what_it_is_proven_to_have_named_before(  # noqa: PLR0913, PLR0917  the scene
    carried_on: Objects,
    holding: Callable[[dict[str, bytes]], MemoryStore],
    roots: tuple[Certificate, ...],
    signing_key: SigningKey,
    following: SigningKey,
    time_authority: TimeAuthority,
    dated: int,
    seen: int | None,
    word: AuditWord,
) -> None:
    """What the next key signs in the incident is older than none of that: its roots are not asked for here."""
    date = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    named = rotation(signing_key, following, date + timedelta(seconds=dated))
    closing, signature = named
    if seen is not None:
        stamp = time_authority.stamp(named[signature], date + timedelta(seconds=seen))
        named[f"{signature}.tsr"] = stamp
    found = verify_incident(
        holding({**carried_on, **named}), INCIDENT, read_signers(until(signing_key, date)), roots, deep=False
    )
    told = {each.object: each for each in found.findings if each.severity is Severity.BROKEN}
    assert bool(told) is (word is AuditWord.BROKEN), found.findings
    if word is AuditWord.BROKEN:
        assert "or revoked" in findings(found, Severity.NOTE)[closing]


def test_a_text_that_was_stamped_before_its_key_was_stolen_names_nothing(
    carried_on: Objects,
    audit: Auditing,
    signing_key: SigningKey,
    following: SigningKey,
    time_authority: TimeAuthority,
) -> None:
    """A thief to be prepares it: the stamp is over the closing, and over no signature."""
    date = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    named = rotation(signing_key, following, date - MINUTE)
    closing, signature = named
    for name in (f"{closing}.tsr", f"{signature}.tsr"):
        named[name] = time_authority.stamp(named[closing], date - MINUTE)
    found = audit({**carried_on, **named}, until(signing_key, date))
    assert "counts for nothing" in findings(found, Severity.NOTE)[closing]


def test_the_page_says_the_same_with_openssl_and_ssh_keygen(
    stamped: Objects, signing_key: SigningKey, time_authority: TimeAuthority, tmp_path: Path
) -> None:
    for key, data in stamped.items():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(data)
    (tmp_path / "allowed").write_text(until(signing_key, closed(stamped, LAST) + MINUTE))
    page = (Path(__file__).parents[3] / "conformance/by-hand.md").read_text().partition("## By hand\n")[2]
    (block,) = (text for text, _ in blocks_of(page) if "openssl ts" in text)
    values = {"SIGNERS": tmp_path / "allowed", "HOST": HERE, "TSA_ROOTS": time_authority.root}
    script = "".join(f"{name}='{value}'\n" for name, value in values.items())
    bash = ["bash", "-euc", script + block]
    done = subprocess.run(bash, cwd=tmp_path / HOME, capture_output=True, text=True, check=False)
    first, last = done.stdout.split("record/002/closing.json:")
    assert (done.returncode, first.count("Verification: OK"), last.count("Verification: OK")) == (0, 1, 1), done.stderr
    assert ("Good" in first, "Good" in last) == (True, False)
