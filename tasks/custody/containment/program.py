"""Decide from a process's program what it is: a shell, an editor, a multiplexer, a supervisor, Prefect (runbook §3)."""

import re
from collections.abc import Iterable
from pathlib import PurePath
from typing import Final

from tasks.custody.containment.process import Process

_MULTIPLEXERS: Final = frozenset({"tmux", "screen", "SCREEN", "ssh", "sshd", "zellij", "mosh-server"})
SHELLS: Final = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "script"})
_EDITORS: Final = frozenset({"vi", "vim", "nvi", "nvim", "nano", "emacs", "less", "more"})
_PRINTERS: Final = frozenset({"tail", "head", "cat", "tee", "watch"})
_SEARCHERS: Final = frozenset(
    {"grep", "egrep", "rg", "ag", "pgrep", "pkill", "ps", "sudo", "su", "doas", "strace", "gdb"}
)
EVERYBODYS: Final = frozenset({"systemd", "init", "cron", "crond", "anacron", "atd", "sshd", "login"})
"""Programs that start processes of every user."""
CRONS: Final = frozenset({"cron", "crond"})
WRAPPERS: Final = frozenset({"sudo", "su", "runuser", "doas", "script", "timeout"})
"""Programs that run one command, as somebody else, on a terminal of its own or for a while."""
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
_QUOTERS: Final = SHELLS | _EDITORS | _PRINTERS | _SEARCHERS | _MANY_IN_ONE | _MULTIPLEXERS


def quotes(process: Process) -> bool:
    """Return whether the program may carry the pattern as text only: a shell, an editor, grep."""
    return program(process) in _QUOTERS


def interactive(process: Process) -> bool:
    """Return whether a person works in the program (tmux, ssh, emacs): its other children are not the workload's."""
    return program(process) in _MULTIPLEXERS | _EDITORS


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


def keeps_others(process: Process) -> bool:
    """Return whether the program (cron, a supervisor) starts others' processes in its own service."""
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
