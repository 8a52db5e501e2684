"""An audit proves the time of a closing by an authority's time stamp, and says plainly where it cannot."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.x509 import Certificate

from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore
from flows.command.commands import invoke
from tasks.audit.report import lines, markdown
from tasks.audit.verify import verify_incident
from tasks.custody.audit.finding import Audit, AuditWord, Severity
from tasks.custody.audit.signers import AllowedSigner, read_signers
from tasks.custody.errors import Refused
from tasks.custody.store.manifest import canonical
from tasks.custody.store.timestamp import read_roots
from tests.support.memory_store import MemoryStore
from tests.support.run_context import INCIDENT
from tests.support.sealed_runs import evacuated
from tests.support.time_authority import TimeAuthority
from tests.unit.audit.conftest import Objects

URL = "https://tsa.example/tsr"
FIRST, LAST = (f"incidents/{INCIDENT}/record/00{number}/closing.json" for number in (1, 2))
STAMP = f"{LAST}.tsr"
UNSTAMPED = LAST.replace("closing", "unstamped")
Change = Callable[[Objects, TimeAuthority], dict[str, bytes]]
Auditing = Callable[[dict[str, bytes]], Audit]


@pytest.fixture(scope="module")
def stamped(
    signing_key: SigningKey, time_authority: TimeAuthority, tmp_path_factory: pytest.TempPathFactory
) -> Objects:
    """An incident of two runs, whose closings are stamped."""
    folder, store = tmp_path_factory.mktemp("stamped"), MemoryStore()
    block = EvidenceStore(folder=folder, signing=signing_key, timestamp_url=URL)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tasks.evidence.time_stamp.time_stamp", lambda _, data: time_authority.stamp(data))
        evacuated(folder / "work", store, signing_key, block)
    return Objects({each.key: store.read(each.key) for each in store.list("")})


@pytest.fixture(scope="module")
def signers(allowed: str) -> tuple[AllowedSigner, ...]:
    return read_signers(allowed)


@pytest.fixture(scope="module")
def roots(time_authority: TimeAuthority) -> tuple[Certificate, ...]:
    return read_roots(time_authority.roots)


@pytest.fixture
def audit(
    holding: Callable[[dict[str, bytes]], MemoryStore],
    signers: tuple[AllowedSigner, ...],
    roots: tuple[Certificate, ...],
) -> Auditing:
    """Audit these objects as an auditor who knows signers and authorities."""
    return lambda objects: verify_incident(holding(objects), INCIDENT, signers, roots, deep=False)


def without(objects: Objects, *keys: str) -> dict[str, bytes]:
    return {key: data for key, data in objects.items() if key not in keys}


def faults(found: Audit) -> dict[str, str]:
    return {each.object: each.summary for each in found.findings}


@pytest.mark.slow
def test_stamped_closings_prove_their_times(stamped: Objects, audit: Auditing) -> None:
    found = audit(stamped)
    assert (found.word, found.findings) == (AuditWord.PROVEN, ()), found.summary
    assert f"UTC by {URL}, " in found.timed
    assert "before a record was closed" in found.unproven[1]
    assert f"  time      {found.timed}" in [*lines(found)]
    assert f"- Time 時刻: {found.timed[:10]}" in markdown(found)


def test_without_roots_the_time_is_told_and_not_proven(
    stamped: Objects, holding: Callable[[dict[str, bytes]], MemoryStore], signers: tuple[AllowedSigner, ...]
) -> None:
    found = verify_incident(holding(stamped), INCIDENT, signers, deep=False)
    assert found.word is AuditWord.INDETERMINATE
    assert found.timed.startswith("not proven: 2")
    assert faults(found).keys() == {STAMP, f"{FIRST}.tsr"}
    assert all("got none were given" in words for words in faults(found).values())
    assert "every time comes from the host" in found.unproven[1]


def test_an_incident_that_names_no_authority_needs_a_time_stamp_only_for_who_asks_for_its_time(
    objects: Objects,
    audit: Auditing,
    holding: Callable[[dict[str, bytes]], MemoryStore],
    signers: tuple[AllowedSigner, ...],
) -> None:
    found, asked = verify_incident(holding(objects), INCIDENT, signers, deep=False), audit(objects)
    assert (found.word, found.findings) == (AuditWord.PROVEN, ())
    assert found.timed == asked.timed == "no time vouched for, because the closing names no time-stamp authority"
    assert "every time comes from the host" in found.unproven[1]
    assert (asked.word, set(faults(asked))) == (AuditWord.INDETERMINATE, {FIRST, LAST})


@pytest.mark.parametrize(
    ("change", "severity", "key", "words"),
    [
        (lambda it, _: {STAMP: it[f"{FIRST}.tsr"]}, Severity.BROKEN, STAMP, "a time stamp over other data"),
        (lambda it, _: {STAMP: it[STAMP][:-1]}, Severity.BROKEN, STAMP, "ShortData"),
        (lambda *_: {STAMP: b""}, Severity.BROKEN, STAMP, "ShortData"),
        (lambda *_: {STAMP: b"0" * 100_000}, Severity.BROKEN, STAMP, "more than 65536 bytes"),
        (lambda *_: {STAMP: bytes.fromhex("30053003020102")}, Severity.BROKEN, STAMP, "a refusal"),
        (
            lambda it, _: {STAMP: it[STAMP][:-1] + bytes([it[STAMP][-1] ^ 1])},
            Severity.OPEN,
            STAMP,
            "Unable to verify pkcs7 signature",
        ),
        (lambda it, by: {STAMP: by.stamp(it[LAST], signer="expired")}, Severity.OPEN, STAMP, "has expired"),
        (lambda it, by: {STAMP: by.stamp(it[LAST], signer="web")}, Severity.OPEN, STAMP, "unsuitable"),
        (lambda it, by: {STAMP: by.stamp(it[LAST], signer="stranger")}, Severity.OPEN, STAMP, "local issuer"),
        (
            lambda it, by: {STAMP: by.stamp(it[LAST], closed(it, -60))},
            Severity.OPEN,
            LAST,
            "its own time is wrong, or it",
        ),
        (lambda it, by: {STAMP: by.stamp(it[LAST], closed(it, 700))}, Severity.OPEN, LAST, "600 s after; got +"),
    ],
)
def test_a_time_stamp_that_does_not_prove_the_closings_time_is_named(  # noqa: PLR0913, PLR0917  the table's columns
    stamped: Objects,
    audit: Auditing,
    time_authority: TimeAuthority,
    change: Change,
    severity: Severity,
    key: str,
    words: str,
) -> None:
    found = audit({**stamped, **change(stamped, time_authority)})
    assert found.word is {Severity.BROKEN: AuditWord.BROKEN, Severity.OPEN: AuditWord.INDETERMINATE}[severity]
    (fault,) = found.findings
    assert (fault.severity, fault.object) == (severity, key)
    assert words in fault.summary
    assert "every time comes from the host" in found.unproven[1]


def closed(objects: Objects, seconds: int) -> datetime:
    """A time so long after the last closing's own, in whole seconds."""
    own = datetime.fromisoformat(json.loads(objects[LAST])["closed_utc"])
    return own.replace(microsecond=0) + timedelta(seconds=seconds)


