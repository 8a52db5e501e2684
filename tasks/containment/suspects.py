"""Judge all that lives on this host beside a workload, by patterns and by facts of the kernel."""

import os
import sys
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final

from blocks.workload_fields import WorkloadFields
from tasks.containment.members import Membership, Snapshot, description_of, excluded_pids
from tasks.custody.containment.identity import Identity
from tasks.custody.evidence.pattern import of_root
from tasks.custody.incident.commands import line_without_file
from tasks.host.host import Host
from tasks.host.judgement.case import Look
from tasks.host.judgement.roster import Roster
from tasks.host.judgement.suspect import describe_with, keep_entries, line_for, line_for_starter, select_suspects
from tasks.host.process.handles import FileId, Handles
from tasks.host.process.known_programs import runs_inline_code
from tasks.host.process.membership import Exceptions, Member, runs_from_root
from tasks.host.process.places import file_id
from tasks.host.process.process import Process, ancestry, descendants, family, pids_of
from tasks.host.process.table import untouchable
from tasks.host.workload import interpreter_of
from tasks.incident.directory import cordon_base, homes
from tasks.incident.layout import CORDON, RECOVERED
from tasks.runtime.frozen import load_frozen
from tasks.system.accounts import accounts_of
from tasks.system.files.atomic_files import identities

if TYPE_CHECKING:
    from tasks.runtime.context import RunInfo

_OURS: Final = os.path.realpath(sys.prefix)
_MODELS: Final = 10_000


def take_roster(  # noqa: PLR0913  what is known beside the processes
    host: Host,
    workload: WorkloadFields,
    snapshot: Snapshot,
    exceptions: Exceptions,
    containers: Iterable[str] | None = (),
    *,
    shared: Iterable[str] = (),
    sockets: Iterable[str] = (),
    listed: frozenset[str] | None = None,
    accounts: Collection[int] = (),
) -> Roster:
    """Judge every process of a snapshot beside a workload, whose containers have `shared` folders of the host.

    At these `sockets` the workload listened when it was frozen. An engine has `listed` all containers that it knows.
    More `accounts` than those that are known may be the workload's.

    Reads open and mapped files, 0.3 ms a process: call it after a freeze, not before one.
    """
    us = os.getpid()
    above, helpers = ancestry(snapshot, [us]) - {us}, descendants(snapshot, [us])
    spared = (exceptions.ours - above) | helpers
    others = [each for pid, each in snapshot.items() if pid not in spared and each.user >= 0 and each.alive]
    accounts = accounts_of(workload.root, workload.user) | {*accounts}
    handles = host.handles(others, models_of(workload), accounts)
    ended = {each.pid for each in others if each.identity not in handles}
    # a process of another run, as one that keeps a deadline, has our interpreter; any may call itself so
    python, users = os.path.realpath(sys.executable), {0, os.geteuid()}
    near = above | {each.pid for each in others if each.user in users and each.executable == python}
    own = {pid for pid in near if _runs_ours(handles.get(snapshot[pid].identity))}
    root, environment = Path(workload.root), None
    with suppress(OSError):  # of a folder that we may not read nothing is known
        interpreter = root / interpreter_of(root, workload.interpreter)
        environment = _environment(interpreter, PurePath(os.path.realpath(root)), accounts)
    look = Look(
        handles=handles,
        ancestors=frozenset(above),
        own_programs=frozenset(own),
        helpers=frozenset(helpers),
        containers=None if containers is None else frozenset(containers),
        listed=listed,
        environment=environment,
        accounts=accounts,
        shared=tuple(map(PurePath, shared)),
        sockets=frozenset(sockets),
    )
    there = {pid: process for pid, process in snapshot.items() if pid not in ended}
    return Roster.judge(there, description_of(workload), exceptions, look)


def find_accounts(membership: Membership) -> frozenset[int]:
    """Return the uids of the workload: those that are known, and those of what was frozen.

    Code of root's own may be run by an account that owns nothing of it.
    """
    return accounts_of(membership.workload.root, membership.workload.user) | {
        each.user for each in load_frozen(membership.state).values()
    }


def models_of(workload: WorkloadFields) -> frozenset[FileId]:
    """Return the files of the workload's models, at most 10,000, as they are now."""
    paths = (path for pattern in of_root(workload.models) for path in workload.root.glob(pattern))
    return frozenset(file for path in islice(paths, _MODELS) if (file := file_id(path)))


def _runs_ours(handles: Handles | None) -> bool:
    """Return whether a process maps code of our installation: any may call itself so."""
    return handles is None or handles.denied or any(path.startswith(f"{_OURS}/") for path in handles.code)


