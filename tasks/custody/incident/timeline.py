"""Read from the custody log when each step of each run began and ended."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from tasks.custody.incident.steps import step_of

_ENDS: Final = {"step done": "done", "step incomplete": "incomplete", "step failed": "failed"}


class Course(StrEnum):
    """How a step ended."""

    DONE = "done"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    UNDER_WAY = "under way"
    CUT_OFF = "cut off"


class Moment(StrEnum):
    """The moments of a run that matter most."""

    FROZEN = "frozen"
    NONE_LEFT = "none left"


FIGURES: Final = ("contained_s", "stopped_s", "total_s")
RAN_ON: Final = "the grace let some of it run on 猶予中に稼働を再開"
"""How the note on that begins."""
_SHORT_SECONDS: Final = 1.0
"""What a grace may let run, after it stood, without being told."""
_PAUSED: Final = "container paused"
_HOLDS: Final = frozenset({"frozen", _PAUSED, "engine not asked"})
"""What a freeze writes; `denied` says why something did not stand."""
_CHECKS: Final = frozenset({"prove_contained", "prove_still_contained"})
_REACHED_BY: Final = {"freeze": Moment.FROZEN, "prove_contained": Moment.NONE_LEFT}


@dataclass(frozen=True)
class Bar:
    """One attempt at a step."""

    step: str
    attempt: int
    began: datetime
    ended: datetime
    course: Course

    @property
    def section(self) -> str:
        """The runbook section (§) of the step."""
        return section_of(self.step)

    @property
    def duration(self) -> timedelta:
        """The duration."""
        return self.ended - self.began


@dataclass(frozen=True)
class Run:
    """One run of the incident. `cached` are steps whose results came from an earlier run.

    `triggered` is when the run was requested, None for a recovery or a thaw.
    """

    number: int
    began: datetime
    ended: datetime
    bars: tuple[Bar, ...]
    cached: tuple[str, ...]
    moments: Mapping[Moment, datetime]
    triggered: datetime | None = None


@dataclass
class _Open:
    """A run whose entries are still being read."""

    number: int
    began: datetime
    ended: datetime
    bars: list[Bar] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    moments: dict[Moment, datetime] = field(default_factory=dict)
    started: dict[str, datetime] = field(default_factory=dict)
    triggered: datetime | None = None

    def close(self, course: Course) -> Run:
        """Return the run; steps without an end get `course`."""
        started = [(step, self.attempt(step), began) for step, began in self.started.items()]
        unfinished = [Bar(step, attempt, began, max(began, self.ended), course) for step, attempt, began in started]
        bars = sorted([*self.bars, *unfinished], key=lambda bar: (bar.began, bar.step))
        began = min([self.began, *(bar.began for bar in bars)])
        ended = max(began, self.ended)
        return Run(self.number, began, ended, tuple(bars), tuple(self.cached), self.moments, self.triggered)

    def attempt(self, step: str) -> int:
        return 1 + sum(bar.step == step for bar in self.bars)


def section_of(title: str) -> str:
    """Return the runbook section (§) at the start of a step's title; empty if there is none."""
    first = title.split(" ", 1)[0]
    return first if first.startswith("§") else ""


def runs(entries: Sequence[Mapping[str, Any]]) -> tuple[Run, ...]:
    """Return all runs in the log, in order.

    A step without an end was cut off in an earlier run; in the last run it is under way.
    """
    found: list[_Open] = []
    for entry in entries:
        at = moment(entry["utc"])
        if entry["action"] == "run opened" or not found:
            found.append(_Open(int(entry.get("number", len(found) + 1)), at, at))
            found[-1].triggered = moment(entry["triggered"]) if "triggered" in entry else None
        _take(found[-1], entry, at)
    last = len(found) - 1
    return tuple(run.close(Course.UNDER_WAY if place == last else Course.CUT_OFF) for place, run in enumerate(found))


def _take(run: _Open, entry: Mapping[str, Any], at: datetime) -> None:
    run.ended = max(run.ended, at)
    action, step = entry["action"], str(entry["object"])
    if action == "step started":
        run.started[step] = at
    elif action == "step cached":
        run.cached.append(step)
    elif action == "frozen":
        _frozen_before(run, frozen_at(entry))
    elif course := _ENDS.get(action):
        began = run.started.pop(step, at - timedelta(seconds=entry.get("seconds", 0)))
        run.bars.append(Bar(step, run.attempt(step), min(began, at), at, Course(course)))
        if action == "step done" and (reached := _REACHED_BY.get(step_of(entry)[0])):
            run.moments.setdefault(reached, at)