@pytest.mark.parametrize("seconds", [-29, 599])
def test_clocks_that_differ_a_little_and_a_slow_store_cost_nothing(
    stamped: Objects, audit: Auditing, time_authority: TimeAuthority, seconds: int
) -> None:
    found = audit({**stamped, STAMP: time_authority.stamp(stamped[LAST], closed(stamped, seconds))})
    assert (found.word, found.findings) == (AuditWord.PROVEN, ())


@pytest.mark.slow
def test_one_that_is_missing_is_no_silence_and_its_reason_is_told(stamped: Objects, audit: Auditing) -> None:
    found = audit(without(stamped, STAMP))
    assert found.word is AuditWord.INDETERMINATE
    assert found.timed.startswith("no time vouched for, because there is no time stamp: the run ended before it, or")
    assert faults(found).keys() == {LAST}
    for told, shown in (
        ({"reason": "it was shut"}, "it was shut"),
        ({"reason": "\x1b[2J"}, "\\x1b[2J"),
        ([], "there is"),
    ):
        found = audit({**without(stamped, STAMP), UNSTAMPED: canonical(told)})
        assert found.word is AuditWord.INDETERMINATE
        assert found.timed.startswith(f"no time vouched for, because {shown}")
        assert f"time vouched for, because {shown}" in faults(found)[LAST]


