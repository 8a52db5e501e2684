"""§6 by an auditor: prove a past incident from its store alone, without trusting this project or the host."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from blocks.port import Store, Versioned
from tasks.custody.audit.examine import Examination, examine
from tasks.custody.audit.facts import Facts, read_facts
from tasks.custody.audit.finding import Audit, AuditFinding, Severity, broken, note, printable, unclear
from tasks.custody.audit.layout import Layout, listings
from tasks.custody.audit.promise import Promise, check_promise
from tasks.custody.audit.records import displaced_keys
from tasks.custody.audit.retained import Retained
from tasks.custody.audit.signers import AllowedSigner
from tasks.custody.audit.turns import turns_hold
from tasks.custody.audit.untrusted import Unreadable
from tasks.custody.errors import Refused, StoreError
from tasks.custody.evidence.keys import TURNS, beside_key, turn_of
from tasks.custody.incident.incident import parse_id
from tasks.custody.store.latest import LatestTransaction
from tasks.custody.store.manifest import digest_bytes
from tasks.custody.store.timestamp import Roots
from tasks.latest.history import read_transaction
from tasks.storage.rotations import hosts_of, with_rotations
from tasks.storage.untrusted_reads import keys_of, read_documents, read_each, see
from tasks.system.parallel import QUESTIONS, THREADS, side_by_side

_TURNS_READ: Final = 1000
_NEVER: Final = (
    "That what was collected is what was there: an intruder with root on the host could have shown something else.",
    "That no run came after the last record: with the right to delete in the store, the end could have been removed.",
)


def verify_incident(
    store: Store, incident: str, signers: Sequence[AllowedSigner] | None, roots: Roots = None, *, deep: bool
) -> Audit:
    """Read everything of the incident once, and compare each object with what its documents say.

    `signers` may sign, `roots` vouch for who stamps the time.
    Raises Refused if there is no such incident, StoreError if the store cannot be listed.
    """
    layout, keys, cut = keys_of(store, parse_id(incident))
    if not keys:
        raise Refused(f"an incident {incident} in {store.place}", "no object of it", "List them: leave the id out.")
    documents, troubles = read_documents(store, layout, keys)
    away = _read_displaced(store, layout, keys, documents)
    read = {key: digest_bytes(data) for key, data in documents.items() if key not in away}
    documents |= away
    signers, rotated = with_rotations(store, hosts_of(documents), signers, roots)
    found = examine(layout, keys, documents, signers, roots)
    del documents
    origin = found.origin
    versions, hidden = _versions(store, layout, found.turns)
    tally = _compare_objects(store, read, found, deep=deep)
    findings = [
        *cut,
        *troubles,
        *rotated,
        *found.findings,
        *tally.findings,
        *tally.retained.findings,
        *rewritten(versions),
        *hidden,
        *_turns(store, found.turns, layout.incident),
        *_latest(store, found.latest),
    ]
    whose = f"host {origin.host}, workload {origin.workload}" if origin.host else "nobody's by its documents"
    return Audit(
        incident=incident,
        whose=printable(whose),
        place=store.place,
        copy_of=printable(origin.place) if origin.place not in {"", store.place} else "",
        verdict=found.verdict,
        signed=found.signed.summary,
        timed=found.timed.summary,
        deep=deep,
        objects=tally.objects,
        size=tally.size,
        findings=tuple(sorted(dict.fromkeys(findings), key=lambda each: [*Severity].index(each.severity))),
        retained=tally.retained.summary,
        unproven=(
            *found.signed.unproven,
            found.timed.unproven,
            *tally.retained.unproven,
            *_unproven(found, versions, hidden=bool(hidden), deep=deep),
        ),
    )


def _read_displaced(
    store: Store, layout: Layout, keys: Mapping[str, int], documents: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Return the documents at whose keys other content lies, read beside them.

    Which these are the verdicts say; that each is what was sealed is compared with what vouches for it.
    """
    if not any(key.startswith(beside_key(layout.incident, "")) for key in keys):
        return {}
    facts = list[Facts]()
    for key in (key for key in map(layout.verdict, layout.records) if key in documents):
        with suppress(Unreadable):
            facts.append(read_facts(documents[key]))
    wanted = {key: beside for key, beside in displaced_keys(layout.incident, facts).items() if key in documents}
    found, _ = read_each(store, {beside: keys[beside] for beside in wanted.values() if beside in keys})
    return {key: found[beside] for key, beside in wanted.items() if beside in found}


