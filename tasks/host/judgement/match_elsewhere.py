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
    if handles.lost:
        yield "it matches, and its working directory is deleted"
    if covered := find_covered(case):
        yield f"it matches, and is in what has the root's name and is not the root: {visible(covered)}"
    if place := find_shared(case, [process.cwd, script_of(process.command)]):
        yield f"it matches, and is in what is collected from a container: {visible(place)}"
    if handles.denied or case.unread:
        yield "it matches, and may not be looked into"
    # A worker process has no script of its own: it is its parent's, as long as that lives.
    if case.has_parent and case.description.roles(process) == {"worker"}:
        return
    if not handles.resolved:
        yield "it matches, and its program or script is found nowhere"
    if path := find_beside(case):
        yield f"it matches, and lies beside the folder to which a link of the root's path leads: {visible(path)}"
    if not _was_elsewhere(case):
        yield "it matches, and is older than the root as it is named now, which may have been another's name"


def _was_elsewhere(case: Case) -> bool:
    """Return whether a process that works elsewhere now was not in the root when it was started.

    The root's path has led to the root since before; or its own folder has had its name since before, and no link of
    the root's path was moved since; or it was called at its start by a name that leads there now. To one in a container
    only mounts lead, which are judged with that, if the engine tells.
    """
    start, named, handles = case.process.identity.start, case.look.named, case.handles
    if case.process.container and case.look.containers is not None:
        return start > case.look.born
    since = max(case.look.born, named.folders, named.links)
    return start > since or handles.named_apart or start > max(named.links, handles.placed)


def find_beside(case: Case) -> str:
    """Return what of a process lies where an earlier release may: the root may have been that folder's name."""
    process = case.process
    words = (process.cwd, process.executable, case.handles.called, script_of(process.command))
    targets = case.look.named.targets
    return next((word for word in words if any(target.is_beside(word) for target in targets)), "")


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
