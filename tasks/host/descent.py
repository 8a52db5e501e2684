"""Track all descendants of the processes that a stop ends, orphans included (runbook §3).

See docs/adr/0005.
"""

import os
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final, Self

from tasks.custody.containment.identity import Identity
from tasks.host.host import Host
from tasks.host.process.process import Process, family, parents_first
from tasks.host.process.table import start_of
from tasks.host.short_lived import NO_PID

_PAUSE_SECONDS: Final = 0.002
_SHARE: Final = 4


class DescendantTracker:
    """All descendants of some processes, collected by a thread while the context is open.

    A descendant is one whose parent, or leader of process group or session, is known. Known ones are kept, because an
    orphan's parent is lost. Groups that contain strangers, such as the next program of a shell's pipeline, prove
    nothing.
    """

    def __init__(self, host: Host, first: Iterable[Identity]) -> None:
        """Begin with the processes to be ended."""
        self._host = host
        self._known = {identity.pid: identity for identity in first}
        self._shared = {os.getpgrp(), os.getsid(0)}  # a workload's hook may have started us: then it shares ours
        snapshot = host.snapshot()
        strangers = snapshot.keys() - family(snapshot, {*self._known.values()})
        # groups that a shell made of several programs; a session has only descendants of its leader
        self._shared |= {snapshot[pid].group for pid in strangers if snapshot[pid].group != snapshot[pid].session}
        self._one_at_a_time, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        """Start looking."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._over.set()
        self._thread.join()

    @property
    def descendants(self) -> dict[int, Identity]:
        """Descendants found so far, by the pid that is or was theirs."""
        return dict(self._known)

    def add(self, processes: Mapping[int, Process]) -> None:
        """Add those of these processes that descend from a known one."""
        with self._one_at_a_time:
            for pid in parents_first(processes, processes):
                process = processes[pid]
                leaders = {process.group, process.session} - self._shared
                above = (self._known.get(number) for number in (process.parent, *leaders))
                older = (identity for identity in above if identity and identity.start <= process.identity.start)
                if any(map(_not_another, older)):
                    self._known[pid] = process.identity

    def _look(self) -> None:
        last, pause = self._host.births(NO_PID)[0], 0.0
        while not self._over.wait(pause):
            began = time.monotonic()
            last, new = self._host.births(last)
            self.add({process.pid: process for process in new})
            pause = max(_PAUSE_SECONDS, (time.monotonic() - began) * (_SHARE - 1))


def _not_another(identity: Identity) -> bool:
    """Return whether no other process has this one's pid now."""
    with suppress(ProcessLookupError):
        return start_of(identity.pid) == identity.start
    return True
