"""Who belongs to the workload, who only looks like it, and who is never touched. Pure decisions over a snapshot."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePath
from typing import Any, Final

from tasks.custody.process import Identity, Process, ancestry, descendants, parents_first

_MULTIPLEXERS: Final = frozenset({"tmux", "tmux:", "screen", "SCREEN", "ssh", "sshd:", "zellij", "mosh-server"})
_SHELLS: Final = frozenset({"sh", "bash", "dash", "zsh", "ksh", "fish", "busybox", "script"})
_EDITORS: Final = frozenset(
    {"vi", "vim", "nvim", "nano", "emacs", "less", "more", "tail", "head", "cat", "tee", "watch"}
)
_SEARCHERS: Final = frozenset(
    {"grep", "egrep", "rg", "ag", "pgrep", "pkill", "ps", "sudo", "su", "doas", "strace", "gdb"}
)
_INTERPRETERS: Final = ("python", "pypy")
_QUOTERS: Final = _SHELLS | _EDITORS | _SEARCHERS | _MULTIPLEXERS


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
            bool(re.search(self.pattern, process.line))
            and self.user in {None, process.user}
            and (self.port is None or self.port in process.ports or process.placeless)
        )

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
    return _program(process) in _QUOTERS


def multiplexes(process: Process) -> bool:
    """True for a program that holds a person's other work too: its other children are nobody's workload."""
    return _program(process) in _MULTIPLEXERS


def _program(process: Process) -> str:
    """Name of the program; some, as sshd and tmux, write a title in its place, which begins with it and a colon.

    A Python program is one, whatever it calls itself.
    """
    if (real := PurePath(process.executable).name).startswith(_INTERPRETERS):
        return real
    called = process.command[0].lstrip("-") if process.command else ""
    title = called.split(" ", 1)[0]
    return title if title.endswith(":") else PurePath(called).name


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
    spared = {1, me} | ancestry(snapshot, [me])
    spared |= {process.pid for process in snapshot.values() if runs_prefect(process)}
    return spared


def members(
    snapshot: Mapping[int, Process],
    matchers: Iterable[Matcher],
    root: PurePath,
    spared: Iterable[int],
) -> dict[Identity, Member]:
    """Every process of the workload, parents before children.

    A matching program that merely quotes (a shell, an editor) counts only as the parent of another match.
    A descendant of a match belongs to it, whatever its command line says. One in a container is none of them: it is
    frozen and ended through its container only.
    """
    untouchable = frozenset(spared)
    found: dict[int, Member] = {}
    for matcher in matchers:
        family = _family(snapshot, matcher, root, untouchable)
        for pid in parents_first(snapshot, family | descendants(snapshot, family)):
            why = f"matches the {matcher.role} pattern" if pid in family else f"child of {snapshot[pid].parent}"
            found.setdefault(pid, Member(matcher.role, why))
    return {
        snapshot[pid].identity: found[pid]
        for pid in parents_first(snapshot, found)
        if snapshot[pid].alive and pid not in untouchable and not snapshot[pid].container
    }


def _family(snapshot: Mapping[int, Process], matcher: Matcher, root: PurePath, spared: frozenset[int]) -> set[int]:
    """Processes that match by themselves."""
    matched = {
        process.pid: process
        for process in snapshot.values()
        if process.alive and process.pid not in spared and not process.container and matcher.recognises(process, root)
    }
    plain = {pid for pid, process in matched.items() if not quotes(process)}
    carriers = matched.keys() - plain - {pid for pid, process in matched.items() if multiplexes(process)}
    return plain | (carriers & ancestry(snapshot, plain))


@dataclass(frozen=True)
class Survey:
    """What a look at the whole host says of the workload.

    `alive` contradicts "nothing of the workload runs", with the reason, whoever it belongs to. `bystanders` only
    match, or only work in the root: they are left alone, but a person should know of them.
    """

    alive: dict[Identity, str]
    bystanders: tuple[Process, ...]


def survey(  # noqa: PLR0913, PLR0917  each is one thing that a look depends on
    snapshot: Mapping[int, Process],
    matchers: Iterable[Matcher],
    root: PurePath,
    kept: Iterable[int],
    since: int,
    containers: Iterable[str] = (),
) -> Survey:
    """Look for life. `since` is the moment of the first freeze in clock ticks since boot.

    What is in one of these `containers` is looked for there. In a container that nobody named, a match is told.

    `kept` ones that match are told as well: sparing them does not make them harmless. Shells and editors are
    nobody's workload.
    """
    known, untouchable, named = tuple(matchers), frozenset(kept), frozenset(containers)
    alive: dict[Identity, str] = {}
    bystanders = []
    for process in _candidates(snapshot):
        if process.container in named:
            continue
        fits, inside = any(matcher.fits(process) for matcher in known), rooted(process, root)
        if reason := _contradiction(process, fits, inside, process.pid in untouchable, since):
            alive[process.identity] = reason
        elif fits != inside and process.pid not in untouchable:
            bystanders.append(process)
    return Survey(alive, tuple(bystanders))


def _candidates(snapshot: Mapping[int, Process]) -> Iterator[Process]:
    return (process for process in snapshot.values() if process.alive and not quotes(process))


def _contradiction(process: Process, fits: bool, inside: bool, kept: bool, since: int) -> str:  # noqa: FBT001
    if runs_prefect(process):
        return ""
    if process.container:
        return _in_a_container(process.container) if fits and inside else ""
    if fits and inside:
        return "it is ours to spare, and matches" if kept else "it matches"
    if fits and process.placeless:
        return f"it matches, it is user {process.user}'s, and where it works may not be read"
    if inside and not kept and process.identity.start >= since:
        return "it was started in the root after the freeze"
    return ""


def _in_a_container(container: str) -> str:
    return (
        f"it matches, in container {container[:12]}, which the workload block does not name; "
        f"add it to `containers`: docker ps --filter id={container[:12]} tells its name"
    )