def suggest_line(host: Host, workload: WorkloadFields, suspect: Process, roster: Roster) -> str:
    """Return the block's line that makes a suspect a member, by its role; empty if none does, as in a container.

    The role is training if it has the lock open, api if it listens, worker if its code is its parent's, else training;
    another one if that makes it none, as of a server on another port than the API's. Without a file, the answer.
    """
    if not suspect.container and (way := line_without_file(suspect.pid, "end")):
        return way
    handles, lock = host.handles([suspect]).get(suspect.identity, Handles()), os.path.realpath(workload.lock)
    role = "training"
    if lock not in handles.written | handles.read:
        if host.ports([suspect.identity]):
            role = "api"
        elif runs_inline_code(suspect.command):
            role = "worker"
    for each in dict.fromkeys((role, "training", "worker")):
        line = line_for(suspect, f"{each}_pattern", getattr(workload, f"{each}_pattern"))
        if line.startswith("units"):
            line = keep_entries(line, workload.units)
        with suppress(ValueError):  # it would fit anything
            if line and roster.would_belong(suspect, describe_with(roster, line)):
                return line
    return ""


def tell_starter(
    workload: WorkloadFields, process: Process, roles: Collection[str], roster: Roster | None = None
) -> str:
    """Return how the block can name what has started members of these roles; empty if it has started none.

    With a roster these live, and it is tried there. Without a file no block can name it.
    """
    if line_without_file(process.pid, "end"):
        return ""
    role = next((each for each in ("api", "training", "worker") if each in roles), "training")
    line = line_for_starter(process, f"{role}_pattern", getattr(workload, f"{role}_pattern")) if roles else ""
    if roster and line and not roster.would_belong(process, describe_with(roster, line)):
        line = ""
    allowed = "" if workload.stop_supervisors or not roles else "stop_supervisors = true"
    ways = ", or ".join(filter(None, (line, allowed)))
    return f"process {process.pid} has started the workload's own ワークロードの起動元: {ways}" if ways else ""


def roster_now(
    host: Host,
    workload: WorkloadFields,
    containers: Iterable[str] | None = (),
    excused: frozenset[Identity] = frozenset(),
    *,
    shared: Iterable[str] = (),
) -> Roster:
    """Judge the host as it is now, beside these containers, without a run: for the doctor, the status, a deployment.

    `containers` are None if the engine does not tell them. A person has called the `excused` bystanders.
    """
    snapshot = host.snapshot()
    ours = {host.guard(cordon_base(workload) / CORDON), *identities(home / RECOVERED for home in homes(workload))}
    exceptions = Exceptions(frozenset(untouchable(snapshot) | family(snapshot, ours)), excused=excused)
    return take_roster(host, workload, snapshot, exceptions, containers, shared=shared)


def suspects_to_end(
    membership: Membership, run: "RunInfo", snapshot: Snapshot, frozen: Iterable[Identity]
) -> dict[Identity, Member]:
    """Return the suspects and the unknown that this run is asked to freeze and end too, each with the reason."""
    known = pids_of(snapshot, {*frozen, *membership.members(snapshot)})
    roster = take_roster(membership.host, membership.workload, snapshot, membership.exceptions(snapshot))
    found = roster.suspects if run.includes_suspects else {}
    found |= roster.unknown if run.ends_unknown else {}
    return select_suspects(snapshot, found, known, membership.spared_pids(snapshot) | excluded_pids(snapshot))


def suspects_at_a_glance(
    membership: Membership, run: "RunInfo"
) -> Callable[[Snapshot, Collection[int], Collection[int]], dict[Identity, Member]]:
    """Return a function that judges newcomers by what was read when they were found, because they may be gone already.

    Its arguments are a snapshot, the pids known as members, and the pids to spare.
    """
    root = membership.description.root
    program = os.path.realpath(Path(root, interpreter_of(root, membership.workload.interpreter)))

    def tie(process: Process) -> str:
        if place := runs_from_root(process):
            return f"{place} lies below the root"
        works = process.is_rooted and process.executable == program
        return "it works in the root with the workload's interpreter" if works else ""

    def judge(snapshot: Snapshot, members: Collection[int], spared: Collection[int]) -> dict[Identity, Member]:
        if not run.includes_suspects:
            return {}
        candidates = (process for pid, process in snapshot.items() if pid not in spared and pid not in members)
        found = {process.identity: fact for process in candidates if (fact := tie(process))}
        ours = {*spared, *membership.excused_pids(snapshot)} if found else ()
        return select_suspects(snapshot, found, members, ours)

    return judge


def _environment(interpreter: Path, root: PurePath, users: Collection[int]) -> PurePath | None:
    """Return the workload's own virtual environment, links resolved; None for the system's Python, or for ours.

    The workload may link to another's: one outside the root must belong to root or to an account of its own.
    """
    folder = Path(os.path.realpath(interpreter.parent.parent))
    if folder in {Path(_OURS), Path(root)}:
        return None
    if folder.is_relative_to(root):
        return folder
    try:
        own = (folder / "pyvenv.cfg").is_file() or (
            (folder / "conda-meta").is_dir() and not (folder / "condabin").exists()
        )
        return folder if own and folder.stat().st_uid in {0, *users} else None
    except OSError:  # one that we may not look into may be its own
        return folder
