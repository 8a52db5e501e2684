"""Freeze the control groups that hold only the workload, where they are. Standard library alone."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping

from tasks.custody.containment.identity import Identity
from tasks.host.cgroup.ownership import alone, path_of
from tasks.host.host import Host
from tasks.host.process.process import Process

Find = Callable[[Mapping[int, Process]], Iterable[Identity]]


def freeze_in_place(
    host: Host,
    snapshot: Mapping[int, Process],
    find: Find,
    note: Callable[[list[str]], object],
    known: Collection[str] = (),
) -> list[str]:
    """Freeze each group that holds only processes that `find` finds; return the paths of the groups that are frozen.

    `note` is called with the paths before anything is done. A group that is frozen already is left alone, and one that
    another process enters meanwhile is thawed again. Groups in `known` are skipped.
    """
    paths = _alone(snapshot, find).difference(known)
    found = {path: group for path in paths if (group := host.group(path)) and not group.is_frozen}
    if not found:
        return []
    note(list(found))
    refused = {path for path, group in found.items() if group.freeze()}
    wrong = refused | (found.keys() - _alone(host.snapshot(), find))
    for path in wrong:
        found[path].thaw()
    stand = [path for path in found if path not in wrong]
    if wrong:
        note(stand)
    return stand


def _alone(snapshot: Mapping[int, Process], find: Find) -> frozenset[str]:
    paths = {pid: path_of(process.cgroup) for pid, process in snapshot.items() if process.alive}
    return alone({identity.pid for identity in find(snapshot)}, paths, paths.get(os.getpid(), ""))
