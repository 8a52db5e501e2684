"""Put chapters under one title; one that cannot be told costs the others nothing."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tasks.record.report_data import ReportData
from tasks.rendering.document import (
    Block,
    Both,
    Document,
    Remark,
    Said,
    Section,
    Tone,
)


@dataclass(frozen=True)
class Chapter:
    """A heading, and what is told beneath it."""

    title: Both
    make: Callable[[ReportData], Sequence[Block]]


def document(title: Both, data: ReportData, chapters: Iterable[Chapter]) -> Document:
    """Chapters under one title. What could not be told is named in the document's `trouble`."""
    trouble: list[str] = []
    sections = tuple(Section(each.title, tuple(_told(each, data, trouble))) for each in chapters)
    return Document(title, data.incident.id, sections, tuple(trouble))


def _told(chapter: Chapter, data: ReportData, trouble: list[str]) -> Sequence[Block]:
    """A chapter that cannot be told says so in its place: no fact, however odd, costs the others."""
    try:
        return chapter.make(data)
    except Exception as error:  # noqa: BLE001  the facts are hostile, and the record is written whatever they are
        trouble.append(f"{chapter.title.en} could not be told: {type(error).__name__}: {error}")
        return [could_not_be_made(trouble[-1])]


def could_not_be_made(trouble: str) -> Remark:
    """What stands in the place of what could not be made."""
    words = Both(
        "作成できなかった。事実は verdict.json と custody.jsonl にある。",
        "It could not be made. The facts are in verdict.json and custody.jsonl.",
    )
    return Remark(Tone.BAD, (words, Said(trouble)))
