"""Check the signature of each manifest and closing, in ssh-keygen's format.

See docs/adr/0016.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from tasks.custody.audit.finding import AuditFinding, Severity, broken, note, printable, unclear
from tasks.custody.audit.layout import SIGNATURE, Covers
from tasks.custody.audit.signers import AllowedSigner
from tasks.custody.audit.untrusted import parse_time
from tasks.custody.errors import BadSignature
from tasks.custody.incident.incident import principal_of
from tasks.custody.store.manifest import digest_bytes
from tasks.custody.store.signature import PublicKey, signer

_TIME: Final = re.compile(rb'^  "(?:closed_utc|generated_utc)": "([^"]*)",?$', re.MULTILINE)
"""The place of the time in canonical JSON; other spellings are reported as broken."""
_HOST: Final = re.compile(rb'^  "host": "([^"]*)",?$', re.MULTILINE)
_NOBODY: Final = "Who made this: it is unsigned, and anybody who may write to the store could have made all of it."
_NOT_VOUCHED: Final = (
    "Whose the signing key is: no allowed signers were given, so each signature vouches for itself alone."
)


class SignedDocuments(Protocol):
    """The signed documents of an incident, of a host or of a fleet."""

    @property
    def home(self) -> str:
        """The prefix of them all."""

    @property
    def signed_keys(self) -> tuple[str, ...]:
        """Their keys."""


@dataclass(frozen=True)
class Hand:
    """The key that signed a document, and its owner by the allowed signers; empty if they do not name it for that.

    `wanted` is who should have signed, `people` whether persons have, `until` when the key was revoked.
    """

    key: PublicKey
    owner: str
    wanted: str = ""
    people: bool = False
    until: datetime | None = None

    def __str__(self) -> str:
        """Return owner and fingerprint."""
        return f"{self.owner} ({self.key.fingerprint})" if self.owner else self.key.fingerprint


@dataclass(frozen=True)
class Signatures:
    """What an incident's signatures prove. `by_people` are the keys of the documents that persons have signed."""

    hands: tuple[Hand, ...]
    unsigned: tuple[str, ...]
    faults: tuple[AuditFinding, ...]
    vouched: bool
    unvouched: tuple[AuditFinding, ...] = ()
    by_people: frozenset[str] = frozenset()

    @property
    def findings(self) -> tuple[AuditFinding, ...]:
        """Findings on single documents, and on all of them."""
        return *self.faults, *self.unvouched

    @property
    def summary(self) -> str:
        """The signers, and whether they are allowed ones."""
        names = ", ".join(dict.fromkeys(printable(str(hand), 120) for hand in self.hands))
        if not names:
            return "not signed"
        words = f"signed by {names}" if self.vouched else f"signed by {names}, a key that nobody vouched for"
        if self.unsigned or any(each.severity is not Severity.NOTE for each in self.faults):
            return f"{words}, but not everywhere"
        return f"{words}; what was left unsigned, later signatures cover" if self.faults else words

    @property
    def unproven(self) -> tuple[str, ...]:
        """What the signatures do not prove."""
        if not self.hands:
            return (_NOBODY,)
        if not self.vouched:
            return (_NOT_VOUCHED,)
        return ("That only its owner could use the signing key.",)


def signatures(  # noqa: PLR0913, PLR0917  all that says who signed what
    layout: SignedDocuments,
    keys: Mapping[str, object],
    documents: Mapping[str, bytes],
    signers: Sequence[AllowedSigner] | None,
    named: Mapping[str, str],
    covers: Covers,
    seen: Mapping[str, datetime],
) -> Signatures:
    """Check each signature; without `signers` only against the key in the signature, which does not prove its owner.

    `named` are the fingerprints of the signers that closings name, by key. `covers` are, by a closing's key, the
    documents that it covers: sealed, signed or unsigned, key, digest. `seen` is when an authority saw each document.
    """
    hands, unsigned, findings, good = dict[str, Hand](), list[str](), list[AuditFinding](), list[str]()
    doubtful, stay = dict[str, list[AuditFinding]](), list[AuditFinding]()
    for key in (key for key in layout.signed_keys if key in documents):
        beside = f"{key}{SIGNATURE}"
        if beside not in keys:
            unsigned.append(key)
        elif beside in documents:
            try:
                found = signer(documents[beside], documents[key])
            except BadSignature as error:
                what = f"it and its {SIGNATURE} do not belong together: one of them was changed"
                doubtful[key] = [broken(key, what, error.expected, printable(error.got))]
            else:
                hands[key] = _hand(found, documents[key], signers, seen.get(key))
                faults = [*_check_trust(key, hands[key], signers, named.get(key, found.fingerprint))]
                if date := hands[key].until:
                    finding = _revocation(key, date, seen.get(key))
                    (stay if finding.severity is Severity.NOTE else faults).append(finding)
                if faults:
                    doubtful[key] = faults
                elif not hands[key].people:  # persons vouch for nothing that a host has made
                    good.append(key)
    covered = _covering_closings([*unsigned, *doubtful], documents, good, covers)
    findings += [each for key, faults in doubtful.items() if key not in covered for each in faults]
    bare = (*unsigned, *covered.keys() & doubtful)
    findings += [_bare(key, named.get(key, ""), covered.get(key, "")) for key in bare]
    unsigned = [key for key in unsigned if key not in covered]
    hands = {key: hand for key, hand in hands.items() if key not in covered}
    by_people = frozenset(key for key, hand in hands.items() if hand.people)
    unvouched = tuple(_check_vouching(layout.home, [*hands.values()]) if signers is None else stay)
    vouched = signers is not None
    return Signatures(tuple(hands.values()), tuple(unsigned), tuple(findings), vouched, unvouched, by_people)


