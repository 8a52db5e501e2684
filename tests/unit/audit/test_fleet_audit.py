"""A fleet audited from its bucket alone: proven as it was written, and never once anything of it was changed."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.x509 import Certificate
from pydantic import SecretStr

from blocks.directory import DirectoryStore
from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore
from blocks.store_fields import StoreFields
from flows.command.commands import invoke
from flows.fleet import fleet_state
from tasks.audit.fleet import verify_fleet
from tasks.custody.audit.finding import AuditWord, Severity
from tasks.custody.audit.signers import read_signers
from tasks.custody.errors import Refused
from tasks.custody.evidence.keys import targets_key
from tasks.custody.fleet.host_end import HostEnd, Row, closed_row
from tasks.custody.fleet.incident import FleetIncident, TargetHost
from tasks.custody.fleet.places import HOSTS
from tasks.custody.fleet.verdict import verdict_of
from tasks.custody.store.manifest import canonical, digest_bytes
from tasks.custody.store.timestamp import read_roots
from tasks.fleet import record as fleet_record
from tasks.fleet.closings import read_last
from tasks.fleet.postmortem import FleetReport, postmortem
from tasks.fleet.record import files_of, write_record
from tasks.prefect_side.saved_blocks import SavedStore
from tests.support.run_context import INCIDENT
from tests.support.shown import as_said, blocks_of, script_of
from tests.support.time_authority import TimeAuthority
from tests.unit.audit.conftest import Objects
from tests.unit.audit.test_revoked import until
from tests.unit.audit.test_roles import new_key
from tests.unit.audit.test_rotated import rotation
from tests.unit.custody.fleet.test_order import ID
from tests.unit.custody.fleet.test_order import INCIDENT as FLEET

PROJECT = Path(__file__).parents[3]
NOW = datetime(2026, 11, 26, 15, tzinfo=UTC)
AGO = datetime(2020, 1, 2, tzinfo=UTC)
LATER = datetime(2100, 1, 1, tzinfo=UTC)
OLDER = "it is older than the fleet's incident"
NAMES = ("gpu1", "gpu2")
Change = Callable[[Path], object]


class Bucket:
    """A folder with two hosts' incidents, and a fleet's record of them."""

    def __init__(self, folder: Path, objects: Objects, key: SigningKey | None, allowed: str) -> None:
        """Lay the hosts' objects down, each below its name."""
        self.folder, self.key, self.allowed, self.authority = folder, key, allowed, ""
        self.store = DirectoryStore(folder)
        for name in NAMES:
            for at, data in objects.items():
                self.store.create(f"{name}/{at}", data, digest_bytes(data))
        self.incident: FleetIncident = replace(FLEET, hosts=tuple(map(TargetHost, NAMES)), opened_at=AGO)
        content = canonical(self.incident.facts)
        self.store.create(targets_key(ID), content, digest_bytes(content))

    @property
    def block(self) -> EvidenceStore:
        """The fleet's store."""
        return EvidenceStore(folder=self.folder, signing=self.key, timestamp_url=self.authority)

    def rows(self) -> list[Row]:
        """Every host, Verified, with its closing."""
        told = [Row(name, 1, "run-1", HostEnd.VERIFIED, incident=INCIDENT, ordered=AGO) for name in NAMES]
        return [closed_row(row, read_last(self.store, row.host, INCIDENT), NOW) for row in told]

    def reopen(self, at: datetime) -> None:
        """Begin again with an incident that was opened then."""
        shutil.rmtree(self.folder / "fleets")
        self.incident = replace(self.incident, opened_at=at)
        content = canonical(self.incident.facts)
        self.store.create(targets_key(ID), content, digest_bytes(content))

    def write(self, rows: list[Row], **changes: Any) -> None:
        """Close a record of these lines."""
        verdict = verdict_of([host.name for host in self.incident.hosts], rows)
        report = FleetReport(self.incident, rows, replace(verdict, **changes), "r", NOW)
        write_record(
            self.block, self.store, report, files_of(report, postmortem(report), {name: name for name in NAMES})
        )

    def audit(
        self, *, deep: bool = False, signers: str | None = None, roots: tuple[Certificate, ...] | None = None
    ) -> Any:
        """What an auditor finds."""
        allowed = read_signers(self.allowed if signers is None else signers)
        return verify_fleet(StoreFields(folder=self.folder), ID, allowed, roots, deep=deep)


