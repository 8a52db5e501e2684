"""Find what ties a process to the workload: code of the root's that it runs, or files and models that it holds."""

from collections.abc import Iterator
from pathlib import PurePath

from tasks.custody.containment.place import Place
from tasks.custody.visible import visible
from tasks.host.judgement.case import Case
from tasks.host.process.handles import Handles
from tasks.host.process.known_programs import HARMLESS, program, quotes
from tasks.host.process.matcher import WorkloadDescription, is_below
from tasks.host.process.membership import runs_from_root
from tasks.host.process.process import Process


def find_code(case: Case) -> str:
    """Return what of the workload's own a process runs; empty if nothing."""
    return next(_facts_of_code(case), "")


def _facts_of_code(case: Case) -> Iterator[str]:
    process, handles = case.process, case.handles
    if place := runs_from_root(process):
        yield f"{place} lies below the root"
    if handles.called_below and not (quotes(process) and handles.trusted):
        yield f"{Place.CALLED} lies below the root: {visible(handles.called)}"
    if _is_from_nowhere(process, handles, case.description):
        yield f"it was started by {visible(handles.called)}, as the workload is, and that is not where it works now"
    if handles.stdin in handles.below and program(process) not in HARMLESS:
        yield f"it reads its commands or data from a file below the root: {visible(handles.stdin)}"
    environment, code = case.look.environment, (process.executable, *sorted(handles.code))
    if environment and (file := next((each for each in code if is_below(each, environment)), "")):
        yield f"it runs code of the workload's environment: {visible(file)}"
    if below := sorted(handles.code & handles.below):
        yield f"it runs code that lies below the root: {visible(below[0])}"


def _is_from_nowhere(process: Process, handles: Handles, description: WorkloadDescription) -> bool:
    """Return whether it was started by a relative name of the workload's interpreter, and nothing tells whose that is.

    What it has mapped of an environment of that name tells.
    """
    if process.is_rooted or handles.called_found or handles.called not in description.interpreters:
        return False
    environment = f"/{PurePath(handles.called).parent.parent}/"
    return handles.called[0] != "/" and not any(environment in path for path in handles.code)


def find_held(case: Case, handles: Handles) -> str:
    """Return what of the workload's a process holds, by all of its `handles` or some; empty if nothing that ties it."""
    return next(_facts_of_hold(case, handles), "")


def _facts_of_hold(case: Case, handles: Handles) -> Iterator[str]:
    if written := sorted(handles.written & handles.below):
        yield f"it holds a file below the root open for writing: {visible(written[0])}"
    if handles.listens:
        yield f"it answers at a socket below the root: {visible(handles.listens)}"
    if handles.model and handles.mapped_model:
        yield f"it has a model mapped: {visible(handles.model)}"
    if handles.model and handles.volatile:
        yield f"it reads a model, and its program lies in memory or is deleted: {visible(handles.model)}"
    if handles.gpu and (case.process.is_rooted or handles.code & handles.below):
        yield f"it holds a GPU from inside the root: {visible(handles.gpu)}"
    if sockets := handles.sockets & case.look.sockets:
        yield f"it has a socket at which the workload listened: {min(sockets)}"
