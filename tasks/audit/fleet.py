"""Prove an incident of a fleet from the bucket alone: its own record, and each host's last closing and manifests."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final

from blocks.port import Store, Versioned
from blocks.store_fields import StoreFields
from tasks.audit.verify import rewritten, verify_incident
from tasks.custody.audit.finding import Audit, AuditFinding, Severity, broken, note, printable, unclear
from tasks.custody.audit.layout import SIGNATURE, layout_of
from tasks.custody.audit.promise import Promise, check_promise
from tasks.custody.audit.rotated import Signers
from tasks.custody.audit.signed import Signatures, signatures
from tasks.custody.audit.signers import AllowedSigner
from tasks.custody.audit.timed import seen_times
from tasks.custody.audit.untrusted import Closing, Unreadable, read_closing
from tasks.custody.errors import EvacuationError, Refused, StoreError
from tasks.custody.evidence.keys import CLOSING, STAMP, record_key
from tasks.custody.fleet.documents import ClosingOfHost, HostLine
from tasks.custody.fleet.examine import examine_fleet, fleet_layout, one_signer
from tasks.custody.fleet.host_order import FLEET, parse_fleet_id
from tasks.custody.fleet.places import key_at
from tasks.custody.store.manifest import digest_bytes
from tasks.custody.store.timestamp import Roots
from tasks.storage.rotations import hosts_of, with_rotations
from tasks.storage.untrusted_reads import DOCUMENT_LIMIT, fetch, read_each, see
from tasks.system.parallel import QUESTIONS, side_by_side

_MOST: Final = 10_000
_NOT_DEEP: Final = (
    "That each host's evidence is whole: its last closing and manifests were compared (deep does the rest)."
)
_NEVER: Final = (
    "That the list held every host that it should have: it is what the fleet's block named when it was frozen.",
    "That no run came after the last record: with the right to delete in the store, the end could have been removed.",
)


def audit_by_id(
    fields: StoreFields, incident: str, signers: Sequence[AllowedSigner] | None, roots: Roots = None, *, deep: bool
) -> Audit:
    """Audit an incident, or a fleet's, as `verify_incident` and `verify_fleet` do."""
    if incident.startswith(FLEET):
        return verify_fleet(fields, incident, signers, roots, deep=deep)
    return verify_incident(fields.open(), incident, signers, roots, deep=deep)


@dataclass(frozen=True)
class _HostAudit:
    """What the store says of one host."""

    findings: tuple[AuditFinding, ...]
    signed: Signatures | None = None
    objects: int = 0
    size: int = 0


def verify_fleet(
    fields: StoreFields, fleet: str, signers: Sequence[AllowedSigner] | None, roots: Roots = None, *, deep: bool
) -> Audit:
    """Audit a fleet's record, that no host is missing, and each host by its closing; with `deep` its whole incident.

    `signers` may sign, `roots` vouch for who stamps the time.
    Raises Refused if there is no such incident, StoreError if the store cannot be listed.
    """
    root = fields.model_copy(update={"prefix": ""}).open()
    documents, findings = _documents(root, fields.prefix, fleet)
    layout = fleet_layout(fleet, documents)
    found = examine_fleet(layout, documents, roots)
    ours, rotated = with_rotations(root, hosts_of(documents), signers, roots, fields.prefix)
    seen = seen_times((key for key in layout.signed_keys if key in documents), documents, roots, {})
    signed = signatures(layout, documents, documents, ours, found.named, {}, seen)
    hosts = list(side_by_side(lambda line: _host(root, line, found.opened_at, signers, roots), found.hosts, QUESTIONS))
    if deep:
        whole = (line for line in found.hosts if line.incident and line.beneath is not None)
        hosts += [_whole(fields, line, signers, roots) for line in whole]
    hands = [each for host in hosts if host.signed for each in host.signed.hands]
    every = [
        *findings,
        *one_signer(layout.home, signed.hands, hands),
        *found.findings,
        *rotated,
        *found.timed.findings,
        *signed.findings,
        *(broken(key, "persons have signed it, and only its host may") for key in sorted(signed.by_people)),
        *rewritten(root.count_versions(key_at(fields.prefix, layout.home)) if isinstance(root, Versioned) else None),
        *(finding for host in hosts for finding in host.findings),
    ]
    return Audit(
        incident=fleet,
        whose=f"fleet of {len(found.hosts)} hosts",
        place=fields.place,
        copy_of="",
        verdict=f"{found.verdict}: {len(found.hosts)} hosts",
        signed=replace(signed, hands=(*signed.hands, *hands)).summary,
        timed=found.timed.summary,
        retained="not asked of a fleet's record",
        deep=deep,
        objects=len(documents) + sum(host.objects for host in hosts),
        size=sum(map(len, documents.values())) + sum(host.size for host in hosts),
        findings=tuple(sorted(dict.fromkeys(every), key=lambda each: [*Severity].index(each.severity))),
        unproven=(*signed.unproven, found.timed.unproven, *_NEVER, *([] if deep else [_NOT_DEEP])),
    )


