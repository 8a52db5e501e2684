"""Decide whether short-lived processes contradict containment when no living one was found."""

from collections.abc import Container, Iterable, Mapping
from typing import Final

from tasks.custody.containment.membership import runs_from_root
from tasks.custody.containment.process import Identity, Process
from tasks.custody.containment.program import quotes
from tasks.custody.containment.workload import WorkloadDescription

_ENOUGH: Final = 3


def come_and_gone(
    passed: Iterable[Process],
    snapshot: Mapping[int, Process],
    description: WorkloadDescription,
    excluded_pids: Container[int],
) -> dict[Identity, str]:
    """Return short-lived processes that contradict "nothing of the workload runs", with reasons; none if under three.

    This detects a chain of forks in which each generation ends before it can be stopped. Unmatched processes that a
    living shell runs in the root are a person's and do not count.
    """
    found = {
        process.identity: fact for process in passed if (fact := _fact(process, snapshot, description, excluded_pids))
    }
    return found if len(found) >= _ENOUGH else {}


def _fact(
    process: Process, snapshot: Mapping[int, Process], description: WorkloadDescription, excluded_pids: Container[int]
) -> str:
    if process.pid in excluded_pids or process.container or quotes(process):
        return ""
    if description.recognises(process):
        return "it matches"
    parent = snapshot.get(process.parent)
    if parent is not None and parent.alive and quotes(parent):
        return ""
    if place := runs_from_root(process):
        return f"{place} lies below the root"
    return "it worked in the root" if process.rooted else ""