@pytest.fixture
def bucket(tmp_path: Path, objects: Objects, signing_key: SigningKey, allowed: str) -> Bucket:
    """A folder with the incidents of two hosts."""
    return Bucket(tmp_path, objects, signing_key, allowed)


@pytest.mark.slow
def test_a_fleet_is_proven_by_its_record_and_each_hosts_closing(bucket: Bucket) -> None:
    bucket.write(bucket.rows())
    found = bucket.audit()
    assert found.findings == ()
    assert found.word is AuditWord.PROVEN
    assert found.verdict == "Verified (record/001): 2 hosts"
    assert f"evacuation@{socket.gethostname()}" in found.signed
    assert bucket.audit(deep=True).word is AuditWord.PROVEN


@pytest.mark.slow
def test_nothing_of_the_record_or_of_a_closing_changes_unnoticed(bucket: Bucket) -> None:
    bucket.write(bucket.rows())
    record = [path for path in (bucket.folder / "fleets").rglob("*") if path.is_file()]
    hosts = [
        path
        for path in (bucket.folder / "gpu2/incidents" / INCIDENT).rglob("*")
        if path.name == "manifest.json" or path.parts[-2:] in {("002", "closing.json"), ("002", "closing.json.sig")}
    ]
    assert len(record) == 7
    assert len(hosts) == 4
    for path in (*record, *hosts):
        before = path.read_bytes()
        path.unlink()
        assert bucket.audit().word is not AuditWord.PROVEN, f"without {path}"
        path.write_bytes(before[:-2] + b" \n")
        assert bucket.audit().word is AuditWord.BROKEN, f"with another {path}"
        path.write_bytes(before)
    (bucket.folder / "fleets" / ID / "record/001/added.txt").write_text("x")
    assert [each.what for each in bucket.audit().findings] == ["no document names it: nobody vouches for it"]
    assert bucket.audit().word is AuditWord.PROVEN


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[:1], "the host gpu2 is missing"),
        (lambda rows: [*rows, rows[0]], "the host gpu1 is not in the frozen list, or told twice"),
        (lambda rows: [*rows, replace(rows[0], host="gpu9")], "the host gpu9 is not in the frozen list"),
        (lambda rows: [rows[0], replace(rows[1], closing=None)], "the host gpu2 is Verified without a closing"),
        (lambda rows: [rows[0], replace(rows[1], end=HostEnd.SILENT)], "the verdict does not follow from its lines"),
    ],
)
def test_a_green_record_that_lost_a_host_is_broken_whoever_signed_it(
    bucket: Bucket, change: Callable[[list[Row]], list[Row]], words: str
) -> None:
    bucket.write(change(bucket.rows()), end=HostEnd.VERIFIED)
    found = bucket.audit()
    assert found.word is AuditWord.BROKEN
    assert any(words in each.what for each in found.findings), found.findings


def test_the_record_of_a_silent_host_is_proven_and_is_not_green(bucket: Bucket) -> None:
    rows = [bucket.rows()[0], Row("gpu2", 1, "r", HostEnd.SILENT, stands=True)]
    bucket.write(rows)
    bucket.write([rows[0], replace(rows[1], end=HostEnd.EXPIRED, stands=False)])
    found = bucket.audit()
    assert (found.word, found.verdict) == (AuditWord.PROVEN, "Expired (record/002): 2 hosts")


