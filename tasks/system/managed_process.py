"""Run a child process with a log and a readiness check, and end it with all of its process group.

It runs under a keeper: this file as a script, in its own session, with a pipe from us as standard input. When the pipe
closes, because we closed it or died, the keeper ends the process and its group. A parent-death signal would be simpler,
but is sent when the thread that started the process ends, and drills start processes from short-lived threads.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

_KEEPER: Final = (sys.executable, "-I", "-S", str(Path(__file__).resolve()))
_POLL_SECONDS: Final = 0.05
_TAIL: Final = 1500
_OUTLIVED: Final[list[subprocess.Popen[bytes]]] = []  # kept alive: Popen warns when one is collected


class ManagedProcessError(Exception):
    """A process did not become ready; the message ends with the end of its log."""


class ManagedProcess:
    """A process with a log and a readiness check. Use it as a context manager."""

    name = "part"
    ready_seconds = 30.0
    grace_seconds = 10.0

    def __init__(self, folder: Path) -> None:
        """Keep log and data in the caller's folder."""
        self.folder = folder.absolute()
        self.log = self.folder / f"{self.name}.log"
        self._keeper: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        """Return the command to run."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Return its environment: ours, without Prefect's variables, which would lead to another server."""
        return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}

    def ready(self) -> bool:
        """Return whether the process is ready."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """Pid of the keeper, which leads the session and the process group."""
        return self._running().pid

    def _running(self) -> subprocess.Popen[bytes]:
        if self._keeper is None:
            got = "one that was not started. Call start() first."
            raise ManagedProcessError(f"expected a running {self.name}; got {got}")
        return self._keeper

    def start(self) -> None:
        """Start the process and wait until it is ready. Raises ManagedProcessError after `ready_seconds`."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.log.open("ab") as log:
            self._keeper = subprocess.Popen(
                [*_KEEPER, str(self.grace_seconds), *self.command()],
                cwd=self.folder,
                env=dict(self.environment()),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait_until_ready(self._keeper)
        except BaseException:
            self.stop()
            raise

    def _wait_until_ready(self, keeper: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self.ready_seconds
        while not self.ready():
            if keeper.poll() is not None:
                raise ManagedProcessError(self._complaint("one that ended at once"))
            if time.monotonic() > deadline:
                raise ManagedProcessError(self._complaint(f"none within {self.ready_seconds:g} s"))
            time.sleep(_POLL_SECONDS)

    def _complaint(self, got: str) -> str:
        tail = self.log.read_bytes()[-_TAIL:].decode(errors="replace")
        return f"expected a ready {self.name}; got {got}. It was stopped. Read {self.log}, which ends:\n{tail}"

    def stop(self) -> None:
        """End the process and its process group. Idempotent."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        if keeper.stdin:
            keeper.stdin.close()
        try:
            keeper.wait(self.grace_seconds + 5)
        except subprocess.TimeoutExpired:
            os.killpg(keeper.pid, signal.SIGKILL)
            keeper.wait()

    def let_go(self) -> subprocess.Popen[bytes]:
        """Return the keeper, whose pipe the caller then holds; this object is as if never started."""
        keeper, self._keeper = self._running(), None
        return keeper

    def restart(self) -> None:
        """Stop and start again, with the same data and ports."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        """Start the process."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the process."""
        self.stop()


def outlive(parts: Iterable[ManagedProcess]) -> int:
    """Leave processes running after us. Returns the pid of a process that holds their pipes: they end with it."""
    keepers = [part.let_go() for part in parts]
    pipes = [keeper.stdin.fileno() for keeper in keepers if keeper.stdin]
    holder = subprocess.Popen(
        [*_KEEPER, "hold"],
        cwd="/",
        pass_fds=pipes,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    for keeper in keepers:
        if keeper.stdin:
            keeper.stdin.close()
    _OUTLIVED.extend([*keepers, holder])
    return holder.pid


def keep(grace_seconds: float, command: Sequence[str]) -> None:
    """Run a command until it ends or standard input closes, then kill our process group, including us."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    with contextlib.suppress(KeyboardInterrupt):
        select.select([0, os.pidfd_open(child.pid)], [], [])
    with contextlib.suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
        child.terminate()
        child.wait(grace_seconds)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    if sys.argv[1] == "hold":
        signal.pause()
    else:
        keep(float(sys.argv[1]), sys.argv[2:])
