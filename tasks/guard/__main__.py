"""§1: hold the training lock, look for newcomers every quarter of a second and freeze them, until told to end.

Most launchers never look at a lock. So the guard also watches for processes that match the workload, freezes them and
writes them down. It outlives the flow, the worker and the login, and uses the standard library alone.

See docs/adr/0008.
"""

import fcntl
import json
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any, Final

from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Source
from tasks.custody.visible import say, visible
from tasks.guard.containers import ContainerGuard
from tasks.guard.repeats import Repeat, Repeats
from tasks.host import file_lock as lock
from tasks.host.guard_config import GuardConfig
from tasks.host.host import LinuxHost, freeze_process
from tasks.host.process.membership import Exceptions, Member, Members, find_unanswered
from tasks.host.process.newcomer import in_hand
from tasks.host.process.process import Process, descendants, family, pids_of, process_line
from tasks.host.process.source import lineages
from tasks.host.process.table import start_of, untouchable
from tasks.host.process.wrappers import running_above
from tasks.incident.layout import CAUGHT, FROZEN, FROZEN_CONTAINERS, SALT
from tasks.incident.run_lock import at_work, owner_of
from tasks.system.files.atomic_files import identities, read_ours, write_marker
from tasks.system.files.ours import opened_folder
from tasks.system.redaction import redact_for

_PAUSE_SECONDS: Final = 0.25
_LONGEST_PAUSE_SECONDS: Final = 1.0
_SHARE: Final = 25
_THAWS: Final = 3
_SEEN: Final = 200
_NO_LOCK: Final = -1
_REFUSED: Final = 2
AGAIN: Final = "again"


