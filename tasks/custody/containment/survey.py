"""Survey the host for processes of the workload: matches, suspects, and what only resembles it (runbook §3)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

from tasks.custody.containment.membership import NOTHING_NAMED, Matcher, Named, excused, only_quotes, rooted
from tasks.custody.containment.process import Identity, Process
from tasks.custody.containment.service import unit_of
from tasks.custody.containment.traces import NO_FACTS, Facts

STARTED: Final = "it was started in the root after the freeze"


@dataclass(frozen=True)
class Survey:
    """What a survey of the whole host says about the workload.

    `alive` contradicts "nothing of the workload runs", with the reason. `suspects` are those of `alive` that match no
    pattern, with the fact that ties each to the workload. `bystanders` only match or only work in the root: left alone,
    but reported. `excused` are the block's `bystanders`, and shells and editors, that one of these would apply to.
    `unread` may not be inspected.
    """

    alive: dict[Identity, str]
    bystanders: tuple[Process, ...]
    suspects: Mapping[Identity, str] = field(default_factory=dict)
    excused: tuple[Process, ...] = ()
    unread: tuple[Process, ...] = ()


def survey(  # noqa: PLR0913, PLR0917  each is one thing that a look depends on
    snapshot: Mapping[int, Process],
    matchers: Iterable[Matcher],
    root: PurePath,
    excluded_pids: Iterable[int],
    since: int,
    containers: Iterable[str] = (),
    named: Named = NOTHING_NAMED,
    facts: Facts = NO_FACTS,
) -> Survey:
    """Find processes of the workload on the host. `since` is the first freeze in clock ticks since boot.

    Processes in one of the given `containers` are left to the containers' check. A match in an unnamed container is
    reported. Excluded processes that match are reported too: excluding them does not make them harmless. Shells and
    editors are not the workload's, but one of another user that matches is reported, as its executable is not readable.
    A process that a matcher rejects only by user or port is reported, whatever else ties it.
    """
    known, untouchable, inside_of = tuple(matchers), frozenset(excluded_pids), frozenset(containers)
    excused_pids = excused(snapshot, known, root, named)
    alive: dict[Identity, str] = {}
    suspects: dict[Identity, str] = {}
    bystanders, left, unread = [], [], []
    for process in snapshot.values():
        if not process.alive or process.container in inside_of:
            continue
        fits, inside = any(matcher.fits(process) for matcher in known), rooted(process, root)
        excluded = process.pid in untouchable
        told_apart = not fits and any(matcher.names(process) for matcher in known)
        tie = "" if excluded or told_apart else facts.tie(process, root)
        if process.pid in excused_pids:
            left += [process] if not excluded and (fits or inside or tie) else []
        elif only_quotes(process, root) and unit_of(process.cgroup) not in named.units:
            bystanders += [process] if fits and process.placeless else []
            left += [process] if not excluded and (inside or tie) else []
        elif reason := _contradiction(process, fits, inside, excluded, named):
            alive[process.identity] = reason
        elif fact := _suspicion(process, inside and not excluded, since, tie):
            suspects[process.identity] = fact
        else:
            bystanders += [process] if fits != inside and not excluded else []
            unread += [process] if not excluded and facts.unread(process, root) else []
    return Survey(alive | suspects, tuple(bystanders), suspects, tuple(left), tuple(unread))


def _contradiction(process: Process, fits: bool, inside: bool, excluded: bool, named: Named) -> str:  # noqa: FBT001
    if fits and inside:
        if process.container:
            return f"it matches, {_in_a_container(process.container)}"
        return "it is protected, and matches" if excluded else "it matches"
    if process.container:
        return ""
    if fits and process.placeless:
        return f"it matches, is user {process.user}'s, and its working directory is not readable"
    if named.units and not excluded and (unit := unit_of(process.cgroup)) in named.units:
        return f"it sits in {unit}, which `units` names"
    return ""


def _suspicion(process: Process, inside: bool, since: int, tie: str) -> str:  # noqa: FBT001
    if process.container:
        return tie and f"{tie}, {_in_a_container(process.container)}"
    return tie or (STARTED if inside and process.identity.start >= since else "")


def _in_a_container(container: str) -> str:
    return (
        f"in container {container[:12]}, which the workload block does not name; "
        f"add it to `containers`: docker ps --filter id={container[:12]} tells its name"
    )