def frozen_at(entry: Mapping[str, Any]) -> datetime | None:
    """Return when what an entry names was stopped or paused; None if it was not."""
    at = entry.get("at")
    return moment(at) if at not in {None, "None"} else None


def _stood_at(entry: Mapping[str, Any]) -> datetime | None:
    """Return when what an entry names stood. A container that was killed, or had ended, did when it was written."""
    at = frozen_at(entry)
    return at if at or entry.get("denied") or entry["action"] != _PAUSED else moment(entry["utc"])


def seconds_taken(entries: Iterable[Mapping[str, Any]], until: datetime, *, contained: bool) -> dict[str, float | None]:
    """Return how many seconds an incident took, from when its first run was asked for.

    `contained_s` ends when the last process or container stood. It ends with the check that first found the workload
    contained after one that did not, or after a freeze that something was denied to. It is None unless it is
    `contained`. `total_s` ends with `until`. Both are None if no run says when it was asked for.

    `stopped_s` ends when the last process or container had ended at the latest, or stood again, that a grace let run
    after it stood. It is left out if none ran for more than a second.
    """
    began, last, doubted, ran_on = None, None, False, list[datetime]()
    for entry in entries:
        if began is None and "triggered" in entry:
            began = last = moment(entry["triggered"])
        elif last and entry["action"] in _HOLDS:
            last, doubted = max(last, _stood_at(entry) or last), doubted or bool(entry.get("denied"))
        elif last and entry["action"] in _ENDS and step_of(entry)[0] in _CHECKS:
            done = entry["action"] == "step done"
            last, doubted = max(last, moment(entry["utc"])) if done and doubted else last, not done
        elif entry["action"] == "stopped" and entry.get("ran_s", 0) > _SHORT_SECONDS:
            ran_on.append(moment(entry["ran_until"]))
    if began is None or last is None:
        return {"contained_s": None, "total_s": None}
    frozen, stopped, total = ((at - began).total_seconds() for at in (last, max([last, *ran_on]), until))
    shown = {"stopped_s": round(stopped, 3)} if contained and stopped > frozen else {}
    return {"contained_s": round(frozen, 3) if contained else None, **shown, "total_s": round(total, 3)}


def describe_ran_on(seconds: Mapping[str, float | None]) -> str:
    """Return that a grace let something run after all had stood, by the figures of `seconds_taken`; empty if not."""
    if (stopped := seconds.get("stopped_s")) is None:
        return ""
    stood = f"contained_s={seconds['contained_s']:.2f}"
    return f"{RAN_ON} after all stood ({stood}), until stopped_s={stopped:.2f} at the latest, and may have written"


def requests(entries: Iterable[Mapping[str, Any]]) -> int:
    """Return how many runs of an incident say when they were asked for."""
    return sum("triggered" in entry for entry in entries)


def took(facts: Mapping[str, Any], runs: int) -> str:
    """Return those figures that a record's facts have, for a person; after so many runs of the incident."""
    words = "  ".join(f"{name}={facts[name]:.2f}" for name in FIGURES if facts.get(name) is not None)
    return f"{words} since the incident's first request 最初の指示から" if words and runs > 1 else words


def _frozen_before(run: _Open, at: datetime | None) -> None:
    """Add a step for processes frozen before the run opened its log."""
    if at is None or at >= run.began:
        return
    early = [bar for bar in run.bars if bar.step == EARLY]
    began = min([at, *(bar.began for bar in early)])
    ended = max([at, *(bar.ended for bar in early)])
    run.bars = [bar for bar in run.bars if bar.step != EARLY]
    run.bars.append(Bar(EARLY, 1, began, ended, Course.DONE))


EARLY: Final = "§2 freeze before Prefect starts"


def moment(text: str | datetime) -> datetime:
    """Parse a time of the log."""
    return text if isinstance(text, datetime) else datetime.fromisoformat(text)


def in_order(bars: Iterable[Bar]) -> dict[str, list[Bar]]:
    """Return the attempts by step, ordered by section and start."""
    rows: dict[str, list[Bar]] = {}
    for bar in sorted(bars, key=lambda bar: (bar.section, bar.began)):
        rows.setdefault(bar.step, []).append(bar)
    return rows