@dataclass
class _Tally:
    """Results of comparing objects with their promises, added up one by one."""

    retained: Retained
    objects: int = 0
    size: int = 0
    findings: list[AuditFinding] = field(default_factory=list)


def _compare_objects(store: Store, read: Mapping[str, str], found: Examination, *, deep: bool) -> _Tally:
    """Compare every object that a document names, and every document that was read with what the store has now."""
    by_itself = {key: Promise(key, sha256, None, "what was read of it") for key, sha256 in read.items()}
    every, tally = {**by_itself, **found.promises}, _Tally(Retained(found.retention))
    threads = THREADS if deep else QUESTIONS
    for seen in side_by_side(lambda each: see(store, each, read.get(each.key), deep=deep), every.values(), threads):
        tally.objects += seen.there
        tally.size += seen.size
        if seen.there and not seen.trouble:
            tally.retained.add(seen)
        if fault := check_promise(every[seen.key], seen, found.admitted.get(seen.key, Severity.BROKEN)):
            tally.findings.append(fault)
    return tally


def _unproven(found: Examination, versions: Mapping[str, int] | None, *, hidden: bool, deep: bool) -> Iterator[str]:
    yield from _NEVER
    if not deep:
        yield "That the store returns the bytes whose digests it names: not every byte was read (deep does that)."
    if versions is None:
        why = "the store did not list its versions" if hidden else "the store keeps no versions of its objects"
        yield f"That nothing was overwritten and put back: {why}."
    if found.in_place:
        yield f"What lay before under the names of {len(found.in_place)} objects, which were sealed in place."


def rewritten(versions: Mapping[str, int] | None) -> Iterator[AuditFinding]:
    """Yield a finding for each object with a second version or a delete marker: objects are created once."""
    for key, times in (versions or {}).items():
        yield broken(key, "it was written or deleted again", "one version, created once", f"{times} versions and marks")


def _versions(
    store: Store, layout: Layout, turns: Collection[str]
) -> tuple[Mapping[str, int] | None, tuple[AuditFinding, ...]]:
    """Return how often each key was written; None without versions. A finding if the store cannot list them."""
    if not isinstance(store, Versioned):
        return None, ()
    found = dict[str, int]()
    try:
        for prefix in (*listings(layout.incident), *sorted(turns)):
            if (kept_there := store.count_versions(prefix)) is None:
                return None, ()
            found |= kept_there
    except StoreError as error:
        whole, got = f"incidents/{layout.incident}/", printable(error.got)
        return None, (unclear(whole, f"its versions could not be listed: {got}"),)
    return {key: times for key, times in found.items() if layout.owns(key) or key in turns}, ()


def _turns(store: Store, names: Collection[str], incident: str) -> Iterator[AuditFinding]:
    """Yield findings on turns of latest/. One that cannot be read is skipped; what records name is compared anyway."""
    turns = list[LatestTransaction]()
    for number in sorted({turn_of(each.key) for each in store.list(TURNS)} - {0})[-_TURNS_READ:]:
        with suppress(StoreError):
            turn = read_transaction(store, number)[0]
            turns.append(turn if turn.incident == incident else replace(turn, rows=()))  # they may be a million
    yield from turns_hold(incident, names, turns)


def _latest(store: Store, promoted: Mapping[str, str]) -> Iterator[AuditFinding]:
    """Yield a note for each file of latest/ that has changed since: later incidents and people may change it."""
    promises = [Promise(key, sha256, None, "") for key, sha256 in promoted.items()]
    for each in side_by_side(lambda promise: see(store, promise, None, deep=False), promises, QUESTIONS):
        if (digest := each.sha256 or each.read) != promoted[each.key]:
            got = digest or each.trouble or "no object"
            yield note(each.key, "latest/ no longer has what this incident promoted", promoted[each.key], got)
