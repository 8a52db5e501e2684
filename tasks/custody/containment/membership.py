"""Decide which processes belong to the workload, which only resemble it, and which are protected (runbook §2, §3)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final, Self

from tasks.custody.containment.process import Identity, Process, ancestry, descendants, parents_first
from tasks.custody.containment.service import sitting_with, unit_of
from tasks.custody.containment.traces import NO_FACTS, Facts

_MULTIPLEXERS: Final = frozenset({"tmux", "screen", "SCREEN", "ssh", "sshd", "zellij", "mosh-server"})
SHELLS: Final = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "script"})
_EDITORS: Final = frozenset(
    {"vi", "vim", "nvi", "nvim", "nano", "emacs", "less", "more", "tail", "head", "cat", "tee", "watch"}
)
_SEARCHERS: Final = frozenset(
    {"grep", "egrep", "rg", "ag", "pgrep", "pkill", "ps", "sudo", "su", "doas", "strace", "gdb"}
)
EVERYBODYS: Final = frozenset({"systemd", "init", "cron", "crond", "anacron", "atd", "sshd", "login"})
"""Programs that start processes of every user."""
_KEEPERS: Final = EVERYBODYS | frozenset(
    {"supervisord", "circusd", "runsvdir", "s6-svscan", "monit", "slurmd", "slurmstepd", "dockerd", "containerd"}
)
"""Programs that make a service shared: another process in it may belong to anything."""
_INTERPRETERS: Final = ("python", "pypy")
_MODULE: Final = re.compile(r"-[A-Za-z]*m")
_MANY_IN_ONE: Final = frozenset({"busybox", "toybox", "coreutils"})
_FLAVOUR: Final = re.compile(
    r"\.?(?P<name>.+?)(?:[.-]?\d[\d.]*+|[.-](?:basic|tiny|nox|gtk\d?|athena|lucid|motif|session|auth|rs|static|wrapped))*"
)
"""Variants of a program's name on a host: vim.basic, emacs-nox, bash-5.2, sshd-session, sudo-rs."""
STARTED: Final = "it was started in the root after the freeze"
_OUR_PROGRAMS: Final = frozenset({"flows.worker", "flows.engine", "flows.by_hand"})
SERVICE: Final = "service"
"""The role of processes that belong to the workload only by their systemd service."""
_QUOTERS: Final = SHELLS | _EDITORS | _SEARCHERS | _MANY_IN_ONE | _MULTIPLEXERS


@dataclass(frozen=True)
class Matcher:
    """Recognises one part of the workload: its role, and a regular expression on the full command line.

    If `user` or `port` is given, the process must also be that user's, or listen on that port.
    """

    role: str
    pattern: str
    user: int | None = None
    port: int | None = None

    def fits(self, process: Process) -> bool:
        """Return whether command line, user and port match. Never sufficient alone: see `recognises`."""
        return (
            self.names(process)
            and self.user in {None, process.user}
            and (self.port is None or self.port in process.ports or process.placeless)
        )

    def names(self, process: Process) -> bool:
        """Return whether the command line matches, without regard to user and port."""
        return bool(re.search(self.pattern, process.line))

    def recognises(self, process: Process, root: PurePath) -> bool:
        """Return whether the process fits, and works in or runs from the workload's root."""
        return rooted(process, root) and self.fits(process)


def matchers_of(fields: Mapping[str, Any], user: int | None) -> tuple[Matcher, ...]:
    """Return the matchers of a workload block's fields; `user` is the uid of the account that it names."""
    return (
        Matcher("api", fields["api_pattern"], user, fields["api_port"]),
        Matcher("training", fields["training_pattern"], user),
        Matcher("worker", fields["worker_pattern"], user),
    )


@dataclass(frozen=True)
class Named:
    """Processes that a workload block names beside its patterns: its services, and unrelated command lines."""

    units: tuple[str, ...] = ()
    bystanders: tuple[str, ...] = ()

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """Return those of a block's fields; blocks saved by older versions have none."""
        return cls(tuple(fields.get("units") or ()), tuple(fields.get("bystanders") or ()))


NOTHING_NAMED: Final = Named()


@dataclass(frozen=True)
class Member:
    """A process of the workload: its role, and the reason."""

    role: str
    why: str


def rooted(process: Process, root: PurePath) -> bool:
    """Return whether the working directory or executable is below the root.

    The executable of a virtual environment is a link to one outside, so the path it was called by counts too.
    """
    places = (process.cwd, process.executable, *process.command[:1])
    return any(PurePath(place).is_relative_to(root) for place in places if place)


def quotes(process: Process) -> bool:
    """Return whether the program may carry the pattern as text only: a shell, an editor, grep."""
    return program(process) in _QUOTERS


def multiplexes(process: Process) -> bool:
    """Return whether the program (tmux, ssh) holds a person's other work: its other children are not the workload's."""
    return program(process) in _MULTIPLEXERS


