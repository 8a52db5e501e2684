"""An account of its own for what a test starts: the kernel counts what is left of it, whatever it calls itself."""

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Self

import psutil

from tests.support.workloads import open_the_way, wait_until

_FIRST = 1_000_000
_EACH = 64
_numbers = count(_FIRST + os.getpid() * _EACH)
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


class Account:
    """A user id that nobody else has, and a folder of its own. Needs root. What runs under it ends with the test."""

    def __init__(self, folder: Path) -> None:
        """Make the folder and take the next number."""
        self.uid, self.folder = next(_numbers), folder
        folder.mkdir()
        open_the_way(folder)
        self.give(folder)
        self._launch = opened(folder.with_name(f"{folder.name}-opened"))
        self._launch += ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"]

    def give(self, path: Path) -> None:
        """Make it the account's."""
        os.chown(path, self.uid, self.uid, follow_symlinks=False)

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {**kept, "HOME": str(self.folder), "TMPDIR": str(self.folder), "TERM": "xterm", **more}

    def start(self, command: Sequence[str], cwd: Path, **environment: str) -> None:
        """Start a program that is nobody's child: our own children are told apart."""
        subprocess.run(
            [*self._launch, "setsid", "--fork", *command],
            cwd=cwd,
            env=self._environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )

    def run(self, command: Sequence[str], **environment: str) -> str:
        """Run a program to its end; what it prints."""
        done = subprocess.run(
            [*self._launch, *command],
            cwd="/",
            env=self._environment(environment),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def lives(self) -> bool:
        """Whether the kernel counts any task of the account, in one moment: no generation of a fork chain slips by."""
        return self._ended(self._forks_with_a_limit_of_two) == errno.EAGAIN

    @staticmethod
    def _forks_with_a_limit_of_two() -> int:
        resource.setrlimit(resource.RLIMIT_NPROC, (2, 2))
        try:
            child = os.fork()
        except OSError as error:
            return error.errno or -1
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        return 0

    def processes(self) -> dict[int, psutil.Process]:
        """Those of the account that a look finds, and that have not ended."""
        found = {}
        for process in psutil.process_iter():
            try:
                if process.uids().real == self.uid and not _ended(process.pid):
                    found[process.pid] = process
            except (psutil.Error, OSError):
                continue
        return found

    def told(self) -> list[str]:
        """What they are, for whoever reads why a test has failed."""
        found = []
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
        """End all of it in one moment, until the kernel counts nobody."""

        def kill_everybody() -> int:
            os.kill(-1, signal.SIGKILL)
            return 0

        def gone() -> bool:
            if self.lives():
                self._ended(kill_everybody)
            return not self.lives()

        wait_until(gone, what=f"the end of user {self.uid}")

    def __enter__(self) -> Self:
        """Nothing runs yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, whatever happened."""
        self.end()


def _ended(pid: int) -> bool:
    """Whether none of its threads lives: of a process whose main thread has exited the kernel says that it is dead."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            if (thread / "stat").read_text().rpartition(") ")[2][0] not in "ZX":
                return False
        except OSError:
            continue
    return True
