"""Compare what an incident's documents say about its objects with the objects themselves."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from tasks.custody.audit.finding import AuditFinding, Severity, broken, note, printable, unclear
from tasks.custody.evidence.part_sizes import contradicts


@dataclass(frozen=True)
class Promise:
    """An object as a document describes it. `size` is None if the document gives a digest only.

    `composite` is the digest by parts that a store reports if it received the manifest's parts; empty without parts.
    """

    key: str
    sha256: str
    size: int | None
    by: str
    composite: str = ""


@dataclass(frozen=True)
class Seen:
    """An object as the store has it. `sha256` is the store's digest, `read` the digest of its bytes read back.

    `composite` is the store's digest by parts. Digests that are not available are None; `trouble` says why an object
    could not be read. Retention is as the store reports it.
    """

    key: str
    there: bool
    size: int = 0
    sha256: str | None = None
    read: str | None = None
    trouble: str = ""
    retained_until: datetime | None = None
    held: bool = False
    lock: str = ""
    composite: str = ""


@dataclass
class Book:
    """Promises by key, and findings on documents that contradict each other."""

    promises: dict[str, Promise] = field(default_factory=dict)
    findings: list[AuditFinding] = field(default_factory=list)

    def add(self, promises: Iterable[Promise]) -> None:
        """Add promises; the first for a key is kept."""
        for promise in promises:
            first = self.promises.setdefault(promise.key, promise)
            if first.sha256 != promise.sha256:
                what = f"{first.by} and {promise.by} name different digests of it"
                self.findings.append(broken(promise.key, what, first.sha256, promise.sha256))


def check_promise(promise: Promise, seen: Seen, admitted: Severity = Severity.BROKEN) -> AuditFinding | None:
    """Compare one object with its promise; returns a finding, or None if they agree.

    `admitted` is less severe than BROKEN if the record itself does not report the object as proven.
    """
    if not seen.there:
        what = f"{promise.by} names it, and it is not in the store"
        message = what if admitted is Severity.BROKEN else f"{what}, as the record says itself"
        message = f"{message}: its host still has to send it" if admitted is Severity.UNSENT else message
        return AuditFinding(admitted, promise.key, message, promise.sha256, "no object")
    if seen.trouble:
        return unclear(promise.key, "it could not be read", promise.sha256, printable(seen.trouble))
    for got, how in ((seen.sha256, "by the store's own digest"), (seen.read, "by the bytes that were read back")):
        if got not in {None, promise.sha256}:
            return broken(promise.key, f"not what {promise.by} names, {how}", promise.sha256, str(got))
    if promise.size not in {None, seen.size}:
        return broken(promise.key, f"not the size that {promise.by} names", str(promise.size), str(seen.size))
    return _by_parts(promise, seen)


def _by_parts(promise: Promise, seen: Seen) -> AuditFinding | None:
    """Judge the store's digest by parts if it has none of the whole."""
    agrees = seen.composite != "" and seen.composite == promise.composite
    if seen.sha256 is None and seen.read is None and not agrees:
        return unclear(promise.key, "the store has no digest of it, and it was not read", promise.sha256, "none")
    if contradicts(promise.composite, seen.composite):
        what = "it was not taken in the parts that the manifest names; its bytes are right"
        return note(promise.key, what, promise.composite, printable(seen.composite))
    return None


def move_displaced(
    promises: Mapping[str, Promise], displaced: Mapping[str, str]
) -> tuple[dict[str, Promise], list[AuditFinding]]:
    """Return the promises with those of displaced objects at the keys beside them, and a note for each."""
    ours = {key for key, beside in displaced.items() if key in promises and beside.endswith(f"/{promises[key].sha256}")}
    placed = (replace(each, key=displaced[key]) if key in ours else each for key, each in promises.items())
    what = "other content lies here, as the record says; what was sealed is compared beside it"
    notes = [note(key, what, displaced[key], "other content") for key in sorted(ours)]
    return {each.key: each for each in placed}, notes


def find_unnamed(keys: Iterable[str], named: Collection[str]) -> Iterator[AuditFinding]:
    """Yield a note for each object that no document names: somebody added it, and nobody vouches for it.

    What the documents do name is proven without it.
    """
    for key in keys:
        if key not in named:
            yield note(printable(key), "no document of the incident names it: nobody vouches for this object")
