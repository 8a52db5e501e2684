"""Define a document, to be rendered as Markdown or HTML. `Both` is our own text; all other text is never markup.

See docs/adr/0015.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

ROW_LIMIT: Final = 200
LINE_LIMIT: Final = 80


@dataclass(frozen=True)
class Both:
    """Our own text in both languages."""

    ja: str
    en: str

    @property
    def line(self) -> str:
        """Both in one line; once what is the same in both."""
        return f"{self.ja} / {self.en}" if self.ja != self.en else self.en


@dataclass(frozen=True)
class Said:
    """A sentence of a step or verdict: English, but names and reasons in it are untrusted."""

    text: str


@dataclass(frozen=True)
class Quoted:
    """Text of a person, in an unknown language."""

    text: str


@dataclass(frozen=True)
class Code:
    """A name, a path, a command, a digest."""

    text: str


@dataclass(frozen=True)
class Link:
    """A name as code with an address made by us; on a standalone page only the name."""

    name: str
    address: str


@dataclass(frozen=True)
class Figure:
    """A time, number or short word, kept on one line."""

    text: str


@dataclass(frozen=True)
class Open:
    """A field for people to fill in."""


class Tone(StrEnum):
    """The tone of a message, from good to bad."""

    GOOD = "good"
    FAIR = "fair"
    BAD = "bad"
    QUIET = "quiet"


@dataclass(frozen=True)
class Badge:
    """A word of ours that stands out."""

    tone: Tone
    word: str
    meaning: Both | None = None


Cell: TypeAlias = Both | Said | Quoted | Code | Link | Figure | Open | Badge | tuple["Cell", ...]


@dataclass(frozen=True)
class FactList:
    """A list of named facts."""

    items: tuple[tuple[Both, Cell], ...]


@dataclass(frozen=True)
class DocumentTable:
    """Rows below a head. `left_out` more rows are not shown; `where` has all of them."""

    head: tuple[Both, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left_out: int = 0
    where: str = ""


@dataclass(frozen=True)
class FileExcerpt:
    """Lines of a file. `left_out` lines before the first are not shown."""

    lines: tuple[str, ...]
    left_out: int = 0
    where: str = ""


@dataclass(frozen=True)
class CommandBlock:
    """A command to type."""

    caption: Both
    line: str


@dataclass(frozen=True)
class Picture:
    """A drawing, with a text alternative. `svg` is an SVG document of our own."""

    name: str
    caption: Both
    svg: str


@dataclass(frozen=True)
class Remark:
    """A remark that stands out."""

    tone: Tone
    words: Cell


Block: TypeAlias = FactList | DocumentTable | FileExcerpt | CommandBlock | Picture | Remark | Open


@dataclass(frozen=True)
class Section:
    """A part of the document under its heading."""

    title: Both
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """A document. `subject` is its subject, an incident's id. `trouble` says what it could not include."""

    title: Both
    subject: str
    sections: tuple[Section, ...]
    trouble: tuple[str, ...] = ()


def table(head: Sequence[Both], rows: Sequence[tuple[Cell, ...]], where: str) -> DocumentTable:
    """Return a table of at most 200 rows; the others are counted, and found in `where`."""
    return DocumentTable(tuple(head), tuple(rows[:ROW_LIMIT]), max(0, len(rows) - ROW_LIMIT), where)


def listing(text: str, where: str) -> FileExcerpt:
    """Return the last lines of a text, where a traceback has its error."""
    lines = text.splitlines()
    return FileExcerpt(tuple(lines[-LINE_LIMIT:]), max(0, len(lines) - LINE_LIMIT), where)


def some(texts: Iterable[str], limit: int, where: str) -> tuple[str, ...]:
    """Return the first sentences, and how many more there are."""
    every = tuple(texts)
    more = (f"… {len(every) - limit} more; all are in {where}",) if len(every) > limit else ()
    return every[:limit] + more
