"""Find reasons to doubt that what matches a pattern, and is not in the root, is another workload."""

from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import Final

from tasks.custody.visible import visible
from tasks.host.judgement.case import Case
from tasks.host.process.known_programs import script_of
from tasks.host.process.matcher import is_below

ELSEWHERE: Final = "; it is not in the root: it works in "
"""Stands in a reason before the folder and the account of a process that nothing ties to the root."""
_FIND_OUT: Final = "Find out first whose it is, before you stop it 止める前に持ち主を確認"


def find_doubt(case: Case) -> str:
    """Return why a match outside of the root may still be the workload; empty if it is another's."""
    return next(_doubts(case), "")


def _doubts(case: Case) -> Iterator[str]:
    process, handles = case.process, case.handles
    if named := handles.names_root or handles.began_there:
        yield f"it matches, and names the root: {visible(named)}"
    if covered := find_covered(case):
        yield f"it matches, and is in what has the root's name and is not the root: {visible(covered)}"
    if handles.lost:
        yield "it matches, and its working directory is deleted, or is not what its name leads to"
    if place := find_shared(case, [process.cwd, script_of(process.command)]):
        yield f"it matches, and is in what is collected from a container: {visible(place)}"
    if handles.denied or case.unread or not process.cwd:
        yield "it matches, and may not be looked into"
    # A worker process has no script of its own: it is its parent's, as long as that lives.
    is_its_parents = case.has_parent and case.description.roles(process) == {"worker"}
    if not handles.resolved and not is_its_parents:
        yield "it matches, and its program or script is found nowhere"


def describe_owner(case: Case) -> str:
    """Return where a process of which nothing ties it to the root works, and as whom; empty of one that names the root.

    It counts as alive all the same; but nobody is to end another's process because its command line matches.
    """
    process, handles = case.process, case.handles
    if handles.names_root or handles.began_there or is_below(handles.lost, PurePath(case.description.root)):
        return ""
    where = visible(process.cwd) if process.cwd else "a folder that is not readable"
    return f"{ELSEWHERE}{where} as user {process.user}. {_FIND_OUT}"


def find_covered(case: Case) -> str:
    """Return the folder or program of a process that lies below the root's name but not below the root.

    A mount came over it: the kernel goes on calling by that name what it covers. In a container the name is another's.
    """
    process = case.process
    texts = () if process.is_rooted or process.container else (process.cwd, process.executable)
    return next((text for text in texts if is_below(text, PurePath(case.description.root))), "")


def find_shared(case: Case, paths: Iterable[str]) -> str:
    """Return the first of these paths that lies in a folder which a container of the workload has too.

    What runs in a container has paths of its own, and is judged by its mounts.
    """
    shared = () if case.process.container else case.look.shared
    return next((path for path in paths if any(is_below(path, each) for each in shared)), "")
