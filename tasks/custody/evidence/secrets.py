"""Find secrets in the workload's own files, which stay byte for byte as they are. Places are told, never values.

Shapes that are nothing but a secret (a private key, an access key of a cloud), and what is assigned to a secret-looking
name or follows it. No measure of randomness: logs are full of digests and floats, and a list that cries wolf is not
read. Hostile text costs linear time: no pattern tries a letter more than once.
"""

import re
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from tasks.custody.evidence.redact import SECRET_WORD
from tasks.custody.evidence.token_shapes import ARMOUR, LETTERS, SHAPES

LIMIT: Final = 1 << 26
MOST: Final = 200
_BLOCK: Final = 1 << 20
_OVERLAP: Final = 1 << 12
# Control characters that no text has, besides NUL; a terminal's colours, bells and backspaces are text.
_CONTROL: Final = bytes({*range(1, 7), *range(14, 27), *range(28, 32), 127})
_RARE: Final = 50


@dataclass(frozen=True)
class Hit:
    """A line, counted from 1, and the rule that it fits. In a binary file lines mean little."""

    line: int
    rule: str


@dataclass(frozen=True)
class Search:
    """What was found in a file, by stored name, and what of it was not searched; `more` hits are not listed."""

    stored: str
    hits: tuple[Hit, ...] = ()
    more: int = 0
    unsearched: str = ""

    @property
    def summary(self) -> str:
        """Lines and rules."""
        rules: dict[str, list[str]] = {}
        for hit in self.hits:
            rules.setdefault(hit.rule, []).append(str(hit.line))
        found = [f"{rule} in line {', '.join(lines)}" for rule, lines in rules.items()]
        return "; ".join([*found, *([f"and {self.more} more"] if self.more else [])])


_SHAPES: Final = {rule: tuple(re.compile(each.encode()) for each in patterns) for rule, patterns in SHAPES.items()}
_WORD: Final = f"{string.ascii_letters}{string.digits}_-".encode()
_LETTERS: Final = bytes(_WORD[0] if each in _WORD else 0 for each in range(256))
_ROW: Final = _WORD[:1] * LETTERS
_URL: Final = re.compile(rb"://[^/@:\s\"'<>]{0,200}:(?P<value>[^/@\s\"'<>]{3,200}+)@")
_BEARER: Final = re.compile(rb"(?i:bearer) (?P<value>[A-Za-z0-9._~+/=-]{16,}+)")
# On text in lower case; the value is then taken from the text as it is.
_ASSIGNED: Final = re.compile(
    rb"(?P<name>(?:" + SECRET_WORD.encode() + rb""")[\w.-]{0,60}+)\\?["']?[ \t]*+(?:=>|[=:]+)[ \t]*+\\?["']?"""
    rb"""(?P<value>[^\s"'\\,;&<>(){}]{6,}+)"""
)

_PASSWORD: Final = re.compile(r"pass|pwd", re.IGNORECASE)
_ABOUT: Final = re.compile(
    r"[_.-](?:age|count|dir|expir\w*|field|file|id|len|length|limit|name|path|ttl|type|uri|url)s?$"
)
_NO_SECRET: Final = re.compile(r"\[?redacted|\[?hidden|[*x.#-]+$|[$%{<\[]|[-+\d.,:eE/]+$|https?:|s3:", re.IGNORECASE)
_CLASSES: Final = tuple(re.compile(each) for each in (r"[a-z]", r"[A-Z]", r"\d", r"[^A-Za-z0-9]"))


def search(file: BinaryIO, stored: str, limit: int | None = LIMIT) -> Search:
    """Look through a file, its first `limit` bytes or all of it. Of very many hits the first are listed."""
    listed: list[Hit] = []
    known: set[Hit] = set()
    more, binary = 0, False
    for line, block in _blocks(file, limit):
        known = {hit for hit in known if hit.line >= line}  # a line that is longer than a block may be met again
        dense = is_binary(block)
        new = _hits(line, block, binary=dense) - known
        known |= new
        binary |= dense
        room = MOST - len(listed)
        listed += sorted(new, key=lambda hit: (hit.line, hit.rule))[:room]
        more += max(0, len(new) - room)
    ended = not file.read(1)
    return Search(stored, tuple(listed), more, _unsearched(limit, binary=binary, ended=ended))


