"""Find secrets in the workload's files, which are kept unchanged. Reports places, never values.

Finds known shapes (a private key, a cloud's access key) and values assigned to secret-looking names. Entropy is not
measured: logs are full of digests and floats, and a list full of false alarms is not read. Linear time on hostile text:
no pattern tries a character more than once.
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
    """A line number, from 1, and the matching rule. In a binary file the line means little."""

    line: int
    rule: str


@dataclass(frozen=True)
class Search:
    """The hits in a file, by stored name, and what was not searched; `more` counts hits that are not listed."""

    stored: str
    hits: tuple[Hit, ...] = ()
    more: int = 0
    unsearched: str = ""

    @property
    def summary(self) -> str:
        """Rules with their lines."""
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
    """Search the first `limit` bytes of a file, or all of it. Lists the first 200 hits."""
    listed: list[Hit] = []
    known: set[Hit] = set()
    more, binary = 0, False
    for line, block in _blocks(file, limit):
        known = {hit for hit in known if hit.line >= line}  # a line longer than a block is searched again
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
    """Return whether a block is not text. NUL alone does not count: crashes leave it in logs, and UTF-16 has many."""
    text = block.replace(b"\0", b"")
    return (len(text) - len(text.translate(None, _CONTROL))) * _RARE > len(text)


def _hits(line: int, block: bytes, *, binary: bool) -> set[Hit]:
    """Return the hits of a block that begins at this line. Text with NUL is also searched with the NULs removed."""
    texts = {block} if binary else {block, block.replace(b"\0", b"")}
    return {hit for text in texts for hit in _placed(line, text, find(text, binary=binary))}


def _placed(line: int, text: bytes, places: Iterable[tuple[int, str]]) -> Iterator[Hit]:
    """Yield hits with line numbers, counted in one pass: a text may consist of hits only."""
    before = 0
    for at, rule in sorted(places):
        line, before = line + text.count(b"\n", before, at), at
        yield Hit(line, rule)


def _unsearched(limit: int | None, *, binary: bool, ended: bool) -> str:
    """Return what was not searched for, and where."""
    parts = ["binary: only for keys and tokens of well-known shapes"] if binary else []
    return "; ".join([*parts, *([] if ended else [f"what follows its first {limit} bytes"])])


def find(text: bytes, *, binary: bool = False) -> Iterator[tuple[int, str]]:
    """Yield offset and rule of each hit. Pictures and weights contain no long word, so no pattern is tried on them."""
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
    """Return whether a value assigned to a secret-looking name may be one: no number, placeholder or plain word."""
    if _ABOUT.search(name) or _NO_SECRET.match(value):
        return False
    kinds = sum(bool(each.search(value)) for each in _CLASSES)
    if _PASSWORD.search(name):
        return kinds > 1
    return len(value) >= 12 and bool(_CLASSES[2].search(value)) and kinds > 1  # noqa: PLR2004  shorter is no key


def _blocks(file: BinaryIO, limit: int | None) -> Iterator[tuple[int, bytes]]:
    """Yield the content in pieces that end with a line, each with the number of its first line.

    A line longer than a piece is cut, with an overlap, so that no secret of usual length is cut in two.
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
    """Return the verdict's note on secrets found; empty if none."""
    found = [each for each in searches if each.hits]
    if not found:
        return ()
    places = sum(len(each.hits) + each.more for each in found)
    told = f"{places} places in {len(found)} files of the workload look like secrets"
    return (f"{told}: coverage.json lists them, without their values. Change what they open",)
