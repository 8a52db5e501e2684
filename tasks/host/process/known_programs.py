"""Decide from a process's program what it is: a shell, an editor, a multiplexer, a supervisor, Prefect (runbook §3)."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import PurePath
from typing import Final

from tasks.host.process.process import Process


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MULTIPLEXERS: Final = frozenset({"tmux", "screen", "SCREEN", "ssh", "sshd", "zellij", "mosh-server"})
SHELLS: Final = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish"})
_EDITORS: Final = frozenset({"vi", "vim", "nvi", "nvim", "nano", "emacs", "less", "more", "man", "mc"})
_COREUTILS: Final = _words("""
    tail head cat tee wc ls du df stat sort uniq cut tr sha256sum sha1sum md5sum cksum b2sum od split comm
    paste nl tac yes date true false sync touch mkdir chmod chown ln rm mv cp dd install truncate basename
    dirname realpath readlink seq printf echo
""")
_SEARCHERS: Final = _words("""
    grep egrep fgrep zgrep rg ag find locate diff cmp pgrep pkill ps lsof fuser strace gdb perf jq sed file
""")
_COPIERS: Final = _words("""
    rsync scp sftp sftp-server tar gzip bzip xz zstd zip unzip cpio restic borg rclone aws s5cmd git
""")
_CLIENTS: Final = frozenset({"psql", "mysql", "mariadb", "sqlite", "redis-cli", "mongosh"})
PROGRAMMED: Final = frozenset({"vi", "vim", "nvi", "nvim", "emacs", "mc", "gdb", "perf"}) | _CLIENTS
"""Programs that run code of their own language, so that only a person's at a terminal edits or reads."""
_MONITORS: Final = _words("top htop btop atop iotop iostat vmstat free nvidia-smi nvtop")
_WRAPPERS: Final = frozenset({"sudo", "su", "runuser", "doas", "script", "login", "timeout", "time", "nohup", "setsid"})
"""Programs that wait for one that they have started, and start nothing again."""
EVERYBODYS: Final = frozenset({"systemd", "init", "cron", "crond", "anacron", "atd", "sshd", "login"})
"""Programs that start processes of every user."""
_SHIMS: Final = ("containerd-shim", "conmon")
CRONS: Final = frozenset({"cron", "crond"})
WRAPPERS: Final = frozenset({"sudo", "su", "runuser", "doas", "script", "timeout"})
"""Programs that run one command, as somebody else, on a terminal of its own or for a while."""
_KEEPERS: Final = EVERYBODYS | _words(
    "supervisord circusd runsvdir s6-svscan monit slurmd slurmstepd dockerd containerd"
)
"""Programs that make a service shared: another process in it may belong to anything."""
_OUR_PROGRAMS: Final = frozenset({"flows.engine", "flows.cli", "flows.deadline"})
"""By the module that is run."""
_MODULE: Final = re.compile(r"-[A-Za-z]*m")
_CODE: Final = frozenset({"-c", "-e", "-ec", "-lc", "--eval"})
MANY_IN_ONE: Final = frozenset({"busybox", "toybox", "coreutils"})
_FLAVOUR: Final = re.compile(
    r"\.?(?P<name>.+?)(?:[.-]?\d[\d.]*+|[.-](?:basic|tiny|nox|gtk\d?|athena|lucid|motif|session|auth|rs|static|wrapped))*"
)
"""Variants of a program's name on a host: vim.basic, emacs-nox, bash-5.2, sshd-session, sudo-rs."""
_TOOLS: Final = _EDITORS | _COREUTILS | _SEARCHERS | _COPIERS | _CLIENTS | _MONITORS
HARMLESS: Final = SHELLS | _TOOLS | _MULTIPLEXERS | _WRAPPERS
"""Programs of a host that a person runs beside a workload: what they read they do not run. Shells run scripts."""
_REPEATERS: Final = frozenset({"watch"})
_REPEATERS_VALUES: Final = frozenset({"-n", "--interval", "-q", "--equexit", "-s", "--shotsdir"})
"""Options of watch (procps) that a value follows."""
_BETWEEN_COMMANDS: Final = re.compile(r"[;&|\n]+")
_QUOTERS: Final = HARMLESS | MANY_IN_ONE | _REPEATERS | {"make", "gmake"}
_WRITERS: Final = _QUOTERS - _MULTIPLEXERS - _EDITORS
_TELLING: Final = _QUOTERS | _KEEPERS | {"just", "ninja"}
_RUNNERS: Final = SHELLS | _REPEATERS | {"make", "gmake", "ssh"} | MANY_IN_ONE


