"""Find all that is alive of the workload on this host, by its patterns and by facts of the kernel."""

import os
import sys
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final

from blocks.workload_fields import WorkloadFields
from tasks.adapters.host import Host
from tasks.containment.members import Snapshot, excluded_pids, excused_pids, find_members, own_pids, protected_pids
from tasks.containment.patterns import matchers, named
from tasks.custody.containment.membership import Member, protected
from tasks.custody.containment.process import Identity, Process, ancestry, descendants, family, pids_of
from tasks.custody.containment.survey import Survey, survey
from tasks.custody.containment.suspect import included, line_for
from tasks.custody.containment.traces import Facts, Traces
from tasks.incident.directory import cordon_base, homes
from tasks.incident.layout import CORDON, RECOVERED
from tasks.system.accounts import number_of
from tasks.system.atomic_files import identities
from tasks.system.process_traces import file_id
from tasks.system.processes import ticks

if TYPE_CHECKING:
    from tasks.runtime.context import RunContext

_OURS: Final = os.path.realpath(sys.prefix)


def look(host: Host, workload: WorkloadFields, visible: Snapshot, since: int, containers: Iterable[str] = ()) -> Survey:
    """Judge these processes. `since` is when the first was frozen, in clock ticks since boot.

    Reads open and mapped files, 0.2 ms a process: call it after a freeze, not before one.
    """
    root, us = PurePath(os.path.realpath(workload.root)), os.getpid()
    kept = excluded_pids(visible)
    called_ours = protected(visible, us) - ancestry(visible, [us]) - descendants(visible, [us]) - {1}
    asked = [each for pid, each in visible.items() if (pid not in kept or pid in called_ours) and each.user >= 0]
    facts = _facts(host, workload, root, asked)
    false = {each.pid for each in asked if each.pid in called_ours and not _runs_ours(facts.traces.get(each.identity))}
    return survey(visible, matchers(workload), root, kept - false, since, containers, named(workload), facts)


def _runs_ours(traces: Traces | None) -> bool:
    """Return whether a process that looks like a Prefect of our installation maps code of it: any may look so."""
    return traces is None or traces.denied or any(path.startswith(f"{_OURS}/") for path in traces.code)


def suggest_line(host: Host, workload: WorkloadFields, suspect: Process) -> str:
    """Return the block's line that makes a suspect a member, by its role; empty for one in a container.

    The role is training if it has the lock open, api if it listens, else worker.
    """
    traces, lock = host.traces([suspect]).get(suspect.identity, Traces()), os.path.realpath(workload.lock)
    if lock in traces.written | traces.read:
        return line_for(suspect, "training_pattern", workload.training_pattern)
    if host.ports([suspect.identity]):
        return line_for(suspect, "api_pattern", workload.api_pattern)
    return line_for(suspect, "worker_pattern", workload.worker_pattern)


def suspects_now(host: Host, workload: WorkloadFields, found: Collection[Identity]) -> list[tuple[Process, str]]:
    """Return the processes that a fact now ties to the workload, each with the fact, without its members (`found`)."""
    snapshot = host.snapshot()
    ours = {host.guard(cordon_base(workload) / CORDON), *identities(home / RECOVERED for home in homes(workload))}
    known = family(snapshot, ours) | pids_of(snapshot, found)
    suspects = look(host, workload, snapshot, ticks()).suspects
    return [(snapshot[who.pid], why) for who, why in suspects.items() if who.pid not in known]


def suspects_to_end(context: "RunContext", snapshot: Snapshot, frozen: Iterable[Identity]) -> dict[Identity, Member]:
    """Return the suspects that this run is asked to freeze and end too, each with the fact that ties it."""
    known = pids_of(snapshot, {*frozen, *find_members(context, snapshot)})
    settled = known | own_pids(context, snapshot)
    visible = {pid: process for pid, process in snapshot.items() if pid not in settled}
    found = look(context.adapters.host, context.workload, visible, context.state.since.read() or ticks())
    spared = protected_pids(context, snapshot) | excluded_pids(snapshot) | excused_pids(context, snapshot)
    return included(snapshot, found.suspects, known, context.directory.root, spared)


def suspects_at_a_glance(
    context: "RunContext",
) -> Callable[[Snapshot, Collection[int], Collection[int]], dict[Identity, Member]]:
    """Return a function that judges newcomers by what was read when they were found, because they may be gone already.

    Its arguments are a snapshot, the pids known as members, and the pids to spare.
    """
    facts = _facts(context.adapters.host, context.workload, context.directory.root, ())
    program = os.path.realpath(Path(context.directory.root, context.workload.interpreter))
    apart = matchers(context.workload)

    def tie(process: Process) -> str:
        if any(matcher.names(process) for matcher in apart):  # a member, or told apart by user or port
            return ""
        traces = Traces(program=facts.interpreter if process.executable == program else None)
        return replace(facts, traces={process.identity: traces}).tie(process, context.directory.root)

    def judge(snapshot: Snapshot, members: Collection[int], spared: Collection[int]) -> dict[Identity, Member]:
        asked = (process for pid, process in snapshot.items() if pid not in spared and pid not in members)
        found = {process.identity: fact for process in asked if (fact := tie(process))}
        ours = {*spared, *excused_pids(context, snapshot)} if found else ()
        return included(snapshot, found, members, context.directory.root, ours)

    return judge


def _facts(host: Host, workload: WorkloadFields, root: PurePath, processes: Iterable[Process]) -> Facts:
    interpreter = Path(root, workload.interpreter)
    environment, user = None, number_of(workload.user)
    with suppress(OSError):  # of a folder that we may not read nothing is known
        user = Path(root).stat().st_uid if user is None else user
        environment = _environment(interpreter, root, user)
    return Facts(environment, file_id(interpreter), user, host.traces(processes))


def _environment(interpreter: Path, root: PurePath, user: int | None) -> PurePath | None:
    """Return the workload's own virtual environment, links resolved; None for the system's Python, or for ours.

    The workload may link to another's: one outside the root must belong to root or to its own account.
    """
    folder = Path(os.path.realpath(interpreter.parent.parent))
    if folder in {Path(_OURS), Path(root)}:
        return None
    if folder.is_relative_to(root):
        return folder
    own = (folder / "pyvenv.cfg").is_file() or ((folder / "conda-meta").is_dir() and not (folder / "condabin").exists())
    return folder if own and folder.stat().st_uid in {0, user} else None