def test_a_later_closing_that_is_stamped_covers_one_that_is_not(stamped: Objects, audit: Auditing) -> None:
    found = audit(without(stamped, f"{FIRST}.tsr"))
    assert found.word is AuditWord.PROVEN
    (told,) = found.findings
    assert (told.severity, told.object) == (Severity.NOTE, FIRST)
    assert told.what.endswith(f"the time of {LAST}, which is later, is proven")
    late = audit({**without(stamped, f"{FIRST}.tsr"), STAMP: b""})
    assert {each.object for each in late.findings if each.severity is not Severity.NOTE} == {STAMP, FIRST}


@pytest.mark.slow
def test_what_no_closing_asked_for_is_named_and_proves_nothing(
    objects: Objects, audit: Auditing, time_authority: TimeAuthority
) -> None:
    found = audit({**objects, STAMP: time_authority.stamp(objects[LAST]), UNSTAMPED: canonical({"reason": "why"})})
    assert found.word is audit(objects).word is AuditWord.INDETERMINATE, "the time that it states counts for nothing"
    assert {each.object for each in found.findings if each.severity is Severity.NOTE} == {STAMP, UNSTAMPED}
    assert found.timed == audit(objects).timed


def test_a_closing_whose_time_has_no_zone_is_compared_all_the_same(
    stamped: Objects, audit: Auditing, time_authority: TimeAuthority, signing_key: SigningKey
) -> None:
    closing = canonical({**json.loads(stamped[LAST]), "closed_utc": "0001-01-01T00:00:00"})
    found = audit(
        {**stamped, LAST: closing, f"{LAST}.sig": signing_key.sign(closing), STAMP: time_authority.stamp(closing)}
    )
    assert faults(found).keys() == {LAST}
    assert "it was sent late" in faults(found)[LAST]


@pytest.mark.slow
def test_the_command_takes_the_roots_from_a_file(
    stamped: Objects, allowed: str, time_authority: TimeAuthority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, data in stamped.items():
        (tmp_path / "store" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "store" / key).write_bytes(data)
    (tmp_path / "store.toml").write_text(f'[store.archive]\nfolder = "{tmp_path / "store"}"\n')
    (tmp_path / "signers").write_text(allowed)
    command = ["audit", str(tmp_path / "store.toml"), INCIDENT, "--signers", str(tmp_path / "signers")]
    assert invoke([*command, "--tsa-roots", str(time_authority.root)]) == 0
    assert f" UTC by {URL}" in capsys.readouterr().out
    assert invoke(command) == 12
    with pytest.raises(Refused, match="root certificates of time-stamp authorities in PEM"):
        invoke([*command, "--tsa-roots", str(tmp_path / "signers")])
    with pytest.raises(Refused, match=r"a file of certificates; got .*No such file"):
        invoke([*command, "--tsa-roots", str(tmp_path / "none")])
    with pytest.raises(Refused, match="--tsa-roots and --deep are of one"):
        invoke(["audit", str(tmp_path / "store.toml"), "--tsa-roots", str(time_authority.root)])