def test_a_closing_that_is_not_the_hosts_last_is_told(bucket: Bucket) -> None:
    rows = bucket.rows()
    old = rows[0].closing
    assert old
    first = bucket.folder / "gpu1/incidents" / INCIDENT / "record/001/closing.json"
    said = json.loads(first.read_bytes())
    manifests = tuple((f"incidents/{INCIDENT}/{name}", sha256) for name, sha256 in sorted(said["manifests"].items()))
    key = old.key.replace("002", "001")
    earlier = replace(old, key=key, sha256=digest_bytes(first.read_bytes()), manifests=manifests)
    bucket.write([replace(rows[0], closing=earlier), rows[1]])
    (found,) = bucket.audit().findings
    assert found.severity is Severity.NOTE
    assert "carried on later" in found.what


def carried_on(bucket: Bucket, **says: str) -> None:
    """Another run has closed the incident of gpu1 once more."""
    folder = bucket.folder / "gpu1/incidents" / INCIDENT / "record"
    later = {**json.loads((folder / "002/closing.json").read_bytes()), "record": 3, "run": "recover", **says}
    (folder / "003").mkdir()
    (folder / "003/closing.json").write_bytes(canonical(later))


@pytest.mark.parametrize("closed", [True, False], ids=["ended otherwise", "not closed"])
def test_a_host_whose_incident_ended_otherwise_later_is_not_proven(bucket: Bucket, *, closed: bool) -> None:
    bucket.write(bucket.rows())
    carried_on(bucket, verdict="NOTCONTAINED")
    if not closed:
        (closing := bucket.folder / "gpu1/incidents" / INCIDENT / "record/003/closing.json").unlink()
        (closing.parent / "custody.jsonl").write_text("")
    found = bucket.audit()
    assert found.word is AuditWord.INDETERMINATE
    (finding,) = found.findings
    assert ("ended otherwise" if closed else "is not closed") in finding.what


def test_a_fleets_table_knows_how_the_host_stands_now(bucket: Bucket) -> None:
    carried_on(bucket, verdict="NOTCONTAINED")
    now = read_last(bucket.store, "gpu1", INCIDENT, "run-1")
    for end in (HostEnd.VERIFIED, HostEnd.PARTIAL):
        row = Row("gpu1", 1, "run-1", end, incident=INCIDENT, ordered=AGO)
        assert closed_row(row, now, NOW).end is HostEnd.NOT_CONTAINED
        assert closed_row(replace(row, ordered=LATER), now, NOW).end in {
            HostEnd.UNVERIFIED,
            HostEnd.PARTIAL,
        }, "from before"


@pytest.mark.slow
def test_a_closing_older_than_the_fleet_or_of_another_run_is_broken(bucket: Bucket) -> None:
    rows = bucket.rows()
    bucket.write([rows[0], replace(rows[1], run="run-2")])
    assert [each.what for each in bucket.audit().findings] == ["it is of another run than the fleet's order"]
    bucket.write([rows[0], replace(rows[1], run="run-2", joined=True)])
    assert bucket.audit().word is AuditWord.PROVEN, "it joined the run that closed it"
    bucket.reopen(LATER)
    bucket.write(rows)
    assert bucket.audit().findings == (), "its run is the order's, whatever its host's clock says"
    bucket.write([replace(row, joined=True) for row in rows])
    assert {each.what for each in bucket.audit().findings} == {OLDER}


def test_two_hosts_cannot_share_one_closing(bucket: Bucket) -> None:
    rows = bucket.rows()
    report = FleetReport(bucket.incident, rows, verdict_of(NAMES, rows), "r", NOW)
    write_record(bucket.block, bucket.store, report, files_of(report, postmortem(report), dict.fromkeys(NAMES, "gpu1")))
    found = bucket.audit()
    assert found.word is AuditWord.BROKEN
    assert [each.what for each in found.findings] == [f"several hosts name the incident gpu1/incidents/{INCIDENT}"]


def test_a_hosts_own_closing_counts_whoever_carried_its_incident_on(bucket: Bucket) -> None:
    carried_on(bucket)
    assert read_last(bucket.store, "gpu1", INCIDENT).run == "recover"
    assert read_last(bucket.store, "gpu1", INCIDENT, "run-1").key.endswith("record/002/closing.json")
    assert read_last(bucket.store, "gpu1", INCIDENT, "unknown").run == "recover"


