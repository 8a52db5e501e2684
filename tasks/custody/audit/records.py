"""Check each run's record: its closing against the closed files."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Final

from tasks.custody.audit.chain import last_verdict, signing_entries
from tasks.custody.audit.facts import Facts
from tasks.custody.audit.finding import AuditFinding, Severity, broken, note, printable, unclear
from tasks.custody.audit.layout import SIGNATURE, Layout, gaps
from tasks.custody.audit.promise import Promise
from tasks.custody.audit.retained import RequiredRetention
from tasks.custody.audit.untrusted import Closing
from tasks.custody.evidence.keys import CLOSING, MANIFEST, SEGMENT, VERDICT, beside_key, record_key, volume_folder
from tasks.custody.incident.verdict import Word
from tasks.custody.store.manifest import Manifest, digest_bytes
from tasks.custody.store.retention import NOTHING, Retention

NO_CLOSING: Final = "none: no run has closed a record that could be read"


@dataclass(frozen=True)
class RecordOf:
    """One record as far as it is readable; `closing` is None if the run did not write one.

    `statement` is the envelope beside the verdict, unread.
    """

    number: int
    closing: Closing | None
    facts: Facts | None
    segment: bytes | None
    statement: bytes | None = None


def volume_of(path: str) -> int | None:
    """Return the number of the evidence folder in a closing's path, such as evidence.2/manifest.json."""
    folder, _, name = path.partition("/")
    number = folder.removeprefix("evidence.") if folder.startswith("evidence.") else "1"
    known = name == MANIFEST and number.isdecimal() and len(number) < 4 and folder == volume_folder(int(number))  # noqa: PLR2004
    return (int(number) or None) if known else None


def promises_of(layout: Layout, record: RecordOf, place: str) -> Iterator[Promise]:
    """Yield what a closing says about objects, and what follows from the verdict beside it.

    `place` is that of the last closing. A run that meant another one made its claim there, or could not make it.
    """
    by = layout.closing(record.number)
    if record.closing:
        for name, sha256 in record.closing.files.items():
            yield Promise(record_key(layout.incident, record.number, name), sha256, None, by)
        for path, sha256 in record.closing.manifests.items():
            yield Promise(f"incidents/{layout.incident}/{path}", sha256, None, by)
        for path, sha256 in record.closing.postmortem.items():
            yield Promise(f"incidents/{layout.incident}/record/{path}", sha256, None, by)
    if facts := record.facts:
        verdict = layout.verdict(record.number)
        if facts.place == place:
            yield Promise(facts.claim.key, facts.claim.sha256, facts.claim.size, verdict)
        signatures = {f"{layout.manifest(volume)}{SIGNATURE}" for volume in layout.volumes}
        for receipt in facts.objects:
            if receipt.beside or (receipt.proven and receipt.key in signatures):
                yield Promise(receipt.key, receipt.sha256, receipt.size, verdict)
        for key, sha256 in facts.turns.items():
            yield Promise(key, sha256, None, verdict)


def named_signers(layout: Layout, records: Mapping[int, RecordOf]) -> dict[str, str]:
    """Return the fingerprint of the signer that each closing names, by the closing's key."""
    closings = {layout.closing(number): each.closing for number, each in records.items()}
    return {key: each.signer.fingerprint for key, each in closings.items() if each and each.signer}


def covers(
    layout: Layout, records: Mapping[int, RecordOf], manifests: Mapping[int, Manifest], documents: Mapping[str, bytes]
) -> dict[str, frozenset[tuple[str, str, str]]]:
    """Return what each closing covers, by its key: the manifests that it names, and what its custody segments tell of.

    Each is sealed, signed or unsigned, key and digest. Its segments are those whose digest is in the closing, or in a
    manifest whose digest is in the closing.
    """
    home = f"incidents/{layout.incident}/"
    entries = {
        (key, digest_bytes(data)): [(action, f"{home}{name}", sha256) for action, name, sha256 in signing_entries(data)]
        for key, data in ((key, documents[key]) for key in layout.segments if key in documents)
    }
    sealed = {
        (key := layout.manifest(volume), digest_bytes(documents[key])): _segment_of(layout, volume, manifest)
        for volume, manifest in manifests.items()
    }
    found = dict[str, frozenset[tuple[str, str, str]]]()
    for number, closing in ((number, each.closing) for number, each in records.items() if each.closing):
        named = [sealed.get((f"{home}{path}", sha256), ("", "")) for path, sha256 in closing.manifests.items()]
        segments = [(record_key(layout.incident, number, SEGMENT), closing.files.get(SEGMENT, "")), *named]
        named_manifests = [("sealed", f"{home}{path}", sha256) for path, sha256 in closing.manifests.items()]
        entries_of_segments = (one for each in segments for one in entries.get(each, ()))
        found[layout.closing(number)] = frozenset([*named_manifests, *entries_of_segments])
    return found


def _segment_of(layout: Layout, volume: int, manifest: Manifest) -> tuple[str, str]:
    sha256 = next((file.sha256 for file in manifest.files if file.stored == SEGMENT), "")
    return layout.folder(volume) + SEGMENT, sha256


def displaced_keys(incident: str, facts: Iterable[Facts]) -> dict[str, str]:
    """Return the keys at which other content lies, by the last record that tells, and those beside them."""
    found = dict[str, str]()
    for receipt in (receipt for each in facts for receipt in each.objects):
        found.pop(receipt.key, None)
        if receipt.beside == beside_key(incident, receipt.sha256):
            found[receipt.key] = receipt.beside
    return found


