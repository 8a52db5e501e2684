"""Define a process and its kin; decide the order of the freeze and the signal of the stop (runbook §2, §3)."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from signal import SIGINT, SIGTERM, Signals
from typing import Any, Final, Self, TypeVar

_LINE: Final = 16384
T = TypeVar("T")


@dataclass(frozen=True, order=True)
class Identity:
    """A process for its whole life: pid and start time in clock ticks since boot. A pid alone is reused."""

    pid: int
    start: int

    @classmethod
    def of(cls, row: Any) -> Self | None:
        """The process that a row of a journal or a marker names; None if it names none."""
        try:
            about = row.get("identity", row)
            return cls(int(about["pid"]), int(about["start"]))
        except (AttributeError, KeyError, TypeError, ValueError):
            return None


NOBODY: Final = Identity(-1, -1)
"""Stands for a process that was never started: no kernel gives this pid, so nobody is it or descends from it."""


@dataclass(frozen=True)
class Masks:
    """SigBlk, SigIgn and SigCgt of /proc/PID/status, as bit masks (bit 0 is signal 1)."""

    blocked: int = 0
    ignored: int = 0
    caught: int = 0

    def heeds(self, number: Signals) -> bool:
        """True if the signal would reach the process: neither blocked nor ignored."""
        return not (self.blocked | self.ignored) >> (number - 1) & 1


@dataclass(frozen=True)
class Process:
    """One process as it was seen. `state` is the letter of /proc/PID/stat.

    Unreadable fields are empty; `placeless` says that cwd and executable may not be read at all: it is another user's.
    `cgroup` is the process's control group as the kernel names it, and `container` the id of the container that it is
    in as seen from here; `ports` are those watched ones that it listens on. A `forked` one is the copy of its parent
    that it was made as: it has not become another program by exec. `name` is the kernel's short name of its program,
    which everybody may read, and which the process itself can change. `group` and `session` are the pids of those who
    made its process group and session, which all their descendants inherit that do not make one of their own.
    """

    identity: Identity
    parent: int
    state: str
    command: tuple[str, ...] = ()
    cwd: str = ""
    executable: str = ""
    user: int = -1
    masks: Masks = field(default_factory=Masks)
    placeless: bool = False
    cgroup: str = ""
    container: str | None = None
    ports: frozenset[int] = frozenset()
    forked: bool = False
    name: str = ""
    group: int = 0
    session: int = 0

    @property
    def pid(self) -> int:
        """Process id."""
        return self.identity.pid

    @property
    def line(self) -> str:
        """The command line that a pattern is tried on; its beginning, for a hostile one must not hold up a freeze.

        It is one line, whatever an argument holds: no `.*` stops at a line break in it.
        """
        return " ".join(self.command)[:_LINE].replace("\n", " ")

    @property
    def alive(self) -> bool:
        """False for a zombie: it computes nothing and holds nothing."""
        return self.state not in {"Z", "X", "x"}

    @property
    def stopped(self) -> bool:
        """True while it stands, by a signal or for a tracer."""
        return self.state in {"T", "t"}


@dataclass(frozen=True)
class Listener:
    """Who listens on a port: the user that opened the socket, and the process where it may be seen."""

    user: int
    process: Process | None = None


def pids_of(snapshot: Mapping[int, Process], identities: Collection[Identity | None]) -> set[int]:
    """Pids at which the snapshot shows exactly these processes: a pid alone may be another's by now."""
    return {pid for pid, process in snapshot.items() if process.identity in identities}


def descendants(snapshot: Mapping[int, Process], roots: Iterable[int]) -> set[int]:
    """Pids of all children, their children and so on; without the roots."""
    children: dict[int, list[int]] = {}
    for process in snapshot.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    queue = list(roots)
    while queue:
        for child in children.get(queue.pop(), []):
            if child not in found:
                found.add(child)
                queue.append(child)
    return found


def family(snapshot: Mapping[int, Process], identities: Collection[Identity | None]) -> set[int]:
    """Pids of these processes and of all that descends from them; nobody of one that is gone."""
    there = pids_of(snapshot, identities)
    return there | descendants(snapshot, there)


def copies(snapshot: Mapping[int, Process], pids: Iterable[int]) -> set[int]:
    """Pids of the copies that these, as long as they live, have forked of themselves.

    Each helper is one at first, with the command line of whom it helps, and that one waits for its exec.
    """
    living = {pid for pid in pids if pid in snapshot and snapshot[pid].alive}
    return {process.pid for process in snapshot.values() if process.forked and process.parent in living} - living


def parents_first(snapshot: Mapping[int, Process], pids: Iterable[int]) -> list[int]:
    """Pids in an order in which no child comes before its parent."""
    wanted = list(pids)
    depths = handed_down(snapshot, wanted, 0, lambda _, above: above + 1)
    return sorted(wanted, key=lambda pid: (depths.get(pid, 0), pid))


def ancestry(snapshot: Mapping[int, Process], pids: Iterable[int]) -> set[int]:
    """Pids of these and of all their ancestors, as far as the snapshot holds them."""
    return set(handed_down(snapshot, pids, None, lambda *_: None))


def handed_down(
    snapshot: Mapping[int, Process], pids: Iterable[int], first: T, step: Callable[[Process, T], T]
) -> dict[int, T]:
    """Compute a value for each of these processes and their ancestors from the value of its parent, topmost first.

    `first` stands for what is above the topmost. Each process is computed once: the work grows with their number, not
    with their depth. A table that was read while pids were reused may hold a loop, which is cut above its
    highest pid, whoever is asked for first.
    """
    known: dict[int, T] = {}
    for start in pids:
        pid, path = start, dict[int, None]()
        while pid in snapshot and pid not in known and pid not in path:
            path[pid] = None
            pid = snapshot[pid].parent
        order = list(path)
        if pid in path:
            stem, loop = order[: order.index(pid)], order[order.index(pid) :]
            cut = loop.index(max(loop))
            known[loop[cut]] = first
            order = [*stem, *loop[cut + 1 :], *loop[:cut]]
        for one in reversed(order):
            known[one] = step(snapshot[one], known.get(snapshot[one].parent, first))
    return known


def gentle_signal(masks: Masks) -> Signals | None:
    """The signal that the process will really heed: SIGINT (runbook §3), else SIGTERM, else none.

    `pkill` sends SIGTERM, which leaves loky workers running; a program started with `&` from a script ignores SIGINT.
    """
    return next((number for number in (SIGINT, SIGTERM) if masks.heeds(number)), None)
