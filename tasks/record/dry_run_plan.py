"""Build the plan of a dry run: what a real one would do, to whom and why, in the order of the acts."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from tasks.custody.incident.steps import step_of

Row = dict[str, str]
_DONE: Final = frozenset({"step done", "step incomplete"})
_FREEZES: Final = frozenset({"SIGSTOP", "pause the container"})
_FROZEN: Final = "frozen"
_PAUSED: Final = "container paused"
_TOLD: Final = {"suspect": "name", "excused": "leave alone"}
_SHORT: Final = 12


def plan(entries: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Rows of a table, made from the custody log of the dry run."""
    known = [each for entry in entries for each in (entry, *_left(entry))]
    found = {entry["object"]: entry for entry in known if entry["action"] == _FROZEN}
    found |= {entry["object"][:_SHORT]: entry for entry in known if entry["action"] == _PAUSED}
    rows = (_row(entry, found) for entry in known)
    return [dict(row) for row in dict.fromkeys(tuple(row.items()) for row in rows if row)]


def _left(entry: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What a turn of latest/ leaves as it is: told by the turn, for no door is asked for that."""
    for act, keys in entry.get("left", {}).items():
        yield from ({"action": "would", "object": key, "act": act} for key in keys)


def _row(entry: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]) -> Row | None:
    act, subject = str(entry.get("act", "")), str(entry["object"])
    if entry["action"] in {_FROZEN, _PAUSED}:
        return _first(entry)
    if told := _TOLD.get(entry["action"]):
        return {"act": told, "on": f"{entry['object']}: {entry['command']}", "why": str(entry["why"])}
    step_id, of = step_of(entry)
    if entry["action"] in _DONE and step_id == "collect":
        return {"act": step_id, "on": of, "why": str(entry.get("result", ""))}
    if entry["action"] != "would" or act in _FREEZES:
        return None
    if member := found.get(subject):
        first = _first(member)
        return {"act": act, "on": first["on"], "why": first["why"].partition(":")[0]}
    return {"act": act, "on": subject, "why": str(entry.get("why", ""))}


def _first(entry: Mapping[str, Any]) -> Row:
    """What is done first to a member of the workload, and why it is one."""
    if entry["action"] == _FROZEN:
        return {
            "act": "freeze",
            "on": f"{entry['object']}: {entry['command']}",
            "why": f"{entry['role']}: {entry['why']}",
        }
    told = f"container {entry['name']} ({entry['object'][:_SHORT]}, {entry['image']})"
    return {"act": "pause", "on": told, "why": f"container: {entry['why']}"}
