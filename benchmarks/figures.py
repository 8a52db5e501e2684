"""What the offload bench measured of one data set, its rows against the goals, and where the time went."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from benchmarks.datasets import MIB
from benchmarks.rows import Row, at_most, median, quicker, under
from benchmarks.transfer import ONE_PREFIX, Done

_TIMES: Final = defaultdict(lambda: 1.6, {"S": 3.0})
_PEERS: Final = defaultdict(lambda: 1.0, {"L": 1.1})


@dataclass
class Figures:
    """Everything that was measured of one data set, round by round."""

    size: int
    typed: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    ours: dict[str, list[Done]] = field(default_factory=lambda: defaultdict(list))
    sent: dict[str, int] = field(default_factory=dict)


def rows(name: str, seen: Figures) -> list[Row]:
    """What came out, against the goals."""
    typed, ours = seen.typed, seen.ours
    one = {stage: median(each.seconds(stage) for each in ours["one prefix"]) for stage in ONE_PREFIX}
    first, second, full, resumed = (
        median(each.seconds() for each in ours[run]) for run in ("first", "second", "full", "resumed")
    )
    made = [
        quicker(f"{name}: copy, sums, three prefixes, proven, s", first, median(typed["first"]), _TIMES[name]),
        quicker(f"{name}: the same content again, s", second, median(typed["second"]), 2.5),
    ]
    for peer in (each for each in ("s5cmd", "rclone") if typed[each]):
        theirs = median(typed[peer])
        made += [
            at_most(f"{name}: one prefix, beside {peer}, s", one["one prefix"], theirs, _PEERS[name]),
            at_most(f"{name}: one prefix, every object proven, beside {peer}, s", sum(one.values()), theirs, 1.4),
        ]
    mib = round(seen.size / MIB, 2)
    return [
        *made,
        at_most(f"{name}: bytes sent beside bytes of evidence, MiB", round(seen.sent["first"] / MIB, 2), mib, 1.02),
        at_most(f"{name}: the same content again, MiB sent", round(seen.sent["second"] / MIB, 2), mib, 0.05),
        at_most(f"{name}: resumed after a kill at half, beside a full run, s", resumed, full, 0.6),
        under(f"{name}: peak memory, MiB", _peak(seen), 400),
    ]


def growth(tenth: Figures, whole: Figures) -> list[Row]:
    """What ten times as many files cost."""
    taken, of_tenth = (
        median(each.seconds("one prefix") for each in seen.ours["one prefix"]) for seen in (whole, tenth)
    )
    return [
        at_most("N: one prefix, beside a tenth of it, s", taken, of_tenth, 11),
        under("N: peak memory, MiB", _peak(whole), 400),
    ]


def _peak(seen: Figures) -> int:
    return round(max(each.peak for runs in seen.ours.values() for each in runs) / MIB)


def profile(name: str, seen: Figures) -> str:
    """Where the time went, stage by stage: by the clock, and of two processors' time our share and the server's."""
    form = "{:<28} {:>8} {:>8} {:>8}"
    lines = [form.format(f"{name}: s by", "clock", "our CPU", "server's")]
    for run in (each for each in ("first", "second", "one prefix", "resumed") if seen.ours[each]):
        for stage in seen.ours[run][0].stages:
            parts = [each.stages[stage] for each in seen.ours[run]]
            figures = (median(getattr(part, what) for part in parts) for what in ("seconds", "ours", "server"))
            lines.append(form.format(f"  {run}, {stage}", *(f"{figure:g}" for figure in figures)))
    return "\n".join(lines)