def quotes(process: Process) -> bool:
    """Return whether the program may carry the pattern as text only: a shell, an editor, grep, a watch of those."""
    return is_one_of(_QUOTERS, process) and not (is_one_of(_REPEATERS, process) and _repeats_other(process.command))


@lru_cache(maxsize=1024)
def may_write(executable: str) -> bool:
    """Return whether it is a tool, by its program's name, that no person works in: what it writes is not his edit.

    Cached: each look asks for every process of the host, and most run one of a few programs.
    """
    return _plain(PurePath(executable).name) in _WRITERS


def _repeats_other(command: Sequence[str]) -> bool:
    """Return whether a `watch` runs again and again what does not only read, whether or not a run of it lives now."""
    words = iter(command[1:])
    for word in words:
        if word in _REPEATERS_VALUES:
            next(words, None)
        elif not word.startswith("-"):
            first = (each.split()[:1] for each in _BETWEEN_COMMANDS.split(" ".join([word, *words])))
            return any(PurePath(program).name not in _TOOLS for each in first for program in each)
    return False


def runs_code(process: Process) -> bool:
    """Return whether the program runs the file that its command line names, or code on it: a shell, make, watch."""
    return is_one_of(_RUNNERS, process)


def is_editor(process: Process) -> bool:
    """Return whether the program keeps a file open for writing beside the one that it edits."""
    return is_one_of(_EDITORS, process)


def interactive(process: Process) -> bool:
    """Return whether a person works in the program (tmux, ssh, emacs): its other children are not the workload's."""
    return is_one_of(_MULTIPLEXERS | _EDITORS, process)


def is_one_of(names: frozenset[str], process: Process) -> bool:
    """Return whether it is one of these programs: anybody may give a file of his own their names."""
    return not process.strange and program(process) in names


def keeps_container(process: Process) -> bool:
    """Return whether an engine has started it beside a container, whose processes are its children: `docker exec` too.

    Its end would leave them to run where the engine knows nothing of them.
    """
    return not (process.strange or process.container) and program(process).startswith(_SHIMS)


def program(process: Process) -> str:
    """Return the name of the program that a process runs, from its executable.

    The command line's first word is chosen by the parent, so it does not count. If the executable is not readable, the
    kernel's short name is used.
    """
    return _plain(PurePath(process.executable).name or process.name.split(" ", 1)[0].rstrip(":"))


def tells(executable: str) -> bool:
    """Return whether a program's name means anything here, so that it matters whose file it is."""
    name = _plain(PurePath(executable).name)
    return name in _TELLING or name.startswith(_SHIMS)


def _plain(name: str) -> str:
    found = _FLAVOUR.fullmatch(name)
    return found["name"] if found else name


def runs_prefect(process: Process) -> bool:
    """Return whether the process looks like Prefect's worker, server or flow run. It may still be the workload."""
    started = _script(process)
    if started == "uvicorn":
        return any(word.startswith("prefect.server.") for word in process.command)
    return started == "prefect"


def runs_ours(process: Process) -> bool:
    """Return whether a process is called as our programs or Prefect's are. It may still be the workload."""
    script = PurePath(*process.command[1:2]).name
    return runs_prefect(process) or script == "evacuation" or not _OUR_PROGRAMS.isdisjoint(process.command[1:4])


def keeps_others(process: Process) -> bool:
    """Return whether the program (cron, a supervisor) starts others' processes in its own service."""
    return not process.foreign and not _KEEPERS.isdisjoint({program(process), _script(process)})


def runs_inline_code(command: Sequence[str]) -> bool:
    """Return whether a command line gives its program code to run, as in sh -c or node --eval."""
    tells = (word for word in command[1:] if word in _CODE or _MODULE.fullmatch(word) or word[:1] not in {"-", "+"})
    return next(tells, "") in _CODE


def script_of(command: Sequence[str]) -> str:
    """Return the file that a command line may name as its program's script: the first word that is no option.

    Empty for a module (`-m`) and for code on the command line (`-c`, `-e`), and if there is none.
    """
    words = iter(command[1:])
    for word in words:
        if _MODULE.fullmatch(word) or word in _CODE:
            return ""
        if word in {"-W", "-X", "-o", "-O"}:
            next(words, None)
        elif not word.startswith(("-", "+")) and word:
            return word
    return ""


def _script(process: Process) -> str:
    """Return the script or package that a Python interpreter runs; for other programs the program's name."""
    name = program(process)
    return _find_program(process.command[1:]) if name.startswith(("python", "pypy")) else name


def _find_program(arguments: Iterable[str]) -> str:
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
