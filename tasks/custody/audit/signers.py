"""Parse ssh-keygen's allowed_signers file: the signers that an auditor trusts (ssh-keygen(1)).

See docs/adr/0047.
"""

import base64
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tasks.custody.errors import Refused
from tasks.custody.store.signature import NAMESPACE, PublicKey

_WORD: Final = re.compile(r'(?:[^\s"]|"[^"]*")+')
_OPTION: Final = re.compile(r'([a-z-]+)="?([^"]*)"?', re.IGNORECASE)
_KEY: Final = re.compile(r"(?:ssh|ecdsa|sk)-[A-Za-z0-9@.-]+")
_WILD: Final = {"*": ".*", "?": "."}
_STAMPS: Final = ("%Y%m%d", "%Y%m%d%H%M", "%Y%m%d%H%M%S")


@dataclass(frozen=True)
class AllowedSigner:
    """One line: who may sign with which key, for which namespaces, and when.

    `principals` is a list of patterns, as in evacuation@gpu1 or people@example.net. `before` is when it was revoked.
    """

    principals: str
    key: PublicKey
    namespaces: str = "*"
    after: datetime | None = None
    before: datetime | None = None

    def may_sign(self, at: datetime | None, namespace: str = NAMESPACE) -> bool:
        """Return whether this key may sign our documents at the time that the document states."""
        if not _matches(namespace, self.namespaces):
            return False
        if at is None:
            return self.after is None and self.before is None
        return (self.after is None or self.after <= at) and (self.before is None or at <= self.before)

    def is_revoked(self, seen: datetime | None) -> bool:
        """Return whether the key was revoked, and no authority is proven to have seen before what it has signed."""
        return self.before is not None and (seen is None or seen > self.before)

    def stands_for(self, principal: str) -> bool:
        """Return whether the line is one of this principal."""
        return _matches(principal, self.principals)

    @property
    def is_people(self) -> bool:
        """Whether the line is one of persons, who make no evidence."""
        return all(each.startswith("people@") for each in self.principals.split(","))


def _matches(name: str, patterns: str) -> bool:
    """Match an ssh pattern list: a negated pattern outranks the others."""
    each = patterns.split(",")
    refused = any(_like(name, one[1:]) for one in each if one.startswith("!"))
    return not refused and any(_like(name, one) for one in each if not one.startswith("!"))


def _like(name: str, pattern: str) -> bool:
    """Match an ssh pattern, in which only * and ? are special."""
    signs = (_WILD.get(sign, re.escape(sign)) for sign in re.sub(r"\*+", "*", pattern))
    return re.fullmatch("".join(signs), name, re.DOTALL) is not None


def read_signers(text: str) -> tuple[AllowedSigner, ...]:
    """Parse every line of the file. Raises Refused for options that are not supported."""
    lines = map(str.strip, text.splitlines())
    return tuple(_signer(line) for line in lines if line and not line.startswith("#"))


def _signer(line: str) -> AllowedSigner:
    principals, *rest = _WORD.findall(line) or [""]
    options = [] if rest and _KEY.fullmatch(rest[0]) else rest[:1]
    kind, blob, *_ = [*rest[len(options) :], "", ""]
    pairs = list[tuple[str, str]]()
    for option in re.findall(r'(?:[^,"]|"[^"]*")+', options[0]) if options else ():
        match = _OPTION.fullmatch(option)
        pairs.append((match[1].lower(), match[2]) if match else (option, ""))
    values = dict(pairs)
    if "!" in principals or len(values) != len(pairs):
        raise _refusal(line, "with ! in the name" if "!" in principals else "with an option given twice")
    others = values.keys() - {"namespaces", "valid-after", "valid-before"}
    if not _KEY.fullmatch(kind) or others or not _is_key(kind, blob):
        raise _refusal(line)
    when = (_time(values[name], line) if name in values else None for name in ("valid-after", "valid-before"))
    return AllowedSigner(principals.strip('"'), PublicKey(f"{kind} {blob}"), values.get("namespaces", "*"), *when)


def _is_key(kind: str, blob: str) -> bool:
    """Return whether the base64 is a key of that kind, whose name it begins with (RFC 4253 §6.6)."""
    try:
        content = base64.b64decode(blob, validate=True)
    except ValueError:
        return False
    return content[4 : 4 + len(kind)] == kind.encode() and int.from_bytes(content[:4], "big") == len(kind)


def _time(text: str, line: str) -> datetime:
    """Parse a date, with or without time, in local time, or in UTC if it ends in Z."""
    stamp = text.removesuffix("Z")
    form = next((form for form in _STAMPS if len(stamp) == len(datetime(2000, 1, 1, tzinfo=UTC).strftime(form))), "")
    try:
        naive = datetime.strptime(stamp, form)  # noqa: DTZ007  the zone is set in the next line
    except ValueError as error:
        raise _refusal(line) from error
    return naive.replace(tzinfo=UTC) if text.endswith("Z") else naive.astimezone()


def _refusal(line: str, why: str = "") -> Refused:
    expected = "lines of ssh-keygen's allowed_signers, with namespaces, valid-after and valid-before alone"
    return Refused(expected, f"{line[:120]!r}{why and f' {why}'}", "As in: evacuation@gpu1 ssh-ed25519 AAAA…")