def program(process: Process) -> str:
    """Return the name of the program that a process runs, from its executable.

    The command line's first word is chosen by the parent, so it does not count. If the executable is not readable, the
    kernel's short name is used.
    """
    name = PurePath(process.executable).name or process.name.split(" ", 1)[0].rstrip(":")
    found = _FLAVOUR.fullmatch(name)
    return found["name"] if found else name


def runs_prefect(process: Process) -> bool:
    """Return whether the process looks like Prefect's worker, server or flow run. It may still be the workload."""
    started = _script(process)
    if started == "uvicorn":
        return any(word.startswith("prefect.server.") for word in process.command)
    return started == "prefect"


def _keeps_others(process: Process) -> bool:
    return not _KEEPERS.isdisjoint({program(process), _script(process)})


def _script(process: Process) -> str:
    """Return the script or package that a Python interpreter runs; for other programs the program's name."""
    name = program(process)
    return _started(process.command[1:]) if name.startswith(_INTERPRETERS) else name


def _started(arguments: Iterable[str]) -> str:
    """Return the package or script that these arguments of a Python interpreter start."""
    words = iter(arguments)
    for word in words:
        if _MODULE.fullmatch(word):
            return next(words, "").split(".", 1)[0]
        if word == "-c":
            return ""
        if word in {"-W", "-X"}:
            next(words, None)
        elif not word.startswith("-"):
            return PurePath(word).name
    return ""


def protected(snapshot: Mapping[int, Process], me: int, servers: Iterable[int] = ()) -> set[int]:
    """Return the pids never touched: pid 1, ourselves, our ancestors, and the worker and Prefect of our installation.

    Of other installations only `servers`, the Prefect servers that we use, are protected: any program can name itself
    Prefect. Our descendants are not: a workload that our ancestor started may be among them.
    """
    protected_pids = {1, me} | ancestry(snapshot, [me])
    protected_pids |= {
        process.pid
        for process in snapshot.values()
        if (runs_prefect(process) or not _OUR_PROGRAMS.isdisjoint(process.command[1:4]))
        and _ours(process, snapshot.get(me))
    }
    return protected_pids | set(servers)


def _ours(process: Process, me: Process | None) -> bool:
    """Return whether a program runs in our Python environment: same executable, called by the same path."""
    return me is None or (process.executable == me.executable and _called(process) == _called(me) != "")


def _called(process: Process) -> str:
    """Return the absolute path an interpreter was called by, which decides its packages; empty if it is no path."""
    word = next(iter(process.command), "")
    return str(PurePath(process.cwd, word)) if "/" in word else ""


def members(
    snapshot: Mapping[int, Process],
    matchers: Iterable[Matcher],
    root: PurePath,
    protected_pids: Iterable[int],
    named: Named = NOTHING_NAMED,
) -> dict[Identity, Member]:
    """Return every process of the workload, parents before children.

    A matching program that only quotes the pattern (a shell, an editor) counts if it is the ancestor of another match.
    Descendants of a match belong to it whatever their command line, and so do processes in a service of the workload.
    The block's `bystanders` do not, nor descendants connected to the workload only through one of them. Processes in
    containers are left out: they are frozen and stopped through their container.
    """
    known, protected_now = tuple(matchers), frozenset(protected_pids)
    excused_pids = excused(snapshot, known, root, named)
    untouchable = protected_now | excused_pids
    below = {pid: process for pid, process in snapshot.items() if pid not in excused_pids} if excused_pids else snapshot
    found: dict[int, Member] = {}
    for matcher in known:
        family = _family(below, matcher, root, untouchable)
        for pid in parents_first(below, family | descendants(below, family)):
            why = f"matches the {matcher.role} pattern" if pid in family else f"child of {snapshot[pid].parent}"
            found.setdefault(pid, Member(matcher.role, why))
    served = sitting_with(
        below, found.keys() - untouchable, named.units, lambda each: each.pid in protected_now or _keeps_others(each)
    )
    for pid in parents_first(below, served.keys() | descendants(below, served)):
        found.setdefault(pid, Member(SERVICE, served.get(pid, f"child of {snapshot[pid].parent}")))
    return {
        snapshot[pid].identity: found[pid]
        for pid in parents_first(snapshot, found)
        if snapshot[pid].alive and pid not in untouchable and not snapshot[pid].container
    }


def excused(
    snapshot: Mapping[int, Process], matchers: Iterable[Matcher], root: PurePath, named: Named
) -> frozenset[int]:
    """Return the pids that the block's `bystanders` name: reported, never signalled, and no contradiction.

    A process that matches the workload's own patterns in its root, or whose root is not readable, is not excused: the
    contained processes could choose such a command line.
    """
    if not named.bystanders:
        return frozenset()
    known = tuple(matchers)
    return frozenset(
        process.pid
        for process in snapshot.values()
        if any(re.search(pattern, process.line) for pattern in named.bystanders)
        and not any(each.recognises(process, root) or (process.placeless and each.fits(process)) for each in known)
    )


