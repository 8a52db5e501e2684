"""Decide who belongs to the workload, who only looks like it, and who is spared: we, Prefect (runbook §2, §3)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final, Self

from tasks.custody.containment.process import Identity, Process, ancestry, descendants, parents_first
from tasks.custody.containment.service import sitting_with, unit_of
from tasks.custody.containment.traces import NO_FACTS, Facts

_MULTIPLEXERS: Final = frozenset({"tmux", "screen", "SCREEN", "ssh", "sshd", "zellij", "mosh-server"})
_SHELLS: Final = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "script"})
_EDITORS: Final = frozenset(
    {"vi", "vim", "nvi", "nvim", "nano", "emacs", "less", "more", "tail", "head", "cat", "tee", "watch"}
)
_SEARCHERS: Final = frozenset(
    {"grep", "egrep", "rg", "ag", "pgrep", "pkill", "ps", "sudo", "su", "doas", "strace", "gdb"}
)
EVERYBODYS: Final = frozenset({"systemd", "init", "cron", "crond", "anacron", "atd", "sshd", "login"})
"""They start everybody's programs."""
_KEEPERS: Final = EVERYBODYS | frozenset(
    {"supervisord", "circusd", "runsvdir", "s6-svscan", "monit", "slurmd", "slurmstepd", "dockerd", "containerd"}
)
"""What shares a service with one of them may be anybody's."""
_INTERPRETERS: Final = ("python", "pypy")
_MODULE: Final = re.compile(r"-[A-Za-z]*m")
_MANY_IN_ONE: Final = frozenset({"busybox", "toybox", "coreutils"})
_FLAVOUR: Final = re.compile(
    r"\.?(?P<name>.+?)(?:[.-]?\d[\d.]*+|[.-](?:basic|tiny|nox|gtk\d?|athena|lucid|motif|session|auth|rs|static|wrapped))*"
)
"""Of one program a host may have several: vim.basic, emacs-nox, bash-5.2, sshd-session, sudo-rs."""
STARTED: Final = "it was started in the root after the freeze"
_OUR_PROGRAMS: Final = frozenset({"flows.worker", "flows.engine", "flows.by_hand", "flows.cli"})
_OUR_SCRIPT: Final = "evacuation"
SERVICE: Final = "service"
"""The role of who belongs by the service that it sits in alone."""
_QUOTERS: Final = _SHELLS | _EDITORS | _SEARCHERS | _MANY_IN_ONE | _MULTIPLEXERS


@dataclass(frozen=True)
class Matcher:
    """How one part of the workload is recognised: a role, and a regular expression on the full command line.

    Where a user or a port is given, the process must be that user's, or listen there, as well.
    """

    role: str
    pattern: str
    user: int | None = None
    port: int | None = None

    def fits(self, process: Process) -> bool:
        """What it calls itself and, where asked for, whose it is and where it listens. Alone never enough."""
        return (
            self.names(process)
            and self.user in {None, process.user}
            and (self.port is None or self.port in process.ports or process.placeless)
        )

    def names(self, process: Process) -> bool:
        """What it calls itself, whoever it belongs to and wherever it listens."""
        return bool(re.search(self.pattern, process.line))

    def recognises(self, process: Process, root: PurePath) -> bool:
        """It must fit, and also work in, or run from, the workload's root."""
        return rooted(process, root) and self.fits(process)


def matchers_of(fields: Mapping[str, Any], user: int | None) -> tuple[Matcher, ...]:
    """The matchers that a workload block's fields describe; `user` is the number of the account that it names."""
    return (
        Matcher("api", fields["api_pattern"], user, fields["api_port"]),
        Matcher("training", fields["training_pattern"], user),
        Matcher("worker", fields["worker_pattern"], user),
    )


@dataclass(frozen=True)
class Named:
    """What a workload block names beside its patterns: services that belong to it, command lines that do not."""

    units: tuple[str, ...] = ()
    bystanders: tuple[str, ...] = ()

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """Those of a block's fields; a block that an older version saved has none."""
        return cls(tuple(fields.get("units") or ()), tuple(fields.get("bystanders") or ()))


NOTHING_NAMED: Final = Named()


@dataclass(frozen=True)
class Member:
    """A process of the workload: which part of it, and why we think so."""

    role: str
    why: str


def rooted(process: Process, root: PurePath) -> bool:
    """True if the working directory or the executable lies under the root.

    A virtual environment's python is a link to one outside: so the path that it was called by counts as well.
    """
    places = (process.cwd, process.executable, *process.command[:1])
    return any(PurePath(place).is_relative_to(root) for place in places if place)


def quotes(process: Process) -> bool:
    """True for a program that may carry the pattern as text without being the workload: a shell, an editor, a grep."""
    return program(process) in _QUOTERS


def multiplexes(process: Process) -> bool:
    """True for a program that holds a person's other work too: its other children are nobody's workload."""
    return program(process) in _MULTIPLEXERS


def program(process: Process) -> str:
    """Name of the program that a process runs: of its executable, whatever it is called by.

    The first word of a command line is what its parent wrote. Where the executable may not be read, the kernel's name
    of the program has to do.
    """
    name = PurePath(process.executable).name or process.name.split(" ", 1)[0].rstrip(":")
    found = _FLAVOUR.fullmatch(name)
    return found["name"] if found else name


def runs_prefect(process: Process) -> bool:
    """True for what looks like a program of Prefect's: the worker, the server, a flow run. It may be the workload."""
    started = _script(process)
    if started == "uvicorn":
        return any(word.startswith("prefect.server.") for word in process.command)
    return started == "prefect"


