"""Define a document before it is Markdown or HTML. Our words are `Both`; all others are foreign, and never markup."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

ROW_LIMIT: Final = 200
LINE_LIMIT: Final = 80


@dataclass(frozen=True)
class Both:
    """Our own words in both languages."""

    ja: str
    en: str


@dataclass(frozen=True)
class Said:
    """A sentence of a step or a verdict: English, but names and reasons in it are foreign."""

    text: str


@dataclass(frozen=True)
class Quoted:
    """What a person wrote, in a language that nobody told us."""

    text: str


@dataclass(frozen=True)
class Code:
    """A name, a path, a command, a digest."""

    text: str


@dataclass(frozen=True)
class Link:
    """A name as code, and the address of our own making behind it; on a page that stands alone only the name."""

    name: str
    address: str


@dataclass(frozen=True)
class Figure:
    """A time, a number, a word of few letters: it stays on one line."""

    text: str


@dataclass(frozen=True)
class Open:
    """A field that only people can fill in."""


class Tone(StrEnum):
    """How good the news is."""

    GOOD = "good"
    FAIR = "fair"
    BAD = "bad"
    QUIET = "quiet"


@dataclass(frozen=True)
class Badge:
    """A word of ours that is to be found at a glance."""

    tone: Tone
    word: str
    told: Both | None = None


Cell: TypeAlias = Both | Said | Quoted | Code | Link | Figure | Open | Badge | tuple["Cell", ...]


@dataclass(frozen=True)
class Facts:
    """A list of facts, each with its name."""

    items: tuple[tuple[Both, Cell], ...]


@dataclass(frozen=True)
class Table:
    """Rows below a head. `left_out` says how many rows more there are, and `where` they can be read."""

    head: tuple[Both, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left_out: int = 0
    where: str = ""


@dataclass(frozen=True)
class Listing:
    """Lines of a file, as they stand there. `left_out` lines before the first are not shown."""

    lines: tuple[str, ...]
    left_out: int = 0
    where: str = ""


@dataclass(frozen=True)
class Command:
    """A command to type."""

    about: Both
    line: str


@dataclass(frozen=True)
class Picture:
    """A drawing, with what it tells for those who cannot see it. `svg` is a whole SVG document of our own making."""

    name: str
    about: Both
    svg: str


@dataclass(frozen=True)
class Remark:
    """A remark that nobody may overlook."""

    tone: Tone
    words: Cell


Block: TypeAlias = Facts | Table | Listing | Command | Picture | Remark | Open


@dataclass(frozen=True)
class Section:
    """A part of the document under its heading."""

    title: Both
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """The whole. `subject` is what it is about: an incident's id. `trouble` says what could not be told in it."""

    title: Both
    subject: str
    sections: tuple[Section, ...]
    trouble: tuple[str, ...] = ()


def table(head: Sequence[Both], rows: Sequence[tuple[Cell, ...]], where: str) -> Table:
    """A table of a size that a person can read; the rest is counted, and found in `where`."""
    return Table(tuple(head), tuple(rows[:ROW_LIMIT]), max(0, len(rows) - ROW_LIMIT), where)


def listing(text: str, where: str) -> Listing:
    """The last lines of a text: a traceback tells its error last."""
    lines = text.splitlines()
    return Listing(tuple(lines[-LINE_LIMIT:]), max(0, len(lines) - LINE_LIMIT), where)


def some(texts: Iterable[str], limit: int, where: str) -> tuple[str, ...]:
    """The first few sentences, and how many more there are."""
    every = tuple(texts)
    more = (f"… {len(every) - limit} more; all are in {where}",) if len(every) > limit else ()
    return every[:limit] + more