class Guard:
    """A guard process: its configuration, and what it has caught."""

    def __init__(self, orders: GuardConfig, descriptor: int) -> None:
        """Take the configuration, and the open lock file's descriptor (-1 if it could not be opened)."""
        self.orders, self.descriptor = orders, descriptor
        self.host = LinuxHost(*(each.port for each in orders.workload.matchers), root=orders.workload.root)
        self.me = Identity(os.getpid(), start_of(os.getpid()))
        self.relieved = False
        self.errors: set[str] = set()
        self.caught: Counter[Identity] = Counter()
        self.frozen: set[Identity] = set()
        self.killed: set[Identity] = set()
        self.repeats = Repeats()
        self.seen: set[Identity] = set()
        self._unwritten: list[dict[str, Any]] = []

    def stand(self) -> None:
        """Wait for the lock, and freeze newcomers until SIGTERM, or until the marker names a newer guard."""
        for ignored in (signal.SIGINT, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        self._stay_named()
        door = self._door()
        # before any thread starts: SIGTERM in a thread without it would end the guard
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        if door:
            threading.Thread(target=lock.hand_over, args=(door, self.descriptor), daemon=True).start()
        if self.descriptor != _NO_LOCK:
            threading.Thread(target=fcntl.flock, args=(self.descriptor, fcntl.LOCK_EX), daemon=True).start()
        if self.orders.containers:
            containers = ContainerGuard(self.orders, self._unwritten.append)
            threading.Thread(target=containers.stand, daemon=True).start()
        pause = 0.0
        while not self.relieved and signal.sigtimedwait({signal.SIGTERM}, pause) is None:
            began = time.monotonic()
            self.look()
            _say_ready()
            pause = min(max(_PAUSE_SECONDS, (time.monotonic() - began) * (_SHARE - 1)), _LONGEST_PAUSE_SECONDS)
        self._write()  # a container may have been caught since the last look

    def _door(self) -> socket.socket | None:
        """Open the socket over which the next guard gets the lock; None without a lock, or if that fails.

        Call it after our marker is written, which must not replace the next guard's, and before SIGTERM is blocked: a
        blocked SIGTERM tells the next guard that no socket will come.
        """
        with suppress(OSError):
            return lock.open_door(self.me) if self.descriptor != _NO_LOCK else None
        return None

    def _stay_named(self) -> None:
        """Write our name into the marker if it is missing: without it no process can find this guard.

        If the marker names a guard that was started later, this one ends. A full disk is ignored.
        """
        named = self.host.guard(Path(self.orders.marker))
        self.relieved = named is not None and named.start > self.me.start
        if self.relieved or named == self.me:
            return
        with suppress(OSError):
            write_marker(Path(self.orders.marker), {**self.orders.row(), **asdict(self.me)})

    def look(self) -> None:
        """Watch once. An error ends the look, not the guard; each kind is written down once."""
        try:
            self.watch()
        except Exception as error:  # noqa: BLE001  whatever it met, the next look may freeze
            kind = type(error).__name__
            if kind not in self.errors:
                self.errors.add(kind)
                row = {"at": datetime.now(UTC).isoformat(), "seen": asdict(self.me), "user": os.geteuid()}
                why = f"a look of the guard failed, and is repeated: {kind}: {error}"
                self._unwritten.append({**row, "command": visible(why)})

    def watch(self) -> None:
        """Freeze every newcomer, and every caught process that was thawed since."""
        snapshot = self.host.look_again(self._is_changing)
        ours = self._in_hand(snapshot) | untouchable(snapshot)
        run = owner_of(Path(self.orders.evidence))
        # what the run at work has started: collectors may run the workload's interpreter, as its account
        helpers = descendants(snapshot, pids_of(snapshot, [run.identity])) if run else set()
        exceptions = Exceptions(frozenset(ours), frozenset(helpers))
        found = Members.of(snapshot, self.orders.workload, exceptions, self.me.start)
        new = [identity for identity in found if not snapshot[identity.pid].is_stopped or identity not in self.caught]
        theirs = self._in_hand(snapshot) if new else set()  # a run may have taken some in hand since we looked
        new = [identity for identity in new if identity.pid not in theirs]
        known = {each.pid for each in found} | pids_of(snapshot, self.frozen)
        repeats = self.repeats.judge(snapshot, new, known, self._may_kill)
        outcomes = {identity: self._freeze(snapshot[identity.pid], repeats.get(identity)) for identity in new}
        frozen = {identity: outcome for identity, outcome in outcomes.items() if outcome}
        lines = lineages(snapshot, [identity.pid for identity in frozen])
        for identity, outcome in frozen.items():
            above = [asdict(each) for each in running_above(snapshot, [identity.pid])]
            row = _caught(snapshot[identity.pid], found[identity], lines[identity.pid])
            self._unwritten.append({**row, "above": above, **outcome})
        self._note_unanswered(find_unanswered(snapshot, found, exceptions, self.me.start))
        self._write()
        self._stay_named()

    def _note_unanswered(self, processes: Iterable[Process]) -> None:
        """Write down who came into the root and is left alone, each once: a check may come too late to see it."""
        for process in processes:
            if process.identity not in self.seen and len(self.seen) < _SEEN:
                self.seen.add(process.identity)
                row = {"at": datetime.now(UTC).isoformat(), "seen": asdict(process.identity), "user": process.user}
                self._unwritten.append({**row, "command": process_line(process)})

    def _is_changing(self, process: Process) -> bool:
        """Return whether a process is ours to watch closely: one that was frozen, or that may become a member."""
        identity = process.identity
        return identity in self.caught or identity in self.frozen or self.orders.workload.names(process)

    def _in_hand(self, snapshot: dict[int, Process]) -> set[int]:
        """Return the pids that the guard leaves alone, read in each look: a run writes it down before a thaw."""
        self.frozen = identities(self.orders.known)
        excluded_pids = family(snapshot, identities(self.orders.started)) | pids_of(snapshot, self.orders.spared)
        return excluded_pids | in_hand(snapshot, self.frozen, run_lives=partial(at_work, Path(self.orders.evidence)))

    def _freeze(self, process: Process, repeat: Repeat | None) -> dict[str, Any]:
        """Stop a process, or kill it if it was thawed repeatedly, or if what starts it does so again and again.

        Return what is to be written down, if anything.
        """
        identity, times = process.identity, self.caught[process.identity]
        thawed = times > 0 and not process.stop_pending
        row = repeat.row(identity) if repeat else {}
        kills = ((repeat and repeat.ends) or (thawed and times > _THAWS)) and self._may_kill(identity)
        denied = freeze_process(self.host, process, signal.SIGKILL if kills else signal.SIGSTOP)
        if denied is None:
            return {}
        self.caught[identity] += thawed or not times
        if kills and not denied and identity not in self.killed:
            self.killed.add(identity)
            return {} if row is None else {"denied": denied, "killed": True, **row}
        return {} if times or row is None else {"denied": denied, **row}

    def _may_kill(self, identity: Identity) -> bool:
        """Return whether the guard may kill a process that is thawed repeatedly, because it computes in between.

        What a run froze, a run ends. What is older than this guard may be the workload itself, not yet looked at.
        """
        return identity not in self.frozen and identity.start > self.me.start

    def _write(self) -> None:
        """Write down what was caught. If the disk is full, the rest is kept for the next look."""
        if not self._unwritten:
            return
        with suppress(OSError), _open_to_append(self.orders.caught) as file:
            while self._unwritten:
                line = f"{json.dumps(self._unwritten[0])}\n".encode()
                if (written := file.write(line) or 0) != len(line):
                    file.truncate(os.fstat(file.fileno()).st_size - written)
                    break
                del self._unwritten[0]


def _caught(process: Process, member: Member, line: Iterable[Source]) -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(),
        "identity": {"pid": process.pid, "start": process.identity.start},
        "role": member.role,
        "why": member.why,
        "command": process_line(process),
        "user": process.user,
        "stood": process.state == "T",
        "source": ", started by ".join(map(str, line)),
    }