def _family(
    snapshot: Mapping[int, Process], matcher: Matcher, root: PurePath, protected_pids: frozenset[int]
) -> set[int]:
    """Return the processes that match by themselves."""
    matched = {
        process.pid: process
        for process in snapshot.values()
        if process.alive
        and process.pid not in protected_pids
        and not process.container
        and matcher.recognises(process, root)
    }
    plain = {pid for pid, process in matched.items() if not _only_quotes(process, root)}
    carriers = matched.keys() - plain - {pid for pid, process in matched.items() if multiplexes(process)}
    return plain | (carriers & ancestry(snapshot, plain))


def _only_quotes(process: Process, root: PurePath) -> bool:
    """Return whether it is a shell or editor of the host. Programs below the root are always the workload's."""
    return quotes(process) and not PurePath(process.executable).is_relative_to(root)


@dataclass(frozen=True)
class Survey:
    """What a survey of the whole host says about the workload.

    `alive` contradicts "nothing of the workload runs", with the reason. `suspects` are those of `alive` that match no
    pattern, with the fact that ties each to the workload. `bystanders` only match or only work in the root: left alone,
    but reported. `excused` are the block's `bystanders`, and shells and editors, that one of these would apply to.
    `unread` may not be inspected.
    """

    alive: dict[Identity, str]
    bystanders: tuple[Process, ...]
    suspects: Mapping[Identity, str] = field(default_factory=dict)
    excused: tuple[Process, ...] = ()
    unread: tuple[Process, ...] = ()


def survey(  # noqa: PLR0913, PLR0917  each is one thing that a look depends on
    snapshot: Mapping[int, Process],
    matchers: Iterable[Matcher],
    root: PurePath,
    excluded_pids: Iterable[int],
    since: int,
    containers: Iterable[str] = (),
    named: Named = NOTHING_NAMED,
    facts: Facts = NO_FACTS,
) -> Survey:
    """Find processes of the workload on the host. `since` is the first freeze in clock ticks since boot.

    Processes in one of the given `containers` are left to the containers' check. A match in an unnamed container is
    reported. Excluded processes that match are reported too: excluding them does not make them harmless. Shells and
    editors are not the workload's, but one of another user that matches is reported, as its executable is not readable.
    A process that a matcher rejects only by user or port is reported, whatever else ties it.
    """
    known, untouchable, inside_of = tuple(matchers), frozenset(excluded_pids), frozenset(containers)
    excused_pids = excused(snapshot, known, root, named)
    alive: dict[Identity, str] = {}
    suspects: dict[Identity, str] = {}
    bystanders, left, unread = [], [], []
    for process in snapshot.values():
        if not process.alive or process.container in inside_of:
            continue
        fits, inside = any(matcher.fits(process) for matcher in known), rooted(process, root)
        excluded = process.pid in untouchable
        told_apart = not fits and any(matcher.names(process) for matcher in known)
        tie = "" if excluded or told_apart else facts.tie(process, root)
        if process.pid in excused_pids:
            left += [process] if not excluded and (fits or inside or tie) else []
        elif _only_quotes(process, root) and unit_of(process.cgroup) not in named.units:
            bystanders += [process] if fits and process.placeless else []
            left += [process] if not excluded and (inside or tie) else []
        elif reason := _contradiction(process, fits, inside, excluded, named):
            alive[process.identity] = reason
        elif fact := _suspicion(process, inside and not excluded, since, tie):
            suspects[process.identity] = fact
        else:
            bystanders += [process] if fits != inside and not excluded else []
            unread += [process] if not excluded and facts.unread(process, root) else []
    return Survey(alive | suspects, tuple(bystanders), suspects, tuple(left), tuple(unread))


def _contradiction(process: Process, fits: bool, inside: bool, excluded: bool, named: Named) -> str:  # noqa: FBT001
    if fits and inside:
        if process.container:
            return f"it matches, {_in_a_container(process.container)}"
        return "it is protected, and matches" if excluded else "it matches"
    if process.container:
        return ""
    if fits and process.placeless:
        return f"it matches, is user {process.user}'s, and its working directory is not readable"
    if named.units and not excluded and (unit := unit_of(process.cgroup)) in named.units:
        return f"it sits in {unit}, which `units` names"
    return ""


def _suspicion(process: Process, inside: bool, since: int, tie: str) -> str:  # noqa: FBT001
    if process.container:
        return tie and f"{tie}, {_in_a_container(process.container)}"
    return tie or (STARTED if inside and process.identity.start >= since else "")


def _in_a_container(container: str) -> str:
    return (
        f"in container {container[:12]}, which the workload block does not name; "
        f"add it to `containers`: docker ps --filter id={container[:12]} tells its name"
    )
