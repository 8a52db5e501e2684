"""Judge a fleet by the ends of its hosts: one word, the worst end; Verified only if every host of its list is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tasks.custody.fleet.host_end import HostEnd, Row
from tasks.custody.fleet.outcome_lines import fold


@dataclass(frozen=True)
class FleetVerdict:
    """The fleet's end, and a line that says what became of which hosts."""

    end: HostEnd
    message: str


def verdict_of(hosts: Sequence[str], rows: Iterable[Row]) -> FleetVerdict:
    """Return the verdict on the hosts of the frozen list. A host without a line, or one that is open, has crashed.

    Raises ValueError for a list without hosts: nothing was evacuated, and nothing is verified.
    """
    by_host = {row.host: row for row in rows}
    if not hosts:
        raise ValueError("expected a fleet with hosts; got none")
    ends = [(by_host[host].end if host in by_host else None) or HostEnd.CRASHED for host in hosts]
    worst = min(ends, key=list(HostEnd).index)
    missing = [Row(host, end=HostEnd.CRASHED) for host in hosts if host not in by_host]
    lines = fold([*(by_host[host] for host in dict.fromkeys(hosts) if host in by_host), *missing])
    summary = "; ".join(f"{line.hosts} {line.label}" for line in lines)
    return FleetVerdict(worst, f"{ends.count(HostEnd.VERIFIED)} of {len(hosts)} hosts Verified: {summary}")


def is_settled(rows: Iterable[Row]) -> bool:
    """Return whether every host that answers has its end. Orders of silent ones may still stand."""
    return all(row.end is not None for row in rows)


def over(rows: Iterable[Row]) -> bool:
    """Return whether nothing changes any more: every host has its end, and no order stands."""
    return all(row.end is not None and not row.stands for row in rows)


def all_that_answer_contained(rows: Iterable[Row]) -> bool:
    """Return whether each host that is not silent is proven contained; False if none answers."""
    answering = [row for row in rows if row.end is not HostEnd.SILENT]
    return bool(answering) and all(row.is_contained for row in answering)