def _open_to_append(path: str) -> FileIO:
    """Open a file to append, without following a link or waiting for a pipe that the workload may have put there.

    Another user's file is replaced, because what it says would not be trusted.
    """
    name = Path(path).name
    with opened_folder(Path(path).parent) as folder:
        with suppress(FileNotFoundError):
            if os.stat(name, dir_fd=folder, follow_symlinks=False).st_uid != os.geteuid():
                os.unlink(name, dir_fd=folder)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return FileIO(os.open(name, flags, 0o644, dir_fd=folder), "a")


def _say_ready() -> None:
    """Tell systemd once that the guard watches: what systemd starts after it is frozen from now on."""
    if place := os.environ.pop("NOTIFY_SOCKET", ""):
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.sendto(b"READY=1", place.replace("@", "\0", 1) if place.startswith("@") else place)


def kept_orders(marker: Path) -> GuardConfig:
    """Read the guard's configuration from the marker of a cordon that stands, with the journals of this boot.

    No process is excluded by its pid. Raises OSError or ValueError if there is no configuration, or none of ours.
    """
    try:
        orders = GuardConfig.of(json.loads(read_ours(marker))["orders"])
    except (KeyError, TypeError, AttributeError) as error:
        cure = "carry the incident on, which starts a guard"
        raise ValueError(f"{marker} has no configuration of a guard; {cure}") from error
    if orders.marker != str(marker):
        expected = f"the marker {orders.marker}, which the file names"
        raise ValueError(f"expected {expected}; got {marker}. No guard was started")
    if Path(orders.caught).name == CAUGHT:
        return orders
    return replace(
        orders,
        caught=str(Path(orders.caught).with_name(CAUGHT)),
        known=tuple({str(Path(journal).with_name(FROZEN)): None for journal in orders.known}),
        known_containers=tuple(str(Path(journal).with_name(FROZEN_CONTAINERS)) for journal in orders.known_containers),
        spared=(),
    )


def _taken_up(marker: Path) -> tuple[GuardConfig, int]:
    """Return configuration and lock of a cordon without a guard. Exits if a guard lives or nothing is configured."""
    try:
        orders = kept_orders(marker)
    except (OSError, ValueError) as error:
        say(f"no guard was started: {error}. guard を起動できません。", error=True)
        sys.exit(_REFUSED)
    if LinuxHost().guard(marker):
        _say_ready()
        say(f"a guard stands for {marker}")
        sys.exit(0)
    descriptor = lock.take(Path(orders.lock))
    return orders, _NO_LOCK if descriptor is None else descriptor


def main() -> None:
    """Run the guard: arguments are the lock's descriptor and the marker; the configuration comes on standard input.

    With `again` instead of the descriptor the configuration is read from the marker: after a reboot, or a guard's
    death.
    """
    lock_of, marker = sys.argv[1:]
    if lock_of == AGAIN:
        orders, descriptor = _taken_up(Path(marker))
    else:
        orders, descriptor = GuardConfig.from_bytes(sys.stdin.buffer.read()), int(lock_of)
    for journal in orders.known[:1]:  # of the incident, which has the salt
        redact_for(
            Path(journal).with_name(SALT),
            (each.pattern for each in orders.workload.matchers),
            (orders.incident, orders.reason),
        )
    Guard(orders, descriptor).stand()
    os._exit(0)  # a thread that still waits for the lock would keep the process alive


if __name__ == "__main__":
    main()