def _covering_closings(
    unsigned: Sequence[str], documents: Mapping[str, bytes], good: Sequence[str], covers: Covers
) -> dict[str, str]:
    """Return the signed closing that covers each unsigned document: itself, or by closings that it covers."""
    bare = {("unsigned", key, digest_bytes(documents[key])) for key in unsigned}
    covered, pending = dict[str, str](), [(key, key) for key in good]
    while pending:
        by, root = pending.pop()
        fresh = [key for _, key, _ in bare.intersection(covers.get(by, ())) if key not in covered]
        covered |= dict.fromkeys(fresh, root)
        pending += [(key, root) for key in fresh]
    return covered


def _bare(key: str, named: str, by: str) -> AuditFinding:
    if by:
        return note(key, f"it was not signed itself: {by}, which was signed later, vouches for its digest")
    if named:
        return unclear(key, f"it names {printable(named, 80)} as its signer, and has no signature", SIGNATURE, "none")
    cure = f"{SIGNATURE}, or a signed closing of a later run (carry the incident on with the signing key)"
    return unclear(key, "it is not signed", cure, "none")


def _check_vouching(incident: str, hands: Sequence[Hand]) -> Iterator[AuditFinding]:
    """Yield a finding if no allowed signers are given: anybody can sign with a key of their own."""
    keys = dict.fromkeys(hand.key.fingerprint for hand in hands)
    if keys:
        yield unclear(incident, "nobody vouches for the key that signed it", "allowed signers", "none were given")
    if len(keys) > 1:
        yield unclear(incident, "its documents are signed by several keys", "one key", printable(", ".join(keys)))


def _hand(key: PublicKey, data: bytes, signers: Sequence[AllowedSigner] | None, seen: datetime | None) -> Hand:
    """Return who signed a document, by the host that it names: a host signs for itself alone."""
    # the time is for ssh-keygen's verify-time: only its signer vouches for it
    at = parse_time(stated[1].decode(errors="backslashreplace")) if (stated := _TIME.search(data)) else None
    host = found[1].decode(errors="replace") if (found := _HOST.search(data)) else ""
    lines = [each for each in signers or () if each.key == key and each.may_sign(at)]
    wanted = principal_of(host)
    ours = [each for each in lines if each.stands_for(wanted)]
    persons = [each for each in lines if each.is_people]
    line = min(ours or persons, key=lambda each: (each.is_revoked(seen), each.before is not None), default=None)
    if line is None:
        return Hand(key, "", wanted)
    return Hand(key, wanted if ours else line.principals, wanted, people=not ours, until=line.before)


def _check_trust(key: str, hand: Hand, signers: Sequence[AllowedSigner] | None, named: str) -> Iterator[AuditFinding]:
    if signers is not None and not hand.owner:
        lines = (each for each in signers if each.key == hand.key)
        owners = (f"{each.principals}, until {each.before}" if each.before else each.principals for each in lines)
        got = f"{printable(', '.join(owners) or 'nobody', 120)} ({hand.key.fingerprint})"
        what = "it is signed by a key that the allowed signers do not name for this"
        yield broken(key, what, printable(hand.wanted, 120), got)
    if hand.key.fingerprint != named:
        yield broken(key, "it is signed by another key than it names", printable(named, 80), hand.key.fingerprint)


def _revocation(key: str, date: datetime, seen: datetime | None) -> AuditFinding:
    what = f"its signer's key was revoked from {date} on"
    if seen and seen <= date:
        return note(key, f"{what}, and it stays: an authority saw it at {seen}")
    expected = "a proven time stamp before that, of it or of a closing that covers it"
    return unclear(key, f"{what}, and it is not proven to be older", expected, str(seen or "none"))
