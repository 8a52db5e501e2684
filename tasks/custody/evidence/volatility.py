"""Find what was collected out of the order of volatility (RFC 3227 §2.1), and why."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tasks.custody.evidence.acquisition import Evidence, Outcome


@dataclass(frozen=True)
class Deviation:
    """A collector that began only after less volatile evidence had been taken."""

    collector: str
    after: tuple[str, ...]
    reason: str


def deviations(evidence: Sequence[Evidence], order: Mapping[str, int], tries: Mapping[str, int]) -> Iterator[Deviation]:
    """Yield each deviation with its reason.

    `order` is low for volatile evidence; `tries` counts how often a collector was started.
    """
    known = [item for item in evidence if item.collector in order]
    for late in sorted(known, key=lambda item: order[item.collector]):
        lasting = (item for item in known if item.files and order[item.collector] > order[late.collector])
        if before := [item for item in lasting if item.ended_at <= late.started_at]:
            after = tuple(item.collector for item in before)
            yield Deviation(late.collector, after, _reason(late, before, tries.get(late.collector, 1)))


def _reason(late: Evidence, before: Sequence[Evidence], tries: int) -> str:
    if any(item.volume < late.volume for item in before):
        return "taken again by a later run of the incident"
    if tries > 1:
        return f"tried again, {tries} times in all"
    if late.outcome is Outcome.TIMED_OUT and not late.files:
        return "the time for looking at what is frozen was used up before it was done"
    return "taken side by side, and the others were done before this one began"
