"""Apply all rules of an audit to the documents of one incident."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from tasks.custody.audit.chain import chain
from tasks.custody.audit.facts import coverage_holds, read_coverage, read_facts, receipts_cover, verdict_holds
from tasks.custody.audit.finding import AuditFinding, Severity, broken, note, printable, unclear
from tasks.custody.audit.layout import SIGNATURE, Layout, gaps
from tasks.custody.audit.origin import origin_of, origins_agree, people_hold
from tasks.custody.audit.promise import Book, Promise, find_unnamed, move_displaced
from tasks.custody.audit.records import (
    RecordOf,
    admitted_objects,
    closing_holds,
    covers,
    displaced_keys,
    find_unclosed,
    is_unfinished,
    named_signers,
    promises_of,
    restate_verdict,
    retentions_agree,
    strongest_retention,
    volume_of,
    vouched_manifests,
)
from tasks.custody.audit.retained import RequiredRetention
from tasks.custody.audit.signed import Signatures, signatures
from tasks.custody.audit.signers import AllowedSigner
from tasks.custody.audit.stated import statement_holds
from tasks.custody.audit.timed import TimeStamps, may_lie_beside, seen_times, time_stamps
from tasks.custody.audit.untrusted import DocumentReader, Unreadable, read_closing, read_manifest
from tasks.custody.evidence.acquisition import Evidence
from tasks.custody.evidence.keys import SEGMENT, claim_key, record_key, snapshot_folder, volume_folder
from tasks.custody.incident.incident import Origin
from tasks.custody.store.manifest import Manifest
from tasks.custody.store.objects import Expected, all_objects
from tasks.custody.store.timestamp import Roots


@dataclass(frozen=True)
class Examination:
    """What the documents say: promises to compare with the objects, and findings on the documents themselves.

    `latest` is what latest/ got from this incident, digest by key; it may have changed since. `turns` are the keys that
    the records name of those transactions. `admitted` are objects that the record reports as not stored, `in_place` the
    keys of files sealed at their source. `origin` says whose the incident is.
    """

    promises: Mapping[str, Promise]
    findings: tuple[AuditFinding, ...]
    signed: Signatures
    timed: TimeStamps
    verdict: str
    latest: Mapping[str, str]
    turns: frozenset[str]
    admitted: Mapping[str, Severity]
    in_place: frozenset[str]
    retention: RequiredRetention | None
    origin: Origin


def examine(
    layout: Layout,
    keys: Mapping[str, object],
    documents: Mapping[str, bytes],
    signers: Sequence[AllowedSigner] | None,
    roots: Roots,
) -> Examination:
    """Judge the documents. `keys` are all keys of the incident, `documents` the content of those that were read.

    `signers` may sign; `roots` are those of time-stamp authorities.
    """
    reader = DocumentReader(documents)
    records = {number: _record(layout, number, reader, documents) for number in layout.records}
    planted = {*_find_planted(layout, documents, signers, records)}
    layout = replace(layout, volumes=tuple(each for each in layout.volumes if each not in planted))
    manifests = reader.read_each({volume: layout.manifest(volume) for volume in layout.volumes}, read_manifest)
    coverage = reader.read_each({volume: layout.coverage(volume) for volume in manifests}, read_coverage)
    book = Book()
    place = origin_of(records, {}).place
    for record in records.values():
        book.add(promises_of(layout, record, place))
    for volume, manifest in manifests.items():
        by = layout.manifest(volume)
        book.add(_promise_of(item, by) for item in all_objects(manifest, layout.snapshot))
    facts = [each.facts for _, each in sorted(records.items()) if each.facts]
    promises, displacements = move_displaced(book.promises, displaced_keys(layout.incident, facts))
    closings = {layout.closing(number): each.closing for number, each in records.items() if each.closing}
    covered = covers(layout, records, manifests, documents)
    seen = seen_times(closings, documents, roots, covered)
    signed = signatures(layout, keys, documents, signers, named_signers(layout, records), covered, seen)
    timed = time_stamps(closings, documents, roots)
    named = {*book.promises, *promises, *_exempt_keys(layout, keys, records, manifests), *may_lie_beside(closings)}
    findings = [
        *book.findings,
        *displacements,
        *reader.findings,
        *signed.findings,
        *timed.findings,
        *find_unclosed(layout, keys),
        *retentions_agree(layout, records),
        *origins_agree(layout, records, manifests),
        *people_hold(layout, records, signed.by_people),
        *(finding for record in records.values() for finding in _record_holds(layout, record, manifests, coverage)),
        *_volumes_hold(layout, keys, manifests, records),
        *_chain_holds(_without_unvouched(layout, keys, records), keys, documents, records),
        *find_unnamed(sorted(keys), named),
    ]
    in_place = frozenset(_in_place(layout, manifests))
    return Examination(
        promises=promises,
        findings=tuple(dict.fromkeys(findings)),
        signed=signed,
        timed=timed,
        verdict=restate_verdict(records),
        latest={receipt.key: receipt.sha256 for each in facts for receipt in each.latest},
        turns=frozenset(key for each in facts for key in each.turns),
        admitted=admitted_objects(records, in_place, promises),
        in_place=in_place,
        retention=strongest_retention(records),
        origin=origin_of(records, manifests),
    )


def _find_planted(
    layout: Layout, read: Mapping[str, bytes], signers: Sequence[AllowedSigner] | None, records: Mapping[int, RecordOf]
) -> Iterator[int]:
    """Yield evidence folders whose manifest no closing names and its host has not signed: anybody can add one."""
    loose = {*layout.volumes} - vouched_manifests(records) if any(each.closing for each in records.values()) else ()
    for volume in (each for each in loose if layout.manifest(each) in read):
        signed = signatures(replace(layout, volumes=(volume,), records=()), read, read, signers, {}, {}, {})
        with suppress(Unreadable):
            manifest, ours = read_manifest(read[layout.manifest(volume)]), origin_of(records, {})
            claims = (manifest.incident, manifest.volume, manifest.origin.host, manifest.origin.workload)
            belongs = claims == (layout.incident, volume, ours.host, ours.workload)
            if belongs and signed.hands and not (signed.faults or signed.by_people):
                continue
        yield volume


def _promise_of(item: Expected, by: str) -> Promise:
    return Promise(item.key, item.sha256, item.size, by, item.parts.composite if item.parts else "")


def _in_place(layout: Layout, manifests: Mapping[int, Manifest]) -> Iterator[str]:
    for manifest in manifests.values():
        there = {file.stored for file in manifest.files if file.in_place}
        yield from (item.key for item in all_objects(manifest, layout.snapshot) if item.stored_name in there)


def _record(layout: Layout, number: int, reader: DocumentReader, documents: Mapping[str, bytes]) -> RecordOf:
    closing = reader.read(layout.closing(number), read_closing)
    facts = reader.read(layout.verdict(number), read_facts)
    segment = documents.get(record_key(layout.incident, number, SEGMENT))
    return RecordOf(number, closing, facts, segment, documents.get(layout.statement(number)))


def _record_holds(
    layout: Layout, record: RecordOf, manifests: Mapping[int, Manifest], coverage: Mapping[int, tuple[Evidence, ...]]
) -> Iterator[AuditFinding]:
    yield from closing_holds(layout, record)
    if record.facts is None or record.closing is None:
        return
    key = layout.verdict(record.number)
    sealed = {volume_of(path) for path in record.closing.manifests}
    closed = {volume: manifest for volume, manifest in manifests.items() if volume in sealed}
    yield from verdict_holds(key, record.facts)
    yield from statement_holds(layout, record)
    yield from receipts_cover(key, record.facts, closed)
    yield from coverage_holds(key, record.facts, closed, coverage, sealed)


def _volumes_hold(
    layout: Layout, keys: Mapping[str, object], manifests: Mapping[int, Manifest], records: Mapping[int, RecordOf]
) -> Iterator[AuditFinding]:
    vouched = vouched_manifests(records)
    for volume in gaps(_without_unvouched(layout, keys, records).volumes):
        yield unclear(layout.manifest(volume), f"{volume_folder(volume)}/ is missing", "folders without a gap", "none")
    for volume in layout.volumes:
        key = layout.manifest(volume)
        if key not in keys and volume not in vouched:
            tell = note if any(each.closing for each in records.values()) else unclear
            what = f"{volume_folder(volume)}/ has no manifest, and no closing names one: nobody vouches for it"
            yield tell(key, what, "a manifest", "none")
        elif volume not in vouched:
            what = "no closing vouches for it: its run died, or the record was removed"
            yield unclear(key, what, "a closing", "none")
    for volume, manifest in manifests.items():
        got, expected = (manifest.incident, manifest.volume), (layout.incident, volume)
        if got != expected:
            what = "it is the manifest of something else"
            yield broken(layout.manifest(volume), what, str(expected), printable(got, 80))


def _without_unvouched(layout: Layout, keys: Mapping[str, object], records: Mapping[int, RecordOf]) -> Layout:
    """Return the layout without what nobody vouches for: folders without a manifest, what follows the last closing."""
    vouched, last = vouched_manifests(records), max((n for n, each in records.items() if each.closing), default=0)
    volumes = tuple(each for each in layout.volumes if each in vouched or layout.manifest(each) in keys)
    return replace(layout, volumes=volumes, records=tuple(each for each in layout.records if not last or each <= last))


def _chain_holds(
    layout: Layout, keys: Mapping[str, object], documents: Mapping[str, bytes], records: Mapping[int, RecordOf]
) -> Iterator[AuditFinding]:
    """Check the chain if all segments were read; an unread one has its own finding, as has one not yet sent."""
    segments = (layout.folder(volume) + SEGMENT for volume in sorted(vouched_manifests(records)))
    if is_unfinished(records) and (gone := [key for key in segments if key not in keys]):
        what = "the custody chain was not checked without this segment: its host still has to send it"
        yield AuditFinding(Severity.UNSENT, gone[0], what)
    elif unread := [key for key in layout.segments if key in keys and key not in documents]:
        yield unclear(unread[0], "the custody chain was not checked, because this segment could not be read")
    else:
        yield from chain({key: documents[key] for key in layout.segments if key in documents})


def _exempt_keys(
    layout: Layout, keys: Mapping[str, object], records: Mapping[int, RecordOf], manifests: Mapping[int, Manifest]
) -> Iterator[str]:
    """Yield keys that no document needs to name.

    These are the claim, closings, manifests, their signatures, and the content of folders whose own document is missing
    or unreadable, for which there is a finding already.
    """
    yield claim_key(layout.incident)
    for key in layout.signed_keys:
        yield key
        if key in keys:
            yield f"{key}{SIGNATURE}"
    open_folders = [record_key(layout.incident, number, "") for number, each in records.items() if each.closing is None]
    for volume in layout.volumes:
        if volume not in manifests:
            open_folders += [layout.folder(volume), snapshot_folder(layout.snapshot, volume)]
    yield from (key for key in keys if key.startswith(tuple(open_folders)))