def admitted_objects(
    records: Mapping[int, RecordOf], in_place: frozenset[str], promised: Iterable[str] = ()
) -> dict[str, Severity]:
    """Return objects that no record reports as proven: lost for lack of room, or not sent yet.

    `in_place` are the keys of files sealed at their source; only these can be lost. Of the `promised` keys these are
    all that no record proves, other than those of records, if the incident is unfinished.
    """
    receipts = [receipt for each in records.values() if each.facts for receipt in each.facts.objects]
    proven = {receipt.key for receipt in receipts if receipt.proven}
    bare = {receipt.key: receipt.lost and receipt.key in in_place for receipt in receipts if receipt.key not in proven}
    unsent = [each for each in promised if each not in proven and "/record/" not in each]
    bare = {**(dict.fromkeys(unsent, False) if is_unfinished(records) else {}), **bare}
    return {key: Severity.NOTE if lost else Severity.UNSENT for key, lost in bare.items()}


def is_unfinished(records: Mapping[int, RecordOf]) -> bool:
    """Return whether the last closing says itself that the store was not proven to have all."""
    last = [each.closing.verdict for _, each in sorted(records.items()) if each.closing][-1:]
    return bool({*last} & {Word.UNVERIFIED, Word.NOT_CONTAINED})


def strongest_retention(records: Mapping[int, RecordOf]) -> RequiredRetention | None:
    """Return the strongest retention that a closing asks for: later runs that ask for less do not weaken it."""
    strongest = reduce(Retention.stronger, _retentions(records).values(), NOTHING)
    opened = [each.facts.incident.opened_at for each in records.values() if each.facts]
    return RequiredRetention(strongest, max(opened)) if strongest and opened else None


def _retentions(records: Mapping[int, RecordOf]) -> dict[int, Retention]:
    return {number: each.closing.retention or NOTHING for number, each in sorted(records.items()) if each.closing}


def retentions_agree(layout: Layout, records: Mapping[int, RecordOf]) -> Iterator[AuditFinding]:
    """Note runs of one incident that asked for different retentions."""
    retentions = _retentions(records)
    if len(set(retentions.values())) > 1:
        summary = "; ".join(f"record {number:03d}: {each.summary}" for number, each in retentions.items())
        last = layout.closing(max(retentions))
        yield note(last, f"its runs asked for different retentions, and the strongest counts: {printable(summary)}")


def find_unclosed(layout: Layout, keys: Mapping[str, object]) -> Iterator[AuditFinding]:
    """Yield findings for records without a closing and missing numbers: a run died, or somebody removed them."""
    if not layout.records:
        yield unclear(layout.closing(1), "no run has closed a record", "at least one record", "none")
    for number in gaps(layout.records):
        what = f"record {number:03d} is missing: its run died before it wrote anything, or it was removed"
        yield unclear(layout.closing(number), what, "records numbered without a gap", "none")
    for number in layout.records:
        if layout.closing(number) not in keys:
            folder = record_key(layout.incident, number, "")
            remaining = ", ".join(key.removeprefix(folder) for key in sorted(keys) if key.startswith(folder))
            what = "the record has no closing: its run died, or it was removed; nothing vouches for its files"
            yield unclear(layout.closing(number), what, CLOSING, printable(remaining))


def closing_holds(layout: Layout, record: RecordOf) -> Iterator[AuditFinding]:
    """Check that closing, verdict and custody segment agree."""
    key, closing, facts = layout.closing(record.number), record.closing, record.facts
    if closing is None:
        return
    pairs: list[tuple[str, object, object]] = [
        ("incident", layout.incident, closing.incident),
        ("record", record.number, closing.record),
    ]
    if facts:
        pairs += [
            ("incident of its verdict", layout.incident, facts.incident.id),
            ("host, workload or place of its verdict", facts.incident.origin(facts.place), closing.origin),
            ("verdict", facts.verdict.word, closing.verdict),
            ("run", facts.run, closing.run),
        ]
    if record.segment is not None:
        pairs.append(("verdict in the custody log", closing.verdict, last_verdict(record.segment)))
    for what, expected, got in pairs:
        if expected != got:
            yield broken(key, f"the {what} is another one", printable(expected, 80), printable(got, 80))
    for name in (VERDICT, SEGMENT):
        if name not in closing.files:
            yield broken(key, f"it does not vouch for {name}", "its digest", "none")
    for path in closing.manifests:
        if volume_of(path) is None:
            yield broken(key, "it vouches for what is no manifest of ours", f"evidence/{MANIFEST}", printable(path, 80))


def restate_verdict(records: Mapping[int, RecordOf]) -> str:
    """Return the verdict of the last closing, with its message."""
    for number, each in sorted(records.items(), reverse=True):
        if each.closing:
            details = f" (record/{number:03d}): {each.facts.verdict.message}" if each.facts else ""
            return printable(f"{each.closing.verdict}{details}", 600)
    return NO_CLOSING


def vouched_manifests(records: Mapping[int, RecordOf]) -> frozenset[int]:
    """Return the evidence folders whose manifest a closing names."""
    closings = [each.closing for each in records.values() if each.closing]
    return frozenset(volume for each in closings for path in each.manifests if (volume := volume_of(path)))