@pytest.fixture
def host_key(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    """A host's own key, which the auditor's file names for every host."""
    path = tmp_path_factory.mktemp("host") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    key = SigningKey(private_key=SecretStr(path.read_text()), identity="evacuation@gpu2")
    bucket.allowed += f"evacuation@*,{key.allowed_signers}\n"
    return key


@pytest.mark.parametrize(("place", "word"), [("gpu2/", AuditWord.PROVEN), ("gpu1/", AuditWord.BROKEN)])
def test_a_rotation_of_a_hosts_key_counts_in_its_own_place(  # noqa: PLR0913, PLR0917  the scene
    bucket: Bucket, host_key: SigningKey, signing_key: SigningKey, allowed: str, place: str, word: AuditWord
) -> None:
    for closing in sorted((bucket.folder / "gpu2").rglob("002/closing.json")):
        said = {**json.loads(closing.read_bytes()), "signer": {"fingerprint": host_key.fingerprint}}
        closing.write_bytes(canonical(said))
        Path(f"{closing}.sig").write_bytes(host_key.sign(canonical(said)))
    for key, data in rotation(signing_key, host_key, AGO).items():
        bucket.store.create(f"{place}{key}", data, digest_bytes(data))
    bucket.write([bucket.rows()[1]], end=HostEnd.VERIFIED)
    bucket.incident = replace(bucket.incident, hosts=bucket.incident.hosts[1:])
    found = bucket.audit(signers=allowed)
    told = [each for each in found.findings if "signed by a key" in each.what]
    assert bool(told) is (word is AuditWord.BROKEN), found.findings


@pytest.mark.slow
def test_a_fleet_of_a_revoked_key_is_proven_by_what_authorities_have_seen_before(
    bucket: Bucket, signing_key: SigningKey, time_authority: TimeAuthority
) -> None:
    with time_authority.serving() as bucket.authority:
        bucket.write(bucket.rows())
    lines = until(signing_key, datetime.now(UTC) + timedelta(minutes=1))
    roots = read_roots(time_authority.roots)
    found = bucket.audit(signers=lines, roots=roots)
    left = {each.object.partition("/")[0] for each in found.findings if each.severity is Severity.OPEN}
    assert (found.word, left) == (AuditWord.INDETERMINATE, {"gpu1", "gpu2"})
    for closing in [*bucket.folder.glob("gpu*/incidents/*/record/002/closing.json")]:
        Path(f"{closing}.tsr").write_bytes(time_authority.stamp(closing.read_bytes()))
    found = bucket.audit(signers=lines, roots=roots)
    assert found.word is AuditWord.PROVEN, found.findings
    assert bucket.audit(signers=lines).word is AuditWord.INDETERMINATE


def test_a_fleets_own_key_is_rotated_in_the_fleets_place(bucket: Bucket, signing_key: SigningKey, allowed: str) -> None:
    bucket.key = new_key(signing_key.identity)
    bucket.write(bucket.rows())
    assert bucket.audit(signers=allowed).word is AuditWord.BROKEN
    for key, data in rotation(signing_key, bucket.key, AGO).items():
        bucket.store.create(key, data, digest_bytes(data))
    found = bucket.audit(signers=allowed)
    assert found.word is AuditWord.PROVEN, found.findings


@pytest.mark.slow
def test_a_hosts_key_makes_no_fleet_green(bucket: Bucket, host_key: SigningKey) -> None:
    rows = bucket.rows()
    bucket.write([rows[0], Row("gpu2", 1, "r", HostEnd.SILENT)])
    assert bucket.audit().word is AuditWord.PROVEN
    bucket.key = host_key
    bucket.write(rows)
    found = bucket.audit()
    assert found.word is AuditWord.INDETERMINATE
    assert [each.what for each in found.findings] == ["its records are signed by several keys"]
    own = bucket.allowed.replace("evacuation@*,", "")
    assert bucket.audit(signers=own).word is AuditWord.BROKEN


def test_a_fleet_signed_by_the_key_of_one_of_its_hosts_is_not_proven(bucket: Bucket, host_key: SigningKey) -> None:
    for closing in sorted((bucket.folder / "gpu2").rglob("closing.json")):
        said = {**json.loads(closing.read_bytes()), "signer": {"fingerprint": host_key.fingerprint}}
        closing.write_bytes(canonical(said))
        Path(f"{closing}.sig").write_bytes(host_key.sign(canonical(said)))
    bucket.key = host_key
    bucket.write(bucket.rows())
    found = bucket.audit()
    assert found.word is AuditWord.INDETERMINATE
    assert any("signed with a host's key" in each.what for each in found.findings), found.findings


def test_persons_make_no_fleet_green(bucket: Bucket, host_key: SigningKey) -> None:
    person = f"people@example.net {host_key.public_key}\n"
    bucket.allowed = f"{bucket.allowed.splitlines()[1]}\n{person}"
    for closing in sorted((bucket.folder / "gpu2").rglob("002/closing.json")):
        said = {**json.loads(closing.read_bytes()), "signer": {"fingerprint": host_key.fingerprint}}
        closing.write_bytes(canonical(said))
        Path(f"{closing}.sig").write_bytes(host_key.sign(canonical(said)))
    bucket.write(bucket.rows())
    found = bucket.audit()
    assert found.word is AuditWord.INDETERMINATE
    assert "persons have signed it, and may say more than its host: audit it" in {each.what for each in found.findings}
    bucket.key = host_key
    bucket.write(bucket.rows())
    assert bucket.audit().word is AuditWord.BROKEN


def test_signatures_of_nobody_known_prove_nothing(bucket: Bucket) -> None:
    bucket.write(bucket.rows())
    other = "someone ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti\n"
    assert bucket.audit(signers=other).word is AuditWord.BROKEN
    (bucket.folder / "fleets" / ID / "record/001/closing.json.sig").unlink()
    assert bucket.audit().word is AuditWord.INDETERMINATE


def test_the_run_says_what_of_its_record_an_audit_will_not_find_proven(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = bucket.rows()
    report = FleetReport(bucket.incident, rows, verdict_of(NAMES, rows), "r", NOW)
    fields = {"folder": str(bucket.folder), "timestamp_url": "http://127.0.0.1:9/tsr"}
    monkeypatch.setattr(fleet_record, "require_store", lambda name: SavedStore(name, fields))
    recorded = fleet_record.record.fn(report, SimpleNamespace(beneath=str))  # type: ignore[arg-type]
    assert recorded.trouble == ""
    message = str(fleet_state(ID, report.verdict, recorded).message)
    assert "The record is unsigned 署名なし: no signing key in the store block" in message
    assert "No time vouched for 時刻の証明なし: http://127.0.0.1:9/tsr" in message
    assert bucket.audit().word is AuditWord.INDETERMINATE


def test_a_host_that_lies_elsewhere_is_named_and_not_called_proven(bucket: Bucket) -> None:
    rows = bucket.rows()
    report = FleetReport(bucket.incident, rows, verdict_of(NAMES, rows), "r", NOW)
    write_record(
        bucket.block, bucket.store, report, files_of(report, postmortem(report), {"gpu1": "gpu1", "gpu2": None})
    )
    found = bucket.audit()
    assert found.word is AuditWord.INDETERMINATE
    assert any("gpu2" in each.what and "another place" in each.what for each in found.findings)


@pytest.mark.parametrize("told", ["../../etc", "/etc/passwd", "a//b"])
def test_a_forged_place_is_not_read(bucket: Bucket, told: str) -> None:
    rows = bucket.rows()
    report = FleetReport(bucket.incident, rows, verdict_of(NAMES, rows), "r", NOW)
    write_record(
        bucket.block, bucket.store, report, files_of(report, postmortem(report), {"gpu1": told, "gpu2": "gpu2"})
    )
    assert bucket.audit().word is AuditWord.BROKEN


COPY = """#!/bin/sh -e
# aws s3 cp [--recursive] --only-show-errors s3://BUCKET/KEY PLACE, of a folder
for last; do from=${place:-} place=$last; done
mkdir -p "$(dirname "$place")"
cp -r "$STORE/${from#s3://bucket/}" "$place"
"""


@pytest.mark.slow
def test_every_command_of_the_page_prints_what_the_page_says(bucket: Bucket, tmp_path_factory: Any) -> None:
    bucket.write(bucket.rows())
    commands = blocks_of(
        (PROJECT / "conformance/by-hand.md").read_text().partition("## By hand: a fleet")[2].partition("\n## ")[0]
    )
    (programs := tmp_path_factory.mktemp("an auditor") / "bin").mkdir()
    (programs / "aws").write_text(COPY)
    (programs / "aws").chmod(0o755)
    (signers := programs.parent / "signers").write_text(bucket.allowed)
    given = {"STORE": str(bucket.folder), "SIGNERS": str(signers), "BUCKET": "bucket", "PREFIX": ".", "FLEET": ID}
    environment = {**os.environ, **given, "PATH": f"{programs}:{os.environ['PATH']}"}
    bash = ["bash", "-euc", script_of(commands)]
    done = subprocess.run(bash, cwd=programs.parent, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    as_said(commands, done.stdout)


def test_the_command_knows_a_fleet_by_its_id(
    bucket: Bucket, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket.write(bucket.rows())
    files = tmp_path_factory.mktemp("auditor")
    (files / "store.toml").write_text(f'[store.fleet]\nfolder = "{bucket.folder}"\n')
    (files / "signers").write_text(bucket.allowed)
    assert invoke(["audit", str(files / "store.toml"), ID, "--signers", str(files / "signers")]) == 0
    assert f"PROVEN incident={ID}" in capsys.readouterr().out
    with pytest.raises(Refused, match="no object of it"):
        invoke(["audit", str(files / "store.toml"), ID.replace("lab", "other")])
    with pytest.raises(Refused, match="an id of a fleet"):
        invoke(["audit", str(files / "store.toml"), "FL-../../x"])


def test_the_postmortem_tells_every_host_in_both_languages(bucket: Bucket) -> None:
    rows = [bucket.rows()[0], Row("gpu2", 1, "r", HostEnd.SILENT)]
    bucket.write(rows)
    folder = bucket.folder / "fleets" / ID / "record/001"
    assert json.loads((folder / HOSTS).read_bytes())["hosts"][1]["end"] == "Silent"
    for name in ("postmortem.md", "postmortem.html"):
        page = (folder / name).read_text()
        assert all(words in page for words in ("gpu1", "gpu2", "応答なし", "検証済み", "never seen", INCIDENT))


@pytest.mark.slow
def test_a_fleets_record_is_stamped_and_its_audit_proves_when_it_was_closed(
    bucket: Bucket, time_authority: TimeAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.authority = "https://tsa.example/tsr"
    monkeypatch.setattr("tasks.evidence.time_stamp.time_stamp", lambda _, data: time_authority.stamp(data))
    bucket.write(bucket.rows())
    found = bucket.audit(roots=read_roots(time_authority.roots))
    assert (found.word, found.findings) == (AuditWord.PROVEN, ())
    assert f" UTC by {bucket.authority}, " in found.timed
    assert bucket.audit().word is AuditWord.INDETERMINATE, "without roots"
    (bucket.folder / "fleets" / ID / "record/001/closing.json.tsr").unlink()
    monkeypatch.setattr("tasks.evidence.time_stamp.time_stamp", lambda *_: "it was shut")
    bucket.write(bucket.rows())
    found = bucket.audit(roots=read_roots(time_authority.roots))
    assert found.word is AuditWord.INDETERMINATE
    assert found.timed == "no time vouched for, because it was shut"
    assert len(found.findings) == 2
