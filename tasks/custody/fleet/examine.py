"""Apply the rules of an audit to the documents of a fleet: its list, its records, and that no host is missing."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from tasks.custody.audit.finding import AuditFinding, broken, note, printable, unclear
from tasks.custody.audit.layout import SIGNATURE, gaps, records_in
from tasks.custody.audit.signed import Hand
from tasks.custody.audit.timed import TimeStamps, may_lie_beside, time_stamps
from tasks.custody.audit.untrusted import DocumentReader
from tasks.custody.evidence.keys import CLOSING, fleet_record_key, targets_key
from tasks.custody.fleet.documents import FleetClosing, HostLine, read_fleet_closing, read_hosts, read_targets
from tasks.custody.fleet.host_end import HostEnd, Row
from tasks.custody.fleet.incident import FleetIncident
from tasks.custody.fleet.places import HOSTS, key_at
from tasks.custody.fleet.verdict import verdict_of
from tasks.custody.store.manifest import digest_bytes
from tasks.custody.store.timestamp import Roots


@dataclass(frozen=True)
class FleetLayout:
    """The keys of one incident of a fleet."""

    fleet: str
    records: tuple[int, ...]

    @property
    def home(self) -> str:
        """The prefix of all its objects."""
        return f"fleets/{self.fleet}/"

    @property
    def signed_keys(self) -> tuple[str, ...]:
        """Keys of the signed documents: each closing."""
        return tuple(fleet_record_key(self.fleet, number, CLOSING) for number in self.records)


@dataclass(frozen=True)
class FleetExamination:
    """What the documents of a fleet say: findings, the lines of the last record's hosts, and the signers named."""

    findings: tuple[AuditFinding, ...]
    hosts: tuple[HostLine, ...]
    verdict: str
    named: Mapping[str, str]
    opened_at: datetime | None
    timed: TimeStamps


def fleet_layout(fleet: str, keys: Iterable[str]) -> FleetLayout:
    """Return the layout of the keys below fleets/ID/."""
    return FleetLayout(fleet, records_in(key.removeprefix(f"fleets/{fleet}/") for key in keys))


def examine_fleet(layout: FleetLayout, documents: Mapping[str, bytes], roots: Roots) -> FleetExamination:
    """Judge the documents, which are all objects below fleets/ID/, by key. `roots` are time-stamp authorities'."""
    reader = DocumentReader(documents)
    findings = reader.findings
    targets = reader.read(targets_key(layout.fleet), read_targets)
    keys = dict(zip(layout.records, layout.signed_keys, strict=True))
    closings = {number: reader.read(key, read_fleet_closing) for number, key in keys.items()}
    last = max((number for number, closing in closings.items() if closing), default=0)
    hosts_key = fleet_record_key(layout.fleet, last, HOSTS)
    hosts = reader.read(hosts_key, read_hosts) if last else None
    findings += _complete(layout, documents, closings)
    for number, closing in closings.items():
        if closing:
            findings += _closing_holds(layout, number, closing, documents)
    findings += _find_unnamed(layout, closings, documents)
    if targets and targets.id != layout.fleet:
        findings.append(broken(targets_key(layout.fleet), "it is the list of another one", layout.fleet, targets.id))
    lines = hosts.hosts if hosts else ()
    if last and hosts is None:
        findings.append(broken(hosts_key, "the last record does not say what became of the hosts"))
    if hosts and targets and (closing := closings[last]):
        findings += _hosts_hold(hosts_key, targets, lines, closing.verdict)
    readable = {key: closing for number, key in keys.items() if (closing := closings[number])}
    signers = {key: each.signer.fingerprint for key, each in readable.items() if each.signer}
    verdict = "none: no run has closed a record that can be read"
    if closing := closings.get(last):
        verdict = f"{closing.verdict} (record/{last:03d})"
    timed = time_stamps(readable, documents, roots)
    return FleetExamination(tuple(findings), lines, verdict, signers, targets.opened_at if targets else None, timed)


def one_signer(home: str, of_fleet: Iterable[Hand], of_hosts: Iterable[Hand]) -> Iterator[AuditFinding]:
    """Yield a finding if a host's key could have signed the fleet's records: a host must not vouch for the others."""
    fleet, hosts = ({hand.key.fingerprint for hand in hands} for hands in (of_fleet, of_hosts))
    if len(fleet) > 1:
        yield unclear(home, "its records are signed by several keys", "one key", ", ".join(sorted(fleet)))
    elif fleet & hosts and len(fleet | hosts) > 1:
        what = "its records are signed with a host's key, and other hosts have keys of their own"
        yield unclear(home, what, "a key that no host has", ", ".join(sorted(fleet & hosts)))


