"""Format findings as terminal lines and as a page for Prefect's UI."""

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from tasks.custody.incident.readiness import SIGNS, Readiness, Weight
from tasks.record.tables import table_of
from tasks.rendering.document import Badge, Both, Code, Document, FactList, Figure, Said, Section, Tone
from tasks.rendering.markdown import markdown

_TONES: Final = {Weight.SOUND: Tone.GOOD, Weight.LOSS: Tone.FAIR, Weight.FATAL: Tone.BAD}
_NIGHTS: Final = Both("直近 30 日 (● Ready ◐ Degraded ○ NotReady · 実行なし)", "the last 30 days (· no run)")


def lines(readiness: Readiness, nights: str = "") -> Iterator[str]:
    """Yield a line for each check, and for what is not sound why it matters and what cures it; the end comes last.

    Checks that found the same one after another, as without a server, are told once.
    """
    for finding, same in groupby(readiness.findings, lambda each: (each.weight, each.found, each.matters, each.cure)):
        (weight, text, matters, cure), (name, *others) = finding, [each.name for each in same]
        if weight is Weight.SOUND:
            yield from (f"  {SIGNS[weight]} {each:<20} {text}" for each in (name, *others))
            continue
        yield f"  {SIGNS[weight]} {name:<20} {text}"
        yield from [f"    {'so also':<20} {', '.join(others)}"] if others else []
        yield f"    {'matters':<20} {matters}"
        yield f"    {'cure':<20} {cure}"
    if nights:
        yield f"  {'last 30 days':<22} {nights}"
    yield f"{readiness.ending.name}: {len(readiness.findings)} checks, {len(readiness.bad)} not sound"


def page(name: str, readiness: Readiness, nights: str) -> str:
    """Return the findings as Markdown, what is not sound first."""
    first = [*readiness.bad, *(each for each in readiness.findings if each.weight is Weight.SOUND)]
    tone = _TONES[readiness.bad[0].weight if readiness.bad else Weight.SOUND]
    facts = FactList(((Both("結果", "result"), Badge(tone, readiness.ending.name)), (_NIGHTS, Figure(nights))))
    table = table_of(
        first,
        "",
        ("点検", "check", lambda each: Badge(_TONES[each.weight], each.name)),
        ("所見", "found", lambda each: Said(each.found)),
        ("緊急時の影響", "why it matters at three in the morning", lambda each: Said(each.matters)),
        ("対処", "cure", lambda each: Code(each.cure) if each.cure else Said("")),
    )
    section = Section(Both("点検結果", "Findings"), (facts, table))
    return markdown(Document(Both("緊急撤収の準備状況", "Readiness of"), name, (section,)))
