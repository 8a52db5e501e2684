"""Hand what the worker knows and has frozen to the process of the run: facts, early freeze, the open lock file.

The worker listens at an abstract socket, whose name only the run's environment holds. It closes its own copy of the
lock file once the run has answered or failed, so that the lock is never free before: a flock belongs to the open file.
"""

import json
import os
import socket
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from dataclasses import astuple, replace
from datetime import datetime
from pathlib import Path
from threading import Thread
from typing import Any, Final

from tasks.custody.containment.identity import ContainerIdentity, Identity
from tasks.custody.visible import say
from tasks.host.file_lock import peer_of
from tasks.incident.run_lock import take_from
from tasks.prestart.journal import EarlyFreeze, close_lock, forget_unkept, keep, note_unkept, unkept

VARIABLE: Final = "EVACUATION_HAND_OVER"
_ANSWER_SECONDS: Final = 60.0
_BLOCK: Final = 1 << 16
_TAKEN: Final = b"\1"


class HandOver:
    """The worker's end: what it offers under this name, once, until it is closed."""

    def __init__(self, facts: Mapping[str, Any], early: EarlyFreeze | None) -> None:
        """Listen from now on. Raises OSError if no socket can be had, TypeError if facts are no JSON values."""
        self.name = f"evacuation-run-{os.urandom(16).hex()}"
        self._content, self._early = json.dumps([facts, _serialize(early)]).encode(), early
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(f"\0{self.name}")
        self._listening.listen()
        self._thread = Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> EarlyFreeze | None:
        """Stop listening, once the process of the run has ended; return the early freeze, with a lock if it is here."""
        self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join()
        self._listening.close()
        return self._early

    def _serve(self) -> None:
        """Send everything to the first process of this account, and keep no lock: a run that got none takes it."""
        with suppress(OSError), self._asking() as asking:
            try:
                asking.settimeout(_ANSWER_SECONDS)
                early = self._early
                descriptors = [] if early is None or early.lock is None else [early.lock]
                asking.sendall(self._content[socket.send_fds(asking, [self._content], descriptors) :])
                asking.shutdown(socket.SHUT_WR)
                if asking.recv(1) == _TAKEN and early:
                    forget_unkept(early)
            finally:
                self._early = self._early and close_lock(self._early)

    def _asking(self) -> socket.socket:
        while True:
            asking, _ = self._listening.accept()
            if peer_of(asking)[1] == os.geteuid():
                return asking
            asking.close()


def receive(environment: MutableMapping[str, str]) -> tuple[dict[str, Any], EarlyFreeze | None]:
    """Return what the worker hands to this process of the run: facts, and the early freeze, whose lock is kept.

    Empty and None without a worker that hands over, or if it has ended.
    """
    name = environment.pop(VARIABLE, "")
    try:
        return _receive(name) if name else ({}, None)
    except (OSError, ValueError, KeyError) as reason:
        say(f"nothing was handed over by the worker: {type(reason).__name__}: {reason}", error=True)
        return {}, None


def _receive(name: str) -> tuple[dict[str, Any], EarlyFreeze | None]:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(_ANSWER_SECONDS)
        asking.connect(f"\0{name}")
        if (user := peer_of(asking)[1]) != os.geteuid():  # the names of dead workers can be read, and taken
            raise ConnectionRefusedError(f"user {user} has the worker's name")
        content, descriptors, _, _ = socket.recv_fds(asking, _BLOCK, 1)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        while part := asking.recv(_BLOCK):
            content += part
        facts, row = json.loads(content)
        early = _adopt(row, descriptors)
        if early or row is None:
            asking.sendall(_TAKEN)
    return facts, early


def _serialize(early: EarlyFreeze | None) -> dict[str, Any] | None:
    if early is None:
        return None
    at = {identity: moment.isoformat() for identity, moment in unkept(early).items()}
    frozen = [[identity.pid, identity.start, at.get(identity)] for identity in early.frozen]
    above = [[identity.pid, identity.start] for identity in early.above]
    paused = {"containers": [astuple(each) for each in early.containers], "docker_host": early.docker_host}
    fields = {"path": str(early.path), "frozen": frozen, "groups": early.groups, "above": above}
    return {**fields, **paused, "losses": early.losses}


def _adopt(row: dict[str, Any] | None, descriptors: list[int]) -> EarlyFreeze | None:
    """Return the early freeze once its lock is this process's own."""
    if row is None:
        return None
    rows = [(Identity(pid, start), at) for pid, start, at in row["frozen"]]
    above = tuple(Identity(pid, start) for pid, start in row["above"])
    frozen, groups, losses = tuple(identity for identity, _ in rows), tuple(row["groups"]), tuple(row["losses"])
    containers = tuple(ContainerIdentity(*each) for each in row["containers"])
    early = EarlyFreeze(Path(row["path"]), frozen, groups, None, above, losses, containers, row["docker_host"])
    if descriptors and not take_from(early.path.parent, descriptors[0]):
        return None
    note_unkept({identity: datetime.fromisoformat(at) for identity, at in rows if at})
    return keep(replace(early, lock=descriptors[0] if descriptors else None))