def _complete(
    layout: FleetLayout, documents: Mapping[str, bytes], closings: Mapping[int, FleetClosing | None]
) -> Iterator[AuditFinding]:
    if targets_key(layout.fleet) not in documents:
        yield broken(targets_key(layout.fleet), "the frozen list of hosts is missing", "the list", "none")
    if not layout.records:
        yield unclear(layout.home, "no run has closed a record", "at least one record", "none")
    for number in gaps(layout.records):
        yield unclear(fleet_record_key(layout.fleet, number, CLOSING), "this record is missing", "no gap", "none")
    for number, key in zip(layout.records, layout.signed_keys, strict=True):
        if closings[number] is None and key not in documents:
            yield unclear(key, "the record has no closing: its run died, or it was removed", CLOSING, "none")


def _closing_holds(
    layout: FleetLayout, number: int, closing: FleetClosing, documents: Mapping[str, bytes]
) -> Iterator[AuditFinding]:
    key = fleet_record_key(layout.fleet, number, CLOSING)
    if (closing.fleet, closing.record) != (layout.fleet, number):
        got = printable(closing.fleet, 80)
        yield broken(key, "it is the closing of something else", f"{layout.fleet} {number}", got)
    promised = {fleet_record_key(layout.fleet, number, name): sha256 for name, sha256 in closing.files.items()}
    for name, sha256 in {**promised, targets_key(layout.fleet): closing.targets}.items():
        got = digest_bytes(documents[name]) if name in documents else "no object"
        if got != sha256:
            yield broken(name, f"not what {key} names", sha256, got)
    if HOSTS not in closing.files:
        yield broken(key, f"it does not vouch for {HOSTS}")


def _find_unnamed(
    layout: FleetLayout, closings: Mapping[int, FleetClosing | None], documents: Mapping[str, bytes]
) -> Iterator[AuditFinding]:
    """Yield notes of objects that no closing names; a folder without a closing has a finding already."""
    known = {targets_key(layout.fleet), *layout.signed_keys, *(f"{key}{SIGNATURE}" for key in layout.signed_keys)}
    for number, closing in closings.items():
        known |= {*may_lie_beside({fleet_record_key(layout.fleet, number, CLOSING): closing} if closing else {})}
        folder = fleet_record_key(layout.fleet, number, "")
        names = closing.files if closing else [key.removeprefix(folder) for key in documents if key.startswith(folder)]
        known |= {f"{folder}{name}" for name in names}
    yield from (note(key, "no document names it: nobody vouches for it") for key in sorted(documents.keys() - known))


def _hosts_hold(
    key: str, targets: FleetIncident, lines: tuple[HostLine, ...], verdict: HostEnd
) -> Iterator[AuditFinding]:
    """Check that each host of the frozen list has exactly one line, and that the verdict follows from the lines."""
    wanted, listed = Counter(host.name for host in targets.hosts), Counter(line.host for line in lines)
    for name in sorted(wanted - listed):
        expected = "one line for each host of the frozen list"
        yield broken(key, f"the host {printable(name, 80)} is missing", expected, "none")
    for name in sorted(listed - wanted):
        yield broken(key, f"the host {printable(name, 80)} is not in the frozen list, or told twice")
    places = Counter((line.beneath, line.incident) for line in lines if line.closing and line.beneath is not None)
    for (beneath, incident), times in places.items():
        if times > 1:
            where = printable(key_at(beneath or "", f"incidents/{incident}"), 160)
            yield broken(key, f"several hosts name the incident {where}", "one host", str(times))
    rows = [Row(line.host, end=line.end) for line in lines]
    if wanted and (follows := verdict_of([*wanted], rows).end) is not verdict:
        yield broken(key, "the verdict does not follow from its lines", str(follows), str(verdict))
    for line in lines:
        if line.end is HostEnd.VERIFIED and (line.closing is None or line.closing.verdict != "VERIFIED"):
            got = printable(line.closing.verdict if line.closing else "none", 80)
            yield broken(key, f"the host {printable(line.host, 80)} is Verified without a closing", "VERIFIED", got)
        if line.stands:
            yield note(key, f"the order of {printable(line.host, 80)} still stood when the record was closed")
