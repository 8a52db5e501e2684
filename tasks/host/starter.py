"""Decide what may start a stopped workload again, and how a person stops that (runbook §3).

A loop that sleeps has no child of the workload, and a cron entry is no process.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath
from typing import Final

from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Source, Unknown
from tasks.custody.evidence.redact import redact, redact_command
from tasks.custody.visible import visible
from tasks.host.judgement.suspect import excuse_for
from tasks.host.process.known_programs import MANY_IN_ONE, SHELLS, program, quotes
from tasks.host.process.process import Process, process_line
from tasks.host.process.source import SLEEPERS, is_bare
from tasks.host.unit.kept_down import is_down

_SHOWN: Final = 100
_LINE: Final = 4096
WAITERS: Final = SLEEPERS | {"inotifywait", "inotifywatch", "fswatch"}
LAUNCHERS: Final = frozenset(
    {"watch", "entr", "flock", "watchexec", "reflex", "nodemon", "watchmedo", "inotifywait", "parallel", "xargs"}
)
SUPERVISORS: Final = {
    "supervisord": "supervisorctl stop {name}",
    "supervisor.supervisord": "supervisorctl stop {name}",
    "circusd": "circusctl stop {name}",
    "circus.circusd": "circusctl stop {name}",
    "PM2": "pm2 stop {name}",
    "runsv": "sv down {name}",
    "s6-supervise": "s6-svc -d {name}",
    "supervise": "svc -d {name}",
    "monit": "monit unmonitor {name}",
} | dict.fromkeys(("foreman", "honcho", "overmind", "forever", "pm2-runtime"), "kill {pid}")
"""Supervisors by a word of their command lines, with the command that stops what they keep."""
FOLDERS: Final = frozenset({"runsv", "s6-supervise", "supervise"})
"""Those that keep one service each, and are given its folder."""
_REPEATS: Final = re.compile(r"\b(?:while|until|for|watch|entr|inotifywait)\b")
_BEFORE_A_PROGRAM: Final = r"(?:^|[;&|(]|\b(?:cd|pushd|do|then|else|exec|nohup|setsid|sudo|env|sh|bash|python[\d.]*)\s)"
_ELSEWHERE: Final = re.compile(r"""(?:\bcd\s+|\b(?:WorkingDirectory|directory|working_dir|pm_cwd)\W{1,4})['"]?/""")


class StarterKind(StrEnum):
    """What a starter is. The first four live, and contradict containment."""

    LOOP = "a loop in a shell"
    LAUNCHER = "a launcher"
    SUPERVISOR = "a supervisor"
    UNIT = "a systemd unit"
    CRON = "cron entry"
    AT = "at job"
    ENABLED = "enabled systemd unit"
    CONFIGURED = "configuration of a supervisor"


@dataclass(frozen=True)
class Starter:
    """What may start the workload again, and the command that stops it; `identity` is None for what is no process."""

    kind: StarterKind
    name: str
    how_to_stop: str
    identity: Identity | None = None

    def __str__(self) -> str:
        """Return what it is in one line, with the way to stop it."""
        return f"{self.place} ({self.why})"

    @property
    def place(self) -> str:
        """The pid and command of a process, or what else it is and where."""
        return f"{self.identity.pid}: {self.name}" if self.identity else f"{self.kind} {self.name}"

    @property
    def source(self) -> Source:
        """The same as the source of a process."""
        return Source(self.name, self.identity)

    @property
    def why(self) -> str:
        """What it is or does, and the way to stop it."""
        description = f"{self.kind}, which may" if self.identity else "may"
        return f"{description} start the workload again 再起動の可能性; to stop it 停止方法: {self.how_to_stop}"


@dataclass(frozen=True)
class Names:
    """What names a workload in a text: each path of its root, and the patterns of its command lines."""

    roots: tuple[str, ...]
    patterns: tuple[str, ...]

    @property
    def _root(self) -> str:
        return rf"(?<![\w./-])(?:{'|'.join(map(re.escape, self.roots))})(?![\w.-])"

    def place(self, text: str) -> re.Match[str] | None:
        """Return where a text names the root, or a path below it."""
        return re.search(rf"{self._root}\S*", text)

    def run_in(self, text: str) -> bool:
        """Return whether a script enters the root, or runs something that lies there."""
        return bool(re.search(rf"""{_BEFORE_A_PROGRAM}[ \t]*["']?{self._root}""", text, re.MULTILINE))

    def command(self, text: str) -> re.Match[str] | None:
        """Return where a line of a text matches a pattern."""
        lines = [line[:_LINE] for line in text.replace("\\\n", " ").splitlines()]
        return next((found for line in lines for each in self.patterns if (found := re.search(each, line))), None)

    def entry(self, text: str) -> re.Match[str] | None:
        """Return where an entry names the workload: its root, or a pattern unless it works in another folder."""
        return self.place(text) or (None if _ELSEWHERE.search(text) else self.command(text))

    def hold(self, folder: str) -> bool:
        """Return whether a folder is the root or lies below it."""
        return any(PurePath(folder).is_relative_to(root) for root in self.roots)


@dataclass(frozen=True)
class StarterFacts:
    """What is known beside the snapshot. `started` are ancestors of what was frozen, `since` when (in clock ticks).

    `texts` are the scripts and configurations that processes name in their command lines, `typed` are shells that read
    from a terminal, `configured` are the names of what is kept by the words of `SUPERVISORS`.
    """

    names: Names
    started: Collection[Identity] = ()
    since: int = 0
    texts: Mapping[Identity, str] = field(default_factory=dict)
    typed: Collection[Identity] = ()
    configured: Mapping[str, str] = field(default_factory=dict)


def living(
    snapshot: Mapping[int, Process], pids: Iterable[int], facts: StarterFacts
) -> tuple[tuple[Starter, ...], tuple[Unknown, ...]]:
    """Return which of these processes may start the workload again, and the shells of which a person must tell it."""
    children: dict[int, list[Process]] = {}
    for each in snapshot.values():
        children.setdefault(each.parent, []).append(each)
    own = (snapshot[pid] for pid in pids if snapshot[pid].alive and not snapshot[pid].container)
    found = [_judge(each, children.get(each.pid, ()), facts) for each in own]
    shells = tuple(each for each in found if isinstance(each, Unknown))
    return tuple(each for each in found if isinstance(each, Starter)), shells


def _judge(process: Process, children: Iterable[Process], facts: StarterFacts) -> Starter | Unknown | None:
    called, here = names_of(process), facts.names.hold(process.cwd)
    text = f"{process.line}\n{facts.texts.get(process.identity, '')}"
    shown, stop = process_line(process, _SHOWN), f"kill {process.pid}"
    if keeper := next(iter(called & SUPERVISORS.keys()), None):
        tied = here or process.identity in facts.started or keeper in facts.configured or facts.names.place(text)
        folder = redact_command(process.command, process.cwd)[-1:] if keeper in FOLDERS else ()
        name = folder[0] if folder else facts.configured.get(keeper, "NAME")
        stop = SUPERVISORS[keeper].format(name=visible(name, _SHOWN), pid=process.pid)
        return Starter(StarterKind.SUPERVISOR, shown, stop, process.identity) if tied else None
    there = here or process.placeless or facts.names.place(text)
    named = bool(there and facts.names.command(text))
    if not called & SHELLS:
        return Starter(StarterKind.LAUNCHER, shown, stop, process.identity) if called & LAUNCHERS and named else None
    working = [each for each in children if each.alive and not each.is_stopped]
    waits = next((each for each in working if names_of(each) & WAITERS), None)
    if is_prompt(process, facts.typed):
        return _judge_shell(process, waits, facts, here=here)
    goes_on = waits or _REPEATS.search(text) or not all(map(quotes, working))
    known = here or process.identity in facts.started or facts.names.run_in(text)
    is_loop = (named and goes_on) or (waits and known)
    return Starter(StarterKind.LOOP, shown, stop, process.identity) if is_loop else None


def _judge_shell(
    process: Process, waits: Process | None, facts: StarterFacts, *, here: bool
) -> Starter | Unknown | None:
    """Judge a person's shell: what was typed is not readable, only what it waits for."""
    shown, began = process_line(process, _SHOWN), process.identity in facts.started
    if waits is None or not (here or began):
        return None
    if began and waits.identity.start >= facts.since:
        return Starter(StarterKind.LOOP, shown, f"kill -HUP {process.pid}", process.identity)
    why = f"a shell in the root that waits in `{process_line(waits, _SHOWN)}`: it may be a typed loop"
    return Unknown(process.identity, shown, why, excuse_for(process))


def is_prompt(process: Process, typed: Collection[Identity]) -> bool:
    """Return whether a shell was given neither script nor command, reads from a terminal, and is no subshell."""
    return not process.forked and process.identity in typed and is_bare(process.command)


def names_of(process: Process) -> frozenset[str]:
    """Return what a process may be called: its program, else what it is called as, and what an interpreter runs."""
    name = program(process)
    taken = 4 if name.startswith(("python", "pypy", "ruby", "node", "perl")) else 2 if name in MANY_IN_ONE else 0
    return frozenset({name, *(PurePath(word.split(" ", 1)[0]).name for word in process.command[:taken])})


def units(
    shown: Iterable[Mapping[str, str]], names: Names, spared: Collection[str | int], started: Collection[str] = ()
) -> Iterator[Starter]:
    """Yield the services that systemd will start, or that run a command line of the workload's, by their properties.

    One that systemd does not restart is not among the latter. Of those that `started` the workload each that waits for
    its restart is, whatever its properties name. `spared` are units and main processes. A service that runs something
    else is judged by its processes.
    """
    for properties in shown:
        name, sub = properties.get("Id", ""), properties.get("SubState", "")
        text = f"{properties.get('ExecStart', '')}\n{properties.get('WorkingDirectory', '')}"
        is_spared = not {name, properties.get("MainPID")}.isdisjoint(spared)
        if is_down(properties) or sub == "exited" or is_spared:
            continue
        restarts = names.command(text) and properties.get("Restart", "") != "no"
        again = properties["ActiveState"] == "activating" or restarts
        waits = name in started and sub.startswith("auto-restart")
        if waits or (names.place(text) and again):
            yield Starter(StarterKind.UNIT, visible(name), f"systemctl stop {visible(name)}")


def entry(kind: StarterKind, path: str, text: str, names: Names, how_to_stop: str) -> Iterator[Starter]:
    """Yield what of a file names the workload; of cron each line is an entry. Only the word that names it is shown.

    `{name}` of `how_to_stop` is the section that the line lies in.
    """
    by_line, section = kind is StarterKind.CRON, "NAME"
    if not by_line and not names.entry(text):
        return
    for number, line in enumerate(text.splitlines(), 1):
        if head := re.match(r"\s*\[(?:program|watcher|group):([^\]]+)\]", line):
            section = head[1]
        bare = "" if line.lstrip().startswith(("#", ";")) else line
        if found := names.entry(bare) if by_line else names.place(bare) or names.command(bare):
            word = found[0] if names.place(bare) else found[0].partition(" ")[0]
            place = f"in {path}, line {number}: {redact(word)}"
            yield Starter(kind, visible(place), visible(how_to_stop.replace("{name}", section)))
            if not by_line and section == "NAME":
                return