def is_binary(block: bytes) -> bool:
    """Whether it is no text. NUL alone tells nothing: a crash leaves holes in logs, and UTF-16 is full of it."""
    text = block.replace(b"\0", b"")
    return (len(text) - len(text.translate(None, _CONTROL))) * _RARE > len(text)


def _hits(line: int, block: bytes, *, binary: bool) -> set[Hit]:
    """The hits of a block that begins with this line; in a text with NUL also those that are read over it."""
    texts = {block} if binary else {block, block.replace(b"\0", b"")}
    return {hit for text in texts for hit in _placed(line, text, find(text, binary=binary))}


def _placed(line: int, text: bytes, places: Iterable[tuple[int, str]]) -> Iterator[Hit]:
    """Lines are counted once, onwards: a text may be nothing but hits."""
    before = 0
    for at, rule in sorted(places):
        line, before = line + text.count(b"\n", before, at), at
        yield Hit(line, rule)


def _unsearched(limit: int | None, *, binary: bool, ended: bool) -> str:
    """What was not looked for, and where not."""
    parts = ["binary: only for keys and tokens of well-known shapes"] if binary else []
    return "; ".join([*parts, *([] if ended else [f"what follows its first {limit} bytes"])])


def find(text: bytes, *, binary: bool = False) -> Iterator[tuple[int, str]]:
    """Where which rule is met. Pictures and weights have no long row of letters: two looks, and no pattern is tried."""
    if ARMOUR in text or _ROW in text.translate(_LETTERS):
        for rule, patterns in _SHAPES.items():
            for pattern in patterns:
                yield from ((match.start(), rule) for match in pattern.finditer(text))
    if binary:
        return
    for match in _URL.finditer(text):
        if not _NO_SECRET.match(_value(match)):
            yield match.start(), "password in a URL"
    for match in _BEARER.finditer(text):
        yield match.start(), "bearer token"
    for match in _ASSIGNED.finditer(text.lower()):
        value = text[slice(*match.span("value"))].decode(errors="replace")
        if looks_secret(match["name"].decode(errors="replace"), value):
            yield match.start(), "value of a secret-looking name"


def _value(match: "re.Match[bytes]") -> str:
    return match["value"].decode(errors="replace")


def looks_secret(name: str, value: str) -> bool:
    """Whether what is assigned to a secret-looking name may be a secret: no number, no placeholder, no plain word."""
    if _ABOUT.search(name) or _NO_SECRET.match(value):
        return False
    kinds = sum(bool(each.search(value)) for each in _CLASSES)
    if _PASSWORD.search(name):
        return kinds > 1
    return len(value) >= 12 and bool(_CLASSES[2].search(value)) and kinds > 1  # noqa: PLR2004  shorter is no key


def _blocks(file: BinaryIO, limit: int | None) -> Iterator[tuple[int, bytes]]:
    """The content in pieces that end with a line or are the last, and how many lines lie before each, plus one.

    A line that is longer than a piece is cut, with an overlap, so that nothing of a usual length is cut in two.
    """
    line, rest, left = 1, b"", limit
    while new := file.read(_BLOCK if left is None else min(_BLOCK, left)):
        left = left if left is None else left - len(new)
        block = rest + new
        end = block.rfind(b"\n") + 1 if len(new) == _BLOCK else len(block)
        piece, rest = (block[:end], block[end:]) if end else (block, block[-_OVERLAP:])
        yield line, piece
        line += piece.count(b"\n")
    if rest:
        yield line, rest


def notes_of(searches: Iterable[Search]) -> tuple[str, ...]:
    """What the verdict says of them."""
    found = [each for each in searches if each.hits]
    if not found:
        return ()
    places = sum(len(each.hits) + each.more for each in found)
    told = f"{places} places in {len(found)} files of the workload look like secrets"
    return (f"{told}: coverage.json lists them, without their values. Change what they open",)
