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

from tasks.custody.evidence.public_tokens import ARMOUR, LETTERS, SHAPES
from tasks.custody.evidence.words import SECRET_WORD

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
    rb"(?P<name>(?:" + SECRET_WORD.encode() + rb""")[\w.-]{0,60}+)\\?["']?[ \t]*+(?:=>|[=:]+)[ \t]*+(?:\\?["']){0,3}+"""
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
    searching = Searching(limit)
    while not searching.cut and (block := file.read(_BLOCK)):
        searching.take(block)
    return searching.finish(stored)


class Searching:
    """The search of a stream of bytes, of which the first `limit` are searched, or all of them.

    It is searched in pieces that end with a line. A line longer than a piece is cut, with an overlap, so that no secret
    of usual length is cut in two.
    """

    def __init__(self, limit: int | None = LIMIT) -> None:
        """Begin at line 1."""
        self.cut, self._limit, self._remaining = False, limit, limit
        self._line, self._new, self._rest = 1, bytearray(), b""
        self._listed, self._known, self._more, self._binary = list[Hit](), set[Hit](), 0, False

    def take(self, block: bytes) -> None:
        """Search the next bytes, as far as the limit goes."""
        if self._remaining is not None:
            self.cut |= len(block) > self._remaining
            block = block[: self._remaining]
            self._remaining -= len(block)
        self._new += block if block.strip(b"\0") else block[:1]  # of a hole one NUL is enough
        while len(self._new) >= _BLOCK:
            whole = self._rest + self._new[:_BLOCK]
            del self._new[:_BLOCK]
            end = whole.rfind(b"\n") + 1
            piece, self._rest = (whole[:end], whole[end:]) if end else (whole, whole[-_OVERLAP:])
            self._search(piece)

    def finish(self, stored: str) -> Search:
        """End the search, and return what it found."""
        if last := self._rest + self._new:
            self._search(last)
        parts = ["binary: only for keys and tokens of well-known shapes"] if self._binary else []
        parts += [f"what follows its first {self._limit} bytes"] if self.cut else []
        return Search(stored, tuple(self._listed), self._more, "; ".join(parts))

    def _search(self, piece: bytes) -> None:
        self._known = {hit for hit in self._known if hit.line >= self._line}  # a line longer than a piece
        binary = is_binary(piece)
        # text with NUL is also searched with the NULs removed
        texts = [piece] if binary or 0 not in piece else [piece, piece.replace(b"\0", b"")]
        found = {hit for text in texts for hit in _place_hits(self._line, text, find(text, binary=binary))}
        new = found - self._known
        room = MOST - len(self._listed)
        self._listed += sorted(new, key=lambda hit: (hit.line, hit.rule))[:room]
        self._more += max(0, len(new) - room)
        self._known |= new
        self._binary |= binary
        self._line += piece.count(b"\n")


def is_binary(block: bytes) -> bool:
    """Return whether a block is not text. NUL alone does not count: crashes leave it in logs, and UTF-16 has many."""
    rare = (len(block) - block.count(0)) // _RARE
    beginning = block[: len(block) // 4]  # of weights it has enough of them, and a search has no time to lose
    return any(len(text) - len(text.translate(None, _CONTROL)) > rare for text in (beginning, block))


def _place_hits(line: int, text: bytes, places: Iterable[tuple[int, str]]) -> Iterator[Hit]:
    """Yield hits with line numbers, counted in one pass: a text may consist of hits only."""
    before = 0
    for at, rule in sorted(places):
        line, before = line + text.count(b"\n", before, at), at
        yield Hit(line, rule)


def find(text: bytes, *, binary: bool = False) -> Iterator[tuple[int, str]]:
    """Yield offset and rule of each hit. Pictures and weights contain no long word, so no pattern is tried on them."""
    if ARMOUR in text or _ROW in text.translate(_LETTERS):
        for rule, patterns in _SHAPES.items():
            for pattern in patterns:
                yield from ((match.start(), rule) for match in pattern.finditer(text))
    if binary:
        return
    for match in _URL.finditer(text):
        if not _NO_SECRET.match(match["value"].decode(errors="replace")):
            yield match.start(), "password in a URL"
    for match in _BEARER.finditer(text):
        yield match.start(), "bearer token"
    for match in _ASSIGNED.finditer(text.lower()):
        value = text[slice(*match.span("value"))].decode(errors="replace")
        if looks_secret(match["name"].decode(errors="replace"), value):
            yield match.start(), "value of a secret-looking name"


def looks_secret(name: str, value: str) -> bool:
    """Return whether a value assigned to a secret-looking name may be one: no number, placeholder or plain word."""
    if _ABOUT.search(name) or _NO_SECRET.match(value):
        return False
    kinds = sum(bool(each.search(value)) for each in _CLASSES)
    if _PASSWORD.search(name):
        return kinds > 1
    return len(value) >= 12 and bool(_CLASSES[2].search(value)) and kinds > 1  # noqa: PLR2004  shorter is no key


def notes_of(searches: Iterable[Search]) -> tuple[str, ...]:
    """Return the verdict's note on secrets found; empty if none."""
    found = [each for each in searches if each.hits]
    if not found:
        return ()
    places = sum(len(each.hits) + each.more for each in found)
    summary = f"{places} places in {len(found)} files of the workload look like secrets"
    return (f"{summary}: coverage.json lists them, without their values. Change what they open",)
