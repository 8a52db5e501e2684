"""Parse verdict.json and check that its verdict follows from its receipts."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tasks.custody.audit.finding import AuditFinding, broken, printable, unclear
from tasks.custody.audit.untrusted import Unreadable, document, parse_json, validate
from tasks.custody.containment.cordon import Challenge
from tasks.custody.containment.pause import Pause
from tasks.custody.containment.receipt import Containment, Watch
from tasks.custody.evidence.acquisition import Evidence
from tasks.custody.evidence.coverage import attempts
from tasks.custody.evidence.keys import volume_folder
from tasks.custody.incident.incident import Incident
from tasks.custody.incident.verdict import Verdict, Word, judge, ways_in
from tasks.custody.store.latest import Promotion
from tasks.custody.store.manifest import Manifest
from tasks.custody.store.objects import Expected, all_objects, claim_object
from tasks.custody.store.receipts import ObjectReceipt

_SHOWN: Final = 3
_SEALED: Final = {Word.VERIFIED, Word.PARTIAL}


@dataclass(frozen=True)
class Facts:
    """The facts that a verdict is based on, as recorded; `carried_from` names the record that it was taken from."""

    incident: Incident
    run: str
    verdict: Verdict
    containment: Containment | None
    pause: Pause | None
    challenge: Challenge | None
    coverage: tuple[Evidence, ...]
    objects: tuple[ObjectReceipt, ...]
    promotion: Promotion | None
    watch: Watch | None
    place: str
    carried_from: str = ""

    @property
    def claim(self) -> Expected:
        """The claim that the incident must have made."""
        return claim_object(self.incident, self.place)

    @property
    def latest(self) -> tuple[ObjectReceipt, ...]:
        """Receipts of what latest/ got from this run."""
        return self.promotion.objects if self.promotion else ()

    @property
    def turns(self) -> dict[str, str]:
        """Digests, by key, of this run's transaction of latest/ and of the content that it kept."""
        turn = self.promotion and self.promotion.turn
        return turn.digests if turn else {}


def read_facts(data: bytes) -> Facts:
    """Parse verdict.json. Raises Unreadable."""
    found = validate(Facts, document(data))
    if found.incident.opened_at.tzinfo is None:
        raise Unreadable("the time zone of opened_at", printable(found.incident.opened_at, 80))
    return found


def read_coverage(data: bytes) -> tuple[Evidence, ...]:
    """Parse coverage.json of an evidence folder. Raises Unreadable."""
    return validate(tuple[Evidence, ...], attempts(parse_json(data)))


def verdict_holds(key: str, facts: Facts) -> Iterator[AuditFinding]:
    """Compare the verdict with one computed from its facts. It may be worse, if a step left no receipt, not better."""
    receipts = (*facts.objects, *facts.latest)
    ways = ways_in(facts.pause, facts.challenge, facts.watch)
    again = judge(facts.incident.id, facts.containment, facts.coverage, receipts, ways_in=ways)
    order, verdict = list(Word), facts.verdict
    if order.index(verdict.word) < order.index(again.word):
        reasons = printable("; ".join(again.missing[:_SHOWN])) or "no evidence at all"
        what = f"it claims {verdict.word}, and its own facts give {again.word}"
        yield broken(key, what, f"{again.word} ({reasons})", verdict.word)
    if verdict.word is Word.VERIFIED and verdict.missing:
        yield broken(key, "it claims VERIFIED and names what is missing", "nothing", printable(verdict.missing[0]))


def receipts_cover(key: str, facts: Facts, manifests: Mapping[int, Manifest]) -> Iterator[AuditFinding]:
    """Check that a VERIFIED or PARTIAL record has a receipt of the claim and of each object that the manifests name."""
    if facts.verdict.word not in _SEALED:
        return
    proven = {each.key: each.sha256 for each in facts.objects if each.proven or each.lost or each.beside}
    named = [item for each in manifests.values() for item in all_objects(each, facts.incident.snapshot)]
    if bare := [item.key for item in (facts.claim, *named) if proven.get(item.key) != item.sha256]:
        tell = unclear if facts.carried_from else broken
        what = f"it claims {facts.verdict.word} without a receipt of {len(bare)} objects"
        yield tell(key, what, "a receipt of every object", f"none of {printable(', '.join(bare[:_SHOWN]))}")


def coverage_holds(
    key: str,
    facts: Facts,
    manifests: Mapping[int, Manifest],
    sealed: Mapping[int, tuple[Evidence, ...]],
    closed: Collection[int | None],
) -> Iterator[AuditFinding]:
    """Check that the record keeps every attempt that was sealed by then: it may not change its outcome or leave it out.

    Only a repeated attempt replaces an earlier one, and in a VERIFIED or PARTIAL record its files are in a folder that
    the closing names: one of `closed`.
    """
    latest = {item.collector: item.volume for item in sorted(facts.coverage, key=lambda item: item.volume)}
    for item in (item for volume, each in sealed.items() if volume in manifests for item in each):
        if latest.get(item.collector, 0) < item.volume:
            what = f"it leaves out the attempt of {printable(item.collector)} that was sealed"
            yield broken(key, what, f"{_words(item)} in {volume_folder(item.volume)}/, or a later one", "none")
    earlier = {(item.collector, item.volume): item for each in sealed.values() for item in each}
    names = {volume: {file.stored for file in manifest.files} for volume, manifest in manifests.items()}
    for item in facts.coverage:
        before = earlier.get((item.collector, item.volume)) if item.volume in closed else None
        if before and _attempt(before) != _attempt(item):
            what = f"it tells the attempt of {printable(item.collector)} differently than the sealed coverage.json"
            yield broken(key, what, _words(before), _words(item))
        unsealed = item.volume not in closed and facts.verdict.word in _SEALED
        known = names.get(item.volume, () if unsealed else {file.stored for file in item.files})
        if gone := [file.stored for file in item.files if file.stored not in known]:
            what = f"it counts files of {printable(item.collector)} that no manifest names"
            yield broken(key, what, "files of the manifest", printable(", ".join(gone[:_SHOWN])))


def _attempt(item: Evidence) -> tuple[object, ...]:
    return item.outcome, item.needed, item.may_be_missing


def _words(item: Evidence) -> str:
    return f"{item.outcome}{', needed' if item.needed else ''}{', may be missing' if item.may_be_missing else ''}"