def _documents(root: Store, prefix: str, fleet: str) -> tuple[dict[str, bytes], list[AuditFinding]]:
    """Read every object below fleets/ID/, by its key in the fleet's store."""
    try:
        home = key_at(prefix, f"fleets/{parse_fleet_id(fleet)}/")
    except ValueError as error:
        raise Refused("an id of a fleet's incident", str(error), "Copy it from the run that opened it.") from error
    listed = list(islice(root.list(home), _MOST))
    if not listed:
        raise Refused(
            f"an incident {fleet} of a fleet in {root.place}", "no object of it", "Check the id and the store."
        )
    found, unread = read_each(root, {each.key: min(each.size, DOCUMENT_LIMIT) for each in listed})

    def own(key: str) -> str:
        return f"fleets/{fleet}/{key.removeprefix(home)}"

    return {own(key): data for key, data in found.items()}, [replace(each, object=own(each.object)) for each in unread]


def _host(root: Store, line: HostLine, opened_at: datetime | None, signers: Signers, roots: Roots) -> _HostAudit:
    """Compare a host's closing and manifests with what the fleet's record says of them."""
    if line.closing is None:
        return _HostAudit(())
    if line.beneath is None:
        host, incident = printable(line.host, 80), printable(line.incident, 80)
        what = f"the evidence of {host} is in another place: audit {incident} there"
        return _HostAudit((unclear(line.closing.key, what),))
    try:
        found, closing = _compare_host(root, line, line.closing, line.beneath, signers, roots)
    except (StoreError, Unreadable) as error:
        where = key_at(line.beneath, line.closing.key)
        return _HostAudit((broken(where, "it could not be read", got=printable(error)),))
    stray = _stray(key_at(line.beneath, line.closing.key), line, closing, opened_at) if closing else ()
    return replace(found, findings=(*found.findings, *stray))


def _stray(where: str, line: HostLine, closing: Closing, opened_at: datetime | None) -> Iterator[AuditFinding]:
    """Yield a finding if a closing is not of what this fleet has ordered: by its run, else by its host's clock."""
    at = closing.closed_utc
    if not line.joined:
        if closing.run != line.run:
            got = printable(closing.run, 80)
            yield broken(where, "it is of another run than the fleet's order", printable(line.run, 80), got)
    elif opened_at and (at.tzinfo is None or opened_at.tzinfo is None or at < opened_at):
        yield broken(where, "it is older than the fleet's incident", f"later than {opened_at}", str(at))


