"""An account of its own for what a test starts: the kernel counts what is left of it, whatever it calls itself."""

import ctypes
import errno
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Self

import psutil

from tests.support.workloads import open_the_way, wait_until

_FIRST = 1_000_000_000
_EACH = 30_000
_PIDS = 1 << 15
_LOOKS = 5
_numbers = count(_FIRST + os.getpid() % _PIDS * _EACH)
PROJECT = Path(__file__).parents[2]


def opened(folder: Path) -> list[str]:
    """A launcher in whose own mount namespace anybody reaches our interpreter, also one in a closed home."""
    interpreter = Path(sys.executable).resolve()
    closed = next((parent for parent in reversed(interpreter.parents) if not parent.stat().st_mode & 0o001), None)
    if closed is None:
        return []
    (folder / interpreter.relative_to(closed).parts[0]).mkdir(parents=True, exist_ok=True)
    script = 'mount --rbind "$1/$2" "$3/$2" && mount --rbind "$3" "$1" && shift 3 && exec "$@"'
    inner = interpreter.relative_to(closed).parts[0]
    return ["unshare", "--mount", "sh", "-c", script, "sh", str(closed), inner, str(folder)]


def new_user() -> int:
    """A user id that nothing has run under, also beside other workers of the same tests."""
    return next(_numbers)


@contextmanager
def own_network() -> Iterator[list[str]]:
    """Yield a launcher into a network of its own, with a loopback: who attacks there meets no other test's server."""
    up = "ip link set lo up && echo && exec sleep 3000"
    with subprocess.Popen(["unshare", "--net", "sh", "-c", up], stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout
        assert keeper.stdout.readline()
        yield ["nsenter", f"--net=/proc/{keeper.pid}/ns/net"]
        keeper.kill()


def listening(network: Sequence[str]) -> socket.socket:
    """A socket of ours that listens in a network of `own_network`."""

    def listen() -> socket.socket:
        with Path(network[-1].partition("=")[2]).open() as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0x40000000):  # CLONE_NEWNET
                raise OSError(ctypes.get_errno(), "setns")
        return socket.create_server(("127.0.0.1", 0))

    with ThreadPoolExecutor(1) as apart:  # only the thread that listens is there
        return apart.submit(listen).result()


class Account:
    """A user id that nobody else has, and a folder of its own. Needs root. What runs under it ends with the test."""

    def __init__(self, folder: Path, before: Sequence[str] = ()) -> None:
        """Make the folder and take the next number. `before` is a launcher that root starts its programs by."""
        self.uid, self.folder = new_user(), folder
        folder.mkdir()
        open_the_way(folder)
        self.passing = Path(mkdtemp(prefix="account-"))  # the name of a socket may be no longer than a hundred bytes
        self.give(folder)
        self.give(self.passing)
        self._launch = [*before, *opened(folder.with_name(f"{folder.name}-opened"))]
        self._launch += ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"]

    def give(self, path: Path) -> None:
        """Make it the account's."""
        os.chown(path, self.uid, self.uid, follow_symlinks=False)

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {**kept, "HOME": str(self.folder), "TMPDIR": str(self.passing), "TERM": "xterm", **more}

    def start(self, command: Sequence[str], cwd: Path, **environment: str) -> None:
        """Start a program that is nobody's child: our own children are told apart."""
        with (self.passing / "output").open("ab") as output:
            subprocess.run(
                [*self._launch, "setsid", "--fork", *command],
                cwd=cwd,
                env=self._environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=True,
            )

    def run(self, command: Sequence[str], given: str = "", **environment: str) -> str:
        """Run a program to its end on this standard input; what it prints."""
        done = subprocess.run(
            [*self._launch, *command],
            cwd="/",
            env=self._environment(environment),
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def lives(self) -> bool:
        """Whether the kernel counts any task of the account, in one moment: no generation of a fork chain slips by.

        It counts the dead as well that nobody has waited for, as many as there were before and are there still. Who
        dies and is waited for all the time must be born all the time.
        """
        for _ in range(_LOOKS):
            if not self._counts_more_than(0):
                return False
            dead = self._dead()
            more = self._counts_more_than(len(dead))
            if dead <= self._dead():
                return more
        return True

    def _counts_more_than(self, tasks: int) -> bool:
        return self._ended(partial(_forks_within, tasks + 2)) == errno.EAGAIN

    def _dead(self) -> set[int]:
        return {pid for pid in self._pids() if _ended(pid)}

    def _pids(self) -> Iterator[int]:
        """A process's folder belongs to its effective user, the quickest that the kernel tells of it."""
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and entry.stat().st_uid == self.uid:
                    yield int(entry.name)

    def processes(self) -> dict[int, psutil.Process]:
        """Those of the account that a look finds, and that have not ended."""
        found = {}
        for pid in (pid for pid in self._pids() if not _ended(pid)):
            with suppress(psutil.Error):
                found[pid] = psutil.Process(pid)
        return found

    def told(self) -> list[str]:
        """What they have printed and what they are, for whoever reads why a test has failed."""
        found = [(self.passing / "output").read_text(errors="replace")[-1000:]]
        for pid, process in self.processes().items():
            try:
                found.append(f"{pid} {process.status()} {process.name()}: {' '.join(process.cmdline())[:120]}")
            except psutil.Error:
                found.append(f"{pid} passing")
        return found

    def _ended(self, act: Callable[[], int]) -> int:
        """Do something as this account; nothing of ours runs under it."""
        child = os.fork()
        if not child:
            code = 99
            try:
                os.setgroups([])
                os.setresgid(self.uid, self.uid, self.uid)
                os.setresuid(self.uid, self.uid, self.uid)
                if os.getresuid() == (self.uid,) * 3:
                    code = act()
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def end(self) -> None:
        """Kill all of it in one moment."""

        def kill_everybody() -> int:
            os.kill(-1, signal.SIGKILL)
            return 0

        self._ended(kill_everybody)
        wait_until(lambda: not self.lives(), what=f"the end of user {self.uid}")
        rmtree(self.passing, ignore_errors=True)

    def __enter__(self) -> Self:
        """Nothing runs yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, whatever happened."""
        self.end()


def _forks_within(tasks: int) -> int:
    resource.setrlimit(resource.RLIMIT_NPROC, (tasks, tasks))
    try:
        child = os.fork()
    except OSError as error:
        return error.errno or -1
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return 0


def _ended(pid: int) -> bool:
    """Whether none of its threads lives: of a process whose main thread has exited the kernel says that it is dead."""
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                if (thread / "stat").read_text().rpartition(") ")[2][0] not in "ZX":
                    return False
    return True
