"""Processes of the workload: who belongs to it, and how each is to be ended. Pure decisions over a snapshot."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import PurePath
from signal import SIGINT, SIGTERM, Signals
from typing import Final

_MULTIPLEXERS: Final = frozenset({"tmux", "tmux:", "screen", "SCREEN", "ssh", "sshd:", "zellij", "mosh-server"})
_SHELLS: Final = frozenset({"sh", "bash", "dash", "zsh", "ksh", "fish", "busybox", "script"})
_EDITORS: Final = frozenset(
    {"vi", "vim", "nvim", "nano", "emacs", "less", "more", "tail", "head", "cat", "tee", "watch"}
)
_SEARCHERS: Final = frozenset(
    {"grep", "egrep", "rg", "ag", "pgrep", "pkill", "ps", "sudo", "su", "doas", "strace", "gdb"}
)
_QUOTERS: Final = _SHELLS | _EDITORS | _SEARCHERS | _MULTIPLEXERS


@dataclass(frozen=True, order=True)
class Identity:
    """A process for its whole life: pid and start time in clock ticks since boot. A pid alone is reused."""

    pid: int
    start: int


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

    @property
    def pid(self) -> int:
        """Process id."""
        return self.identity.pid

    @property
    def line(self) -> str:
        """The command line that a pattern is tried on."""
        return " ".join(self.command)

    @property
    def alive(self) -> bool:
        """False for a zombie: it computes nothing and holds nothing."""
        return self.state not in {"Z", "X", "x"}


@dataclass(frozen=True)
class Matcher:
    """How one part of the workload is recognised: a role, and a regular expression on the full command line."""

    role: str
    pattern: str

    def recognises(self, process: Process, root: PurePath) -> bool:
        """The pattern alone is never enough: the process must also work in, or run from, the workload's root."""
        return bool(re.search(self.pattern, process.line)) and rooted(process, root)


def rooted(process: Process, root: PurePath) -> bool:
    """True if the working directory or the executable lies under the root.

    A virtual environment's python is a link to one outside: so the path that it was called by counts as well.
    """
    places = (process.cwd, process.executable, *process.command[:1])
    return any(PurePath(place).is_relative_to(root) for place in places if place)


def quotes(process: Process) -> bool:
    """True for a program that may carry the pattern as text without being the workload: a shell, an editor, a grep."""
    return bool(process.command) and PurePath(process.command[0].lstrip("-")).name in _QUOTERS


def multiplexes(process: Process) -> bool:
    """True for a program that holds a person's other work too: its other children are nobody's workload."""
    return bool(process.command) and PurePath(process.command[0].lstrip("-")).name in _MULTIPLEXERS


def runs_prefect(process: Process) -> bool:
    """True for Prefect's own programs: the worker, the server, a flow run. The program counts, not the text."""
    words = process.command[:4]
    programs = [PurePath(word).name for word in words[:2]]
    modules = [module for option, module in pairwise(words) if option == "-m"]
    if "uvicorn" in [*programs, *modules]:
        return any(word.startswith("prefect.server.") for word in process.command)
    return "prefect" in programs or any(module.split(".")[0] == "prefect" for module in modules)


def protected(snapshot: Mapping[int, Process], me: int) -> set[int]:
    """Pids that are never touched: pid 1, ourselves, our ancestors, Prefect's own processes.

    Our descendants are not spared: a workload that an ancestor of ours started may be among them.
    """
    spared = {1, me}
    pid = me
    while (process := snapshot.get(pid)) and process.parent > 1 and process.parent not in spared:
        pid = process.parent
        spared.add(pid)
    spared |= {process.pid for process in snapshot.values() if runs_prefect(process)}
    return spared


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


def members(
    snapshot: Mapping[int, Process],
    matchers: Iterable[Matcher],
    root: PurePath,
    spared: Iterable[int],
) -> dict[Identity, str]:
    """Every process of the workload with its role, parents before children.

    A matching program that merely quotes (a shell, an editor) counts only as the parent of another match.
    A descendant of a match belongs to it, whatever its command line says.
    """
    untouchable = frozenset(spared)
    roles: dict[int, str] = {}
    for matcher in matchers:
        matched = {
            process.pid: process
            for process in snapshot.values()
            if process.alive and process.pid not in untouchable and matcher.recognises(process, root)
        }
        plain = {pid for pid, process in matched.items() if not quotes(process)}
        carriers = matched.keys() - plain - {pid for pid, process in matched.items() if multiplexes(process)}
        parents = {pid for pid in carriers if descendants(snapshot, [pid]) & plain}
        family = plain | parents
        for pid in family | descendants(snapshot, family):
            roles.setdefault(pid, matcher.role)
    return {
        snapshot[pid].identity: roles[pid]
        for pid in _parents_first(snapshot, roles)
        if snapshot[pid].alive and pid not in untouchable
    }


def suspects(
    snapshot: Mapping[int, Process], matchers: Iterable[Matcher], root: PurePath, untouchable: Iterable[int], since: int
) -> dict[Identity, str]:
    """Living processes that contradict "nothing of the workload runs", with the reason; whoever they belong to.

    `since` is the moment of the first freeze, in clock ticks since boot. `untouchable` ones that match are told as
    well: sparing them does not make them harmless. Shells and editors are nobody's workload.
    """
    kept = frozenset(untouchable)
    patterns = [matcher.pattern for matcher in matchers]
    found: dict[Identity, str] = {}
    for process in snapshot.values():
        if not process.alive or quotes(process) or runs_prefect(process):
            continue
        matches = any(re.search(pattern, process.line) for pattern in patterns)
        if matches and rooted(process, root):
            found[process.identity] = "it is ours to spare, and matches" if process.pid in kept else "it matches"
        elif matches and process.placeless:
            found[process.identity] = "it matches, and where it works may not be read"
        elif process.pid not in kept and rooted(process, root) and process.identity.start >= since:
            found[process.identity] = "it was started in the root after the freeze"
    return found


def bystanders(
    snapshot: Mapping[int, Process], matchers: Iterable[Matcher], root: PurePath, untouchable: Iterable[int]
) -> list[Process]:
    """Programs that only match, or only work in the root: left alone, but a person should know of them."""
    kept = frozenset(untouchable)
    patterns = [matcher.pattern for matcher in matchers]
    return [
        process
        for process in snapshot.values()
        if process.alive
        and process.pid not in kept
        and not quotes(process)
        and rooted(process, root) != any(re.search(pattern, process.line) for pattern in patterns)
    ]


def _parents_first(snapshot: Mapping[int, Process], pids: Iterable[int]) -> list[int]:
    def depth(pid: int) -> int:
        seen: set[int] = set()
        while pid in snapshot and pid not in seen:
            seen.add(pid)
            pid = snapshot[pid].parent
        return len(seen)

    return sorted(pids, key=lambda pid: (depth(pid), pid))


def gentle_signal(masks: Masks) -> Signals | None:
    """The signal that the process will really heed: SIGINT (runbook §3), else SIGTERM, else none.

    `pkill` sends SIGTERM, which leaves loky workers running; a program started with `&` from a script ignores SIGINT.
    """
    return next((number for number in (SIGINT, SIGTERM) if masks.heeds(number)), None)
