"""The plan of a dry run: what a real one would do, to whom and why, in the order in which it would be done."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

Row = dict[str, str]
_COLLECT: Final = "§4 collect "
_DONE: Final = frozenset({"step done", "step incomplete"})
_SIGNAL: Final = "SIG"
_FREEZES: Final = "SIGSTOP"


def plan(entries: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Rows of a table, made from the custody log of the dry run."""
    known = list(entries)
    found = {entry["object"]: entry for entry in known if entry["action"] == "frozen"}
    rows = (_row(entry, found) for entry in known)
    return [row for row in rows if row]


def _row(entry: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]) -> Row | None:
    act, subject = str(entry.get("act", "")), str(entry["object"])
    if entry["action"] == "frozen":
        return {"act": "freeze", "on": f"{subject}: {entry['command']}", "why": f"{entry['role']}: {entry['why']}"}
    if entry["action"] in _DONE and subject.startswith(_COLLECT):
        return {"act": "collect", "on": subject.removeprefix(_COLLECT), "why": str(entry.get("result", ""))}
    if entry["action"] != "would" or act == _FREEZES:
        return None
    if act.startswith(_SIGNAL) and (process := found.get(subject)):
        return {"act": act, "on": f"{subject}: {process['command']}", "why": str(process["role"])}
    return {"act": act, "on": subject, "why": str(entry.get("why", ""))}
