"""Build the plan of a dry run: what a real run would do, to what and why; first what needs attention."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from tasks.custody.evidence.acquisition import Outcome
from tasks.custody.incident.steps import step_of
from tasks.custody.models.inspection import Soundness
from tasks.host.judgement.match_elsewhere import ELSEWHERE
from tasks.host.judgement.suspect import count_more

PLAN_FILE: Final = "plan.txt"
"""In the record of a dry run: the plan, a row a line."""
Row = dict[str, str]
_PlanKey = tuple[str, str, str]
_FROZEN: Final = "frozen"
_PAUSED: Final = "container paused"
_ACT_OF_ACTION: Final = {
    "suspect": "name",
    "unknown": "ask about",
    "writes": "name",
    "excused": "leave alone",
    "parent lives": "not end",
    "starter": "not end",
    "port unchecked": "not check",
}
_SHORT: Final = 12
_NAMED: Final = 3
_ACTS = ("name", "ask about", "not end", "keep out of", "add nothing", "lack", "not check", "not prove", "leave alone")
_PROCESS: Final = re.compile(r"\d+: (?P<command>.*)", re.DOTALL)
_ATTENTION: Final = tuple(f"would {act}" for act in _ACTS)
"""Rows that a person should look at before all others, in this order."""


def plan(entries: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Build the rows of the plan from a dry run's custody log: what needs attention, then the acts in their order."""
    every = [each for entry in entries for each in (entry, *_unchanged_entries(entry))]
    members = {entry["object"]: entry for entry in every if entry["action"] == _FROZEN}
    members |= {entry["object"][:_SHORT]: entry for entry in every if entry["action"] == _PAUSED}
    sizes: dict[_PlanKey, int] = {}
    for entry in every:
        if row := _row(entry, members):
            sizes[f"would {row['act'].removeprefix('would ')}", row["on"], row["why"]] = entry.get("size", 0)
    rows = sorted(_fold_rows(sizes), key=lambda row: _rank(row[0]))
    return [{"act": act, "on": on, "why": why} for act, on, why in rows]


def _fold_rows(sizes: Mapping[_PlanKey, int]) -> list[_PlanKey]:
    """Merge rows of the same act on many files of a folder, and on suspects outside of the root that are alike.

    Other rows that need attention stay single.
    """
    alike: dict[_PlanKey, list[_PlanKey]] = {}
    suspects: dict[_PlanKey, list[_PlanKey]] = {}
    for act, on, why in sizes:
        if act == "would name" and ELSEWHERE in why and (found := _PROCESS.fullmatch(on)):
            suspects.setdefault((act, found["command"], why.partition(ELSEWHERE)[0]), []).append((act, on, why))
            continue
        folder = on.rpartition("/")[0] if "/" in on and _rank(act) == len(_ATTENTION) and ": " not in on else on
        alike.setdefault((act, folder, why), []).append((act, on, why))
    rows = [row for of, rows in alike.items() for row in ([_fold(*of, rows, sizes)] if len(rows) > _NAMED else rows)]
    return [*map(_fold_processes, suspects.values()), *rows]


def _fold_processes(rows: Sequence[_PlanKey]) -> _PlanKey:
    """Return the first of processes of one command line and reason, with how many are like it."""
    act, on, why = rows[0]
    return act, on, why + count_more([each.partition(":")[0] for _, each, _ in rows[1:]])


def _fold(act: str, folder: str, why: str, rows: Iterable[_PlanKey], sizes: Mapping[_PlanKey, int]) -> _PlanKey:
    names = [on.removeprefix(f"{folder}/") for _, on, _ in rows]
    size = sum(sizes[row] for row in rows)
    of = f", {size:,} bytes" if size else ""
    return act, f"{folder}/: {len(names)} files{of}: {', '.join(names[:_NAMED])}, …", why


def needs_attention(row: Row) -> bool:
    """Return whether a person should look at this row first."""
    return _rank(row["act"]) < len(_ATTENTION)


def as_text(rows: Iterable[Row]) -> str:
    """Format the plan as text: one row a line, `!` before rows that need attention."""
    lines = (f"{'!' if needs_attention(row) else ' '} {row['act']}  {row['on']}  {row['why']}".rstrip() for row in rows)
    return "".join(f"{line}\n" for line in lines)


def _rank(act: str) -> int:
    return next((at for at, name in enumerate(_ATTENTION) if act.startswith(name)), len(_ATTENTION))


def _unchanged_entries(entry: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield what a transaction of latest/ leaves unchanged. Only its own entry tells that."""
    for act, keys in entry.get("left", {}).items():
        yield from ({"action": "would", "object": key, "act": act} for key in keys)


def _row(entry: Mapping[str, Any], members: Mapping[str, Mapping[str, Any]]) -> Row | None:
    act, subject, why = str(entry.get("act", "")), str(entry["object"]), str(entry.get("why", ""))
    match entry["action"]:
        case action if action in {_FROZEN, _PAUSED}:
            return _first(entry)
        case action if action in _ACT_OF_ACTION:
            on = f"{subject}: {entry['command']}" if "command" in entry else subject
            line = f"; if it belongs to the workload: {entry['line']}" if entry.get("line") else ""
            return {"act": _ACT_OF_ACTION[action], "on": on, "why": f"{why}{line}"}
        case "step done" | "step incomplete" as end:
            (step_id, of), result = step_of(entry), str(entry.get("result", ""))
            found = "find nothing of" if result.startswith((Outcome.EMPTY, Outcome.MISSING)) else "collect"
            row = {"act": found if end == "step done" else "lack", "on": of, "why": result}
            return row if step_id == "collect" else None
        case "model judged":
            finding, goes = str(entry["result"]), entry.get("latest", True)
            let = "let into latest/ if it is proven" if goes else "keep as evidence, not in latest/,"
            is_sound = finding.startswith(f"{subject} is {Soundness.SOUND}")
            judged = let if is_sound else "keep out of latest/ and of recovery"
            return {"act": judged, "on": subject, "why": finding.removeprefix(f"{subject} is ")}
        case "would" | "not promoted" if act not in {"SIGSTOP", "pause the container"}:
            return _further(act, members[subject]) if subject in members else {"act": act, "on": subject, "why": why}
    return None


def _further(act: str, member: Mapping[str, Any]) -> Row:
    """Build the row of a later act on a process or container of the workload."""
    first = _first(member)
    sent = "send " if act.startswith("SIG") else ""
    return {"act": f"{sent}{act}", "on": first["on"], "why": first["why"].partition(":")[0]}


def _first(entry: Mapping[str, Any]) -> Row:
    """Build the row of the first act on a process or container, with the reason why it belongs to the workload."""
    if entry["action"] == _FROZEN:
        seconds = entry.get("ran_seconds")  # ending a week of training is another decision than ending a minute
        age = "" if seconds is None else f", has run for {timedelta(seconds=round(seconds))}"
        why = f"{entry['role']}: {entry['why']}{age}"
        return {"act": "freeze", "on": f"{entry['object']}: {entry['command']}", "why": why}
    subject = f"container {entry['name']} ({entry['object'][:_SHORT]}, {entry['image']})"
    return {"act": "pause", "on": subject, "why": f"container: {entry['why']}"}
