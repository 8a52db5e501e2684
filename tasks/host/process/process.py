"""Define a process and its relatives; decide the order of the freeze and the signal of the stop (runbook §2, §3)."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from signal import SIGINT, SIGSTOP, SIGTERM, Signals
from typing import Final, TypeVar

from tasks.custody.containment.identity import Identity
from tasks.custody.containment.place import Place
from tasks.custody.evidence.redact import command_line
from tasks.custody.visible import LINE_LIMIT

_LINE: Final = 16384
T = TypeVar("T")


@dataclass(frozen=True)
class Masks:
    """SigBlk, SigIgn, SigCgt and ShdPnd of /proc/PID/status, as bit masks (bit 0 is signal 1)."""

    blocked: int = 0
    ignored: int = 0
    caught: int = 0
    pending: int = 0

    def heeds(self, number: Signals) -> bool:
        """Return whether the signal reaches the process: neither blocked nor ignored."""
        return not (self.blocked | self.ignored) >> (number - 1) & 1


@dataclass(frozen=True)
class Process:
    """One process as it was seen. `state` is the letter of /proc/PID/stat.

    Unreadable fields are empty. `placeless` says that cwd and executable may not be read, as of another user's process.
    `cgroup` is the text of /proc/PID/cgroup, `container` the id of its container as seen from here; `ports` are those
    of the watched ports on which it listens. `forked` says that it has not called exec since its parent forked it.
    `name` is the kernel's short name, readable by everybody and settable by the process. `group` and `session` are the
    ids of its process group and session, inherited by descendants that create none of their own. `terminal` says that
    it has a controlling terminal. `strange` says that its program's file is not root's own, so that its name tells
    nothing; `foreign` that it is another account's than ours and root's. `places` are what of it lies below the root,
    None if that was not looked at. `served` says that systemd has told it to be a service's main process. `unread` is
    the error that ended its reading: what was read is not all.
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
    terminal: bool = False
    strange: bool = False
    foreign: bool = False
    places: frozenset[Place] | None = None
    served: bool = False
    unread: str = ""

    @property
    def is_rooted(self) -> bool:
        """Whether anything of it lies below the root. Raises ValueError if that was not looked at."""
        if self.places is None:
            raise ValueError(f"expected a process that was looked at beside a root; got {self.pid}, which was not")
        return bool(self.places)

    @property
    def pid(self) -> int:
        """Process id."""
        return self.identity.pid

    @cached_property
    def line(self) -> str:
        """The command line for patterns: one line of at most 16384 characters, so that a hostile one delays no freeze.

        Line breaks in arguments become spaces: `.*` would stop at them.
        """
        return " ".join(self.command)[:_LINE].replace("\n", " ")

    @property
    def alive(self) -> bool:
        """Whether it is no zombie: a zombie computes nothing and holds nothing."""
        return self.state not in {"Z", "X", "x"}

    @property
    def is_stopped(self) -> bool:
        """Whether it is stopped, by a signal or a tracer."""
        return self.state in {"T", "t"}

    @property
    def stop_pending(self) -> bool:
        """Whether a SIGSTOP may still have to reach it, because it is in uninterruptible sleep or its group is frozen.

        In state D another thread may have taken the signal, so that it is pending no more.
        """
        return self.state == "D" or bool(self.masks.pending >> (SIGSTOP - 1) & 1)

    @property
    def stands(self) -> bool:
        """Whether it is stopped, or about to be."""
        return self.is_stopped or self.stop_pending


@dataclass(frozen=True)
class Listener:
    """The listener on a port: the user that opened the socket, and the process if it is visible."""

    user: int
    process: Process | None = None


def pids_of(snapshot: Mapping[int, Process], identities: Collection[Identity | None]) -> set[int]:
    """Return the pids at which the snapshot shows exactly these processes: a pid alone may be reused."""
    return {pid for pid, process in snapshot.items() if process.identity in identities}


def descendants(snapshot: Mapping[int, Process], roots: Iterable[int]) -> set[int]:
    """Return the pids of all children, their children and so on, without the roots."""
    queue, found = list(roots), set[int]()
    if not queue:
        return found
    children: dict[int, list[int]] = {}
    for process in snapshot.values():
        children.setdefault(process.parent, []).append(process.pid)
    while queue:
        for child in children.get(queue.pop(), []):
            if child not in found:
                found.add(child)
                queue.append(child)
    return found


def family(snapshot: Mapping[int, Process], identities: Collection[Identity | None]) -> set[int]:
    """Return the pids of these processes and their descendants; none for a process that has ended."""
    there = pids_of(snapshot, identities)
    return there | descendants(snapshot, there)


def copies(snapshot: Mapping[int, Process], pids: Iterable[int]) -> set[int]:
    """Return the pids of forks of these living processes that have not called exec yet.

    Every subprocess starts as such a fork, with its parent's command line, and the parent waits for its exec.
    """
    living = {pid for pid in pids if pid in snapshot and snapshot[pid].alive}
    return {process.pid for process in snapshot.values() if process.forked and process.parent in living} - living


def parents_first(snapshot: Mapping[int, Process], pids: Iterable[int]) -> list[int]:
    """Return the pids in an order in which no child precedes its parent."""
    wanted = list(pids)
    depths = handed_down(snapshot, wanted, 0, lambda _, above: above + 1)
    return sorted(wanted, key=lambda pid: (depths.get(pid, 0), pid))


def ancestry(snapshot: Mapping[int, Process], pids: Iterable[int]) -> set[int]:
    """Return these pids and all their ancestors in the snapshot."""
    return set(handed_down(snapshot, pids, None, lambda *_: None))


def trace_lineage(snapshot: Mapping[int, Process], pid: int) -> Iterator[Process]:
    """Yield a process and its ancestors in the snapshot, nearest first."""
    passed = set[int]()
    while pid in snapshot and pid not in passed:
        passed.add(pid)
        yield snapshot[pid]
        pid = snapshot[pid].parent


def handed_down(
    snapshot: Mapping[int, Process], pids: Iterable[int], first: T, step: Callable[[Process, T], T]
) -> dict[int, T]:
    """Compute a value for each of these processes and their ancestors from its parent's value, topmost first.

    `first` is the value above the topmost. Each process is computed once: time is linear in their number, independent
    of depth. A snapshot taken while pids were reused may contain a loop; it is cut above its highest pid, independent
    of the order of `pids`.
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


def gentle_signal(masks: Masks, first: Signals = SIGINT) -> Signals | None:
    """Return the signal that the process heeds: SIGINT (runbook §3), else SIGTERM, else None; or the other one `first`.

    `pkill` sends SIGTERM, which leaves loky workers running; a program started with `&` in a script ignores SIGINT. One
    that blocks what it does not ignore is sent it all the same: a shell blocks all signals between two waits for its
    child, and is often frozen there. It gets the signal when it goes on.
    """
    order = (first, *({SIGINT, SIGTERM} - {first}))
    unignored = [number for number in order if not masks.ignored >> (number - 1) & 1]
    return next((number for number in (*filter(masks.heeds, order), *unignored)), None)


def process_line(process: Process, limit: int = LINE_LIMIT) -> str:
    """Return the command line of a process as one printable line, with each word that is not shown replaced."""
    return command_line(process.command, limit, "" if process.container else process.cwd)
