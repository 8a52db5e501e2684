"""Decide which suspects are ended with the workload on request, and how a block names a suspect."""

import json
import re
from collections.abc import Collection, Mapping
from itertools import takewhile
from pathlib import PurePath
from typing import Final

from tasks.custody.containment.membership import Member, rooted
from tasks.custody.containment.process import Identity, Process, descendants, parents_first
from tasks.custody.containment.program import quotes
from tasks.custody.containment.service import unit_of
from tasks.custody.containment.source import keeps_only, may_be_ended
from tasks.custody.containment.survey import STARTED
from tasks.custody.evidence.redact import command_line

SUSPECT: Final = "suspect"
"""The role of a process that is ended because of a fact, and matches no pattern."""
_SHOWN: Final = 60


def included(
    snapshot: Mapping[int, Process],
    suspects: Mapping[Identity, str],
    members: Collection[int],
    root: PurePath,
    protected_pids: Collection[int],
) -> dict[Identity, Member]:
    """Return the suspects to end, with the fact that ties each, and their descendants, parents first.

    Suspects that hold others' or a person's work are only reported: those in a container, a Prefect worker, one with a
    child that nothing ties to the workload, or one just started there by hand.
    """
    facts = {who.pid: fact for who, fact in suspects.items() if who.pid not in {*members, *protected_pids}}
    tied = {pid for pid, process in snapshot.items() if rooted(process, root) and may_be_ended(process)} - {
        *protected_pids
    }
    tied |= facts.keys() | {*members}
    chosen = {
        pid
        for pid, fact in facts.items()
        if not snapshot[pid].container
        and may_be_ended(snapshot[pid])
        and keeps_only(snapshot, pid, tied)
        and not (fact == STARTED and _by_a_person(snapshot.get(snapshot[pid].parent)))
    }
    everyone = chosen | descendants(snapshot, chosen)
    return {
        snapshot[pid].identity: Member(SUSPECT, facts.get(pid) or f"child of {snapshot[pid].parent}")
        for pid in parents_first(snapshot, everyone - {*members} - {*protected_pids})
        if snapshot[pid].alive and not snapshot[pid].container
    }


def _by_a_person(parent: Process | None) -> bool:
    """Return whether the parent is an interactive shell."""
    return parent is not None and quotes(parent) and not may_be_ended(parent)


def line_for(process: Process, field: str, current: str) -> str:
    """Return the block's line that makes a suspect a member: its unit, else `field`, widened from its `current` value.

    Empty for one in a container, whose name is not known here.
    """
    if process.container:
        return ""
    if unit := unit_of(process.cgroup):
        return f'units = ["{unit}"]'
    wider = f"{current}|{_pattern(process)}"
    quoted = json.dumps(wider) if "'" in wider else f"'{wider}'"
    return f"{field} = {quoted}"


def advice(process: Process, line: str) -> str:
    """Return how to name a suspect in the workload block: by `line` if it belongs to the workload, and if it does not.

    `line` is that of `line_for`.
    """
    if not line:
        return f"{process.pid}: add its container to `containers`. コンテナを containers に追加してください。"
    return (
        f"{process.pid} is a suspect. If it belongs to the workload: {line}, or suspects=include; "
        f"if not: bystanders = ['{_pattern(process)}']. "
        "ワークロードの一部なら前者を、無関係なら bystanders をブロックに追加してください。"
    )


def _pattern(process: Process) -> str:
    """Return a regular expression for the start of its command line, cut before anything that looks secret."""
    both = zip(process.line[:_SHOWN], command_line(process.command), strict=False)
    told = "".join(letter for letter, _ in takewhile(lambda pair: pair[0] == pair[1], both))
    return "^" + re.escape(told).replace("\\ ", " ").replace("'", ".")
