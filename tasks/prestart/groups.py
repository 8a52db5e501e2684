"""Freeze the control groups that hold the workload alone, where they are. Standard library alone."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping

from tasks.adapters.host import Host
from tasks.custody.containment.groups import alone, path_of
from tasks.custody.containment.process import Identity, Process

Find = Callable[[Mapping[int, Process]], Iterable[Identity]]


def freeze_in_place(
    host: Host,
    snapshot: Mapping[int, Process],
    find: Find,
    note: Callable[[list[str]], object],
    known: Collection[str] = (),
) -> list[str]:
    """Freeze each group that holds nobody but those whom `find` finds; return the paths of those that stand.

    `note` writes the paths down before anything is done. What somebody else has frozen is left alone, and a group that
    a stranger has come into meanwhile is let go again. Those that are `known` are not looked at.
    """
    paths = _alone(snapshot, find).difference(known)
    found = {path: group for path in paths if (group := host.group(path)) and not group.frozen}
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
    return alone({who.pid for who in find(snapshot)}, paths, paths.get(os.getpid(), ""))
