"""Follow the rotations of signing keys: a closing by a key that is allowed for a host names the host's next key."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, TypeAlias

from tasks.custody.audit.finding import AuditFinding, note, printable
from tasks.custody.audit.layout import SIGNATURE
from tasks.custody.audit.signers import AllowedSigner, read_signers
from tasks.custody.audit.timed import seen_at
from tasks.custody.audit.untrusted import Unreadable, document, validate
from tasks.custody.errors import BadSignature, Refused
from tasks.custody.evidence.keys import CLOSING, STAMP
from tasks.custody.incident.incident import principal_of
from tasks.custody.store.signature import PublicKey, signer, signer_line
from tasks.custody.store.timestamp import Roots

Signers: TypeAlias = Sequence[AllowedSigner] | None
"""Who may sign, by the lines of the auditor; None if none were given."""

SIGNED: Final = f"{CLOSING}{SIGNATURE}"

_HOST: Final = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class KeyClosing:
    """closing.json of a key: the host's `next_key`, as in a .pub file, counts from `closed_utc` on."""

    host: str
    closed_utc: datetime
    next_key: str

    @property
    def line(self) -> AllowedSigner:
        """The line for the next key. Raises Unreadable or Refused if it is no key of one host."""
        if not _HOST.fullmatch(self.host) or self.closed_utc.tzinfo is None or len(self.next_key.splitlines()) != 1:
            raise Unreadable("one host, a time with its zone, and one key", printable(self, 120))
        (line,) = read_signers(signer_line(principal_of(self.host), self.next_key))
        return replace(line, after=self.closed_utc)


def with_successors(
    signers: Sequence[AllowedSigner], documents: Mapping[str, bytes], roots: Roots
) -> tuple[list[AllowedSigner], list[AuditFinding]]:
    """Add a line for each key that an allowed one has named, in the order of their times; note what is not believed.

    `documents` are all objects of rotations, by key. A key that the auditor's own file names is judged by that alone.
    One that is revoked names another only if an authority is proven to have seen its signature before.
    """
    lines, own, findings = [*signers], {each.key for each in signers}, list[AuditFinding]()
    closed = list[tuple[datetime, str, AllowedSigner, PublicKey]]()
    for key in (key for key in documents if key.endswith(f"/{CLOSING}")):
        try:
            closing = validate(KeyClosing, document(documents[key]))
            by = signer(documents.get(f"{key}{SIGNATURE}", b""), documents[key])
            closed.append((closing.closed_utc, key, closing.line, by))
        except (Unreadable, Refused, BadSignature) as error:
            findings.append(note(key, "it names no key, and counts for nothing", error.expected, printable(error.got)))
    for at, key, line, by in sorted(closed, key=lambda each: each[:2]):
        names = f"names {line.key.fingerprint} as the next key of {line.principals}, from {at}"
        if line.key in own:
            continue
        seen = seen_at(documents.get(f"{key}{SIGNATURE}{STAMP}", b""), documents[f"{key}{SIGNATURE}"], roots)
        theirs = (each for each in lines if each.key == by and each.may_sign(at) and not each.is_revoked(seen))
        if any(each.stands_for(line.principals) for each in theirs):
            lines.append(line)
            findings.append(note(key, f"{by.fingerprint} {names}"))
        else:
            what = f"it {names}, and counts for nothing: its own signer is not allowed for that, or revoked"
            got = f"{by.fingerprint}, seen by an authority at {seen or 'no time'}"
            findings.append(note(key, what, line.principals, got))
    return lines, findings