def _compare_host(  # noqa: PLR0913, PLR0917  what is compared, and by what
    root: Store, line: HostLine, recorded: ClosingOfHost, beneath: str, signers: Signers, roots: Roots
) -> tuple[_HostAudit, Closing | None]:
    listed = {each.key: each.size for each in root.list(key_at(beneath, f"incidents/{line.incident}/record/"))}
    layout = layout_of(line.incident, [key.removeprefix(f"{beneath}/") for key in listed])
    number = next((each for each in layout.records if layout.closing(each) == recorded.key), 0)
    only = replace(layout, volumes=(), records=(number,) if number else ())
    names = [f"{key}{end}" for key in only.signed_keys for end in ("", SIGNATURE, STAMP)]
    names = [name for name in names if key_at(beneath, name) in listed]
    documents = {name: fetch(root, key_at(beneath, name), DOCUMENT_LIMIT) for name in names}
    where = key_at(beneath, recorded.key)
    got = digest_bytes(documents[recorded.key]) if recorded.key in documents else "no object"
    if got != recorded.sha256:
        return _HostAudit((broken(where, "not the closing that the fleet's record names", recorded.sha256, got),)), None
    closing = read_closing(documents[recorded.key])
    named = {recorded.key: closing.signer.fingerprint} if closing.signer else {}
    signers, rotated = with_rotations(root, hosts_of(documents), signers, roots, beneath)
    seen = seen_times([recorded.key], documents, roots, {})
    signed = signatures(only, documents, documents, signers, named, {}, seen)
    findings = [*rotated, *(replace(each, object=key_at(beneath, each.object)) for each in signed.findings)]
    if signed.by_people:
        findings.append(unclear(where, "persons have signed it, and may say more than its host: audit it"))
    if (closing.incident, str(closing.verdict)) != (line.incident, recorded.verdict):
        findings.append(broken(where, "it says other than the fleet's record", recorded.verdict, str(closing.verdict)))
    manifests = {f"incidents/{line.incident}/{path}": sha256 for path, sha256 in closing.manifests.items()}
    if manifests != line.manifests:
        findings.append(broken(where, "it names other manifests than the fleet's record"))
    if number < (last := max(layout.records)):
        findings.append(_later(root, where, key_at(beneath, record_key(line.incident, last, CLOSING)), closing))
    size = sum(map(len, documents.values()))
    for key, sha256 in manifests.items():
        promise = Promise(key_at(beneath, key), sha256, None, where)
        there = see(root, promise, None, deep=False)
        size += there.size
        findings += [fault] if (fault := check_promise(promise, there)) else []
    return _HostAudit(tuple(findings), signed, len(documents) + len(manifests), size), closing


def _later(root: Store, where: str, key: str, closing: Closing) -> AuditFinding:
    """Tell that a host's incident was carried on: no longer what the fleet's record says, if its last closing differs.

    That one is not proven here, so it can only take away from what the record says.
    """
    what = "its incident was carried on later"
    try:
        last = str(read_closing(fetch(root, key, DOCUMENT_LIMIT)).verdict)
    except (StoreError, Unreadable) as error:
        return unclear(where, f"{what}, and its last record is not closed: audit it", got=printable(error))
    if last != closing.verdict:
        return unclear(where, f"{what}, and ended otherwise: audit it", str(closing.verdict), last)
    return note(where, f"{what}, and ended in the same way: audit it to see how it stands")


def _whole(fields: StoreFields, line: HostLine, signers: Sequence[AllowedSigner] | None, roots: Roots) -> _HostAudit:
    """Audit a host's whole incident, reading every byte of it."""
    place = {"folder": Path(fields.folder, line.beneath or "")} if fields.folder else {"prefix": line.beneath}
    try:
        found = verify_incident(fields.model_copy(update=place).open(), line.incident, signers, roots, deep=True)
    except EvacuationError as error:
        where = key_at(line.beneath or "", line.incident)
        return _HostAudit((broken(where, "it could not be audited", got=str(error)),))
    findings = tuple(replace(each, object=key_at(line.beneath or "", each.object)) for each in found.findings)
    return _HostAudit(findings, None, found.objects, found.size)
