"""What the offload bench measured of one data set, its rows against the goals, and where the time went."""

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.datasets import MIB
from benchmarks.machine import versions
from benchmarks.rows import Row, at_most, median, quicker, under
from benchmarks.transfer import Done

_RUNBOOK: Final = defaultdict(lambda: 2.7, {"S": 4.0})
_PEERS: Final = defaultdict(lambda: 1.0, {"S": 0.9})
_PLAIN: Final = defaultdict(lambda: 1.05, {"S": 0.0})
_BYTES: Final = defaultdict(lambda: 0.05, {"S": 0.0})
_PROVEN: Final = 1.1
_AGAIN: Final = 0.5
_TENTH: Final = 11
_MEMORY: Final = 400
_Make = Callable[[str, float, float, float], Row]


@dataclass
class Figures:
    """Everything that was measured of one data set, round by round: seconds of others, stages of ours, bytes sent.

    `strangers` are the largest shares of the processors that others used, by turn.
    """

    size: int = 0
    typed: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    ours: dict[str, list[Done]] = field(default_factory=lambda: defaultdict(list))
    sent: dict[str, int] = field(default_factory=dict)
    strangers: dict[str, float] = field(default_factory=dict)
    about: str = ""

    @classmethod
    def kept(cls, path: Path) -> "Figures":
        """Read what an earlier run has kept."""
        told: dict[str, Any] = json.loads(path.read_text())
        ours = {run: [Done.from_dict(each) for each in runs] for run, runs in told.pop("ours").items()}
        typed = defaultdict(list, told.pop("typed"))
        return cls(ours=defaultdict(list, ours), typed=typed, **told)

    def keep(self, path: Path) -> None:
        """Write all of it, and when and of which version the last was."""
        rounds = max([*map(len, self.typed.values()), *map(len, self.ours.values()), 0])
        self.about = f"{rounds} rounds, {datetime.now(UTC):%Y-%m-%d}, {versions().get('commit', 'no commit')}"
        path.write_text(json.dumps(vars(self), default=vars, indent=1) + "\n")

    def disturbed(self, turn: str, share: float) -> None:
        """Note the share of the processors that strangers used in a turn."""
        self.strangers[turn] = max(share, self.strangers.get(turn, 0.0))

    def theirs(self, run: str) -> float | None:
        """Median seconds of another client; None if it was not measured."""
        return median(self.typed[run]) if self.typed[run] else None

    def seconds(self, run: str, *stages: str) -> float | None:
        """Median seconds of these stages of ours, or of all."""
        return median(each.seconds(*stages) for each in self.ours[run]) if self.ours[run] else None

    def mib(self, run: str) -> float | None:
        """MiB sent in a run."""
        return round(self.sent[run] / MIB, 2) if run in self.sent else None

    @property
    def peak(self) -> int | None:
        """MiB of memory, the most that a process of ours had."""
        peaks = [each.peak for runs in self.ours.values() for each in runs]
        return round(max(peaks) / MIB) if peaks else None

    @property
    def store(self) -> float:
        """Share of the store in the processor time of our first incident, or of one prefix."""
        runs = self.ours["first"] or self.ours["one prefix"]
        stages = [stage for run in runs for stage in run.stages.values()]
        theirs, ours = (sum(getattr(stage, whose) for stage in stages) for whose in ("server", "ours"))
        return theirs / (theirs + ours) if stages else 0.0


class _Rows:
    """Rows of one data set, as far as both sides were measured."""

    def __init__(self, name: str, seen: Figures, *, net: bool) -> None:
        self.name, self.seen, self.net, self.made = name, seen, net, list[Row]()

    def add(
        self, what: str, turns: str, make: _Make, sides: tuple[float | None, float | None], goal: float = 0
    ) -> None:
        """Add a row; without a goal where that is 0, or where the store shares our processors."""
        ours, theirs = sides
        if ours is None or theirs is None:
            return
        row = make(f"{self.name}: {what}", ours, theirs, goal)
        if not goal or not self.net:
            told = "none" if self.net else f"none; the store used {self.seen.store:.0%} of the processor time"
            row = replace(row, goal=told, holds=True)
        strangers = max(self.seen.strangers.get(turn, 0.0) for turn in turns.split())
        self.made.append(replace(row, strangers=strangers))


def rows(name: str, seen: Figures, tenth: Figures | None = None, *, net: bool = False) -> list[Row]:
    """Return what came out, against the goals; those of time are for a store that has processors of its own."""
    made, first, second = _Rows(name, seen, net=net), seen.seconds("first"), seen.seconds("second")
    three = "copy, sums, three prefixes, proven, s"
    made.add(three, "typed ours", quicker, (first, seen.theirs("first")), _RUNBOOK[name])
    made.add("the same content again, s", "typed ours", quicker, (second, seen.theirs("second")))
    made.add("the same content again, beside the first time, s", "ours", at_most, (second, first), _AGAIN)
    one, proven = seen.seconds("one prefix", "one prefix"), seen.seconds("one prefix", "one prefix", "proven")
    plain = seen.theirs("plain")
    made.add("one prefix, beside one plain TCP stream, s", "alone plain", at_most, (one, plain), _PLAIN[name])
    for peer in ("s5cmd", "rclone"):
        theirs, turns = seen.theirs(peer), f"alone {peer}"
        made.add(f"one prefix, beside {peer}, s", turns, at_most, (one, theirs), _PEERS[name])
        made.add(f"one prefix, every object proven, beside {peer}, s", turns, at_most, (proven, theirs), _PROVEN)
    sent, again = seen.mib("first"), seen.mib("second")
    size = round(seen.size / MIB, 2)
    made.add("bytes sent beside bytes of evidence, MiB", "ours", at_most, (sent, size))
    made.add("the same content again, MiB sent, beside the first time", "ours", at_most, (again, sent), _BYTES[name])
    resumed = seen.seconds("resumed"), seen.seconds("full")
    made.add("resumed after a kill at half, beside a full run, s", "resumed", at_most, resumed)
    limits = [under(f"{name}: peak memory, MiB", seen.peak, _MEMORY)] if seen.peak else []
    less = tenth.seconds("one prefix", "one prefix") if tenth else None
    if one and less:
        limits.append(at_most(f"{name}: one prefix, beside a tenth of it, s", one, less, _TENTH))
    return [*made.made, *limits]


def profile(name: str, seen: Figures) -> str:
    """Where the time went, stage by stage: by the clock, and of the processors' time our share and the store's."""
    form = "{:<28} {:>8} {:>8} {:>8}"
    lines = [form.format(f"{name}: s by", "clock", "our CPU", "store's")]
    for run in (each for each in ("first", "second", "one prefix", "resumed") if seen.ours[each]):
        for stage in seen.ours[run][0].stages:
            parts = [each.stages[stage] for each in seen.ours[run]]
            figures = (median(getattr(part, what) for part in parts) for what in ("seconds", "ours", "server"))
            lines.append(form.format(f"  {run}, {stage}", *(f"{figure:g}" for figure in figures)))
    return "\n".join(lines)