def _keeps_others(process: Process) -> bool:
    return not _KEEPERS.isdisjoint({program(process), _script(process)})


def _script(process: Process) -> str:
    """What an interpreter of Python starts; of another program its name."""
    name = program(process)
    return _started(process.command[1:]) if name.startswith(_INTERPRETERS) else name


def _started(arguments: Iterable[str]) -> str:
    """The package or script that these arguments of a Python interpreter start."""
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
    """Pids that are never touched: pid 1, ourselves, our ancestors, our own installation's worker and Prefect.

    Of another installation only the server that we talk to is spared, one of `servers`: any program can call itself
    Prefect's. Our descendants are not spared: a workload that an ancestor of ours started may be among them.
    """
    protected_pids = {1, me} | ancestry(snapshot, [me])
    protected_pids |= {
        process.pid
        for process in snapshot.values()
        if (runs_prefect(process) or _runs_ours(process.command)) and _ours(process, snapshot.get(me))
    }
    return protected_pids | set(servers)


def _runs_ours(command: Sequence[str]) -> bool:
    script = PurePath(*command[1:2]).name
    return script == _OUR_SCRIPT or not _OUR_PROGRAMS.isdisjoint(command[1:4])


def _ours(process: Process, me: Process | None) -> bool:
    """Whether a Python program runs in the same environment as we do: the same executable, called by the same path."""
    return me is None or (process.executable == me.executable and _called(process) == _called(me) != "")


def _called(process: Process) -> str:
    """The path that an interpreter was called by, which tells it where its packages are; empty where it is no path."""
    word = next(iter(process.command), "")
    return str(PurePath(process.cwd, word)) if "/" in word else ""


def members(
    snapshot: Mapping[int, Process],
    matchers: Iterable[Matcher],
    root: PurePath,
    protected_pids: Iterable[int],
    named: Named = NOTHING_NAMED,
) -> dict[Identity, Member]:
    """Every process of the workload, parents before children.

    A matching program that merely quotes (a shell, an editor) counts only as the parent of another match.
    A descendant of a match belongs to it, whatever its command line says, and so does who sits in a service of the
    workload. Those that the block excuses do not, nor what descends from the workload through one of them alone. One in
    a container is none of them: it is frozen and ended through its container only.
    """
    known, protected_now = tuple(matchers), frozenset(protected_pids)
    spared = excused(snapshot, known, root, named)
    untouchable = protected_now | spared
    below = {pid: process for pid, process in snapshot.items() if pid not in spared} if spared else snapshot
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
    """Pids of those that the block's `bystanders` name: told, never signalled, and no contradiction.

    What matches the workload's own patterns in its root, or where that may not be read, is not excused: a command line
    is in the hands of who is contained.
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
    """Processes that match by themselves."""
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
    """A program of the workload's own is no shell or editor of the host, whatever its file is called."""
    return quotes(process) and not PurePath(process.executable).is_relative_to(root)


@dataclass(frozen=True)
class Survey:
    """What a look at the whole host says of the workload.

    `alive` contradicts "nothing of the workload runs", with the reason, whoever it belongs to. Of these `suspects` are
    no members by the patterns: the reason is the fact that ties them. `bystanders` only match, or only work in the
    root: they are left alone, but a person should know of them. `excused` are the block's `bystanders`, and shells and
    editors, that one of these would be said of. `unread` may not be looked into.
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
    """Look for life. `since` is the moment of the first freeze in clock ticks since boot.

    What is in one of these `containers` is looked for there. In a container that nobody named, a match is told.

    Excluded ones that match are told as well: sparing them does not make them harmless. Shells and editors are
    nobody's workload; one of another user's that matches is told, since its executable may not be read. Whom the block
    tells apart by user or port from what it names is told, whatever else ties it.
    """
    known, untouchable, inside_of = tuple(matchers), frozenset(excluded_pids), frozenset(containers)
    spared = excused(snapshot, known, root, named)
    alive: dict[Identity, str] = {}
    suspects: dict[Identity, str] = {}
    bystanders, left, unread = [], [], []
    for process in snapshot.values():
        if not process.alive or process.container in inside_of:
            continue
        fits, inside = any(matcher.fits(process) for matcher in known), rooted(process, root)
        ours = process.pid in untouchable
        told_apart = not fits and any(matcher.names(process) for matcher in known)
        tie = "" if ours or told_apart else facts.tie(process, root)
        if process.pid in spared:
            left += [process] if not ours and (fits or inside or tie) else []
        elif _only_quotes(process, root) and unit_of(process.cgroup) not in named.units:
            bystanders += [process] if fits and process.placeless else []
            left += [process] if not ours and (inside or tie) else []
        elif reason := _contradiction(process, fits, inside, ours, named):
            alive[process.identity] = reason
        elif fact := _suspicion(process, inside and not ours, since, tie):
            suspects[process.identity] = fact
        else:
            bystanders += [process] if fits != inside and not ours else []
            unread += [process] if not ours and facts.unread(process, root) else []
    return Survey(alive | suspects, tuple(bystanders), suspects, tuple(left), tuple(unread))


def _contradiction(process: Process, fits: bool, inside: bool, excluded: bool, named: Named) -> str:  # noqa: FBT001
    if fits and inside:
        if process.container:
            return f"it matches, {_in_a_container(process.container)}"
        return "it is ours to spare, and matches" if excluded else "it matches"
    if process.container:
        return ""
    if fits and process.placeless:
        return f"it matches, it is user {process.user}'s, and where it works may not be read"
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
