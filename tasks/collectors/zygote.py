"""Fork each collector's process from a warm one: a new interpreter would cost it a tenth of a second.

That is what the frozen workload waits for, thirty times. `python -m tasks.collectors.zygote DESCRIPTOR` has imported
all collectors, has one thread, and forks when it is asked to; what is forked is in a session of its own, with the
environment, the folder and the three standard files of the request. It ends with whoever started it.
"""

import atexit
import gc
import json
import os
import selectors
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

from tasks.collectors import discover
from tasks.collectors.__main__ import main

INTERPRETER: Final = (sys.executable, "-m", "tasks.collectors")
_ZYGOTE: Final = (sys.executable, "-m", "tasks.collectors.zygote")
_MESSAGE: Final = 1 << 17
_READY_SECONDS: Final = 10.0
_FILES: Final = 3
_LOST: Final = -1
_GO: Final = b"go"


class Running(Protocol):
    """A collector's process, as far as an attempt needs to know it."""

    @property
    def pid(self) -> int:
        """Leads a process group of its own."""

    def wait(self, timeout: float) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired."""


class Forked:
    """A process that is no child of ours: the zygote tells of its end."""

    def __init__(self, line: socket.socket) -> None:
        """Wait until it stands. Raises OSError if it does not."""
        self._line = line
        line.settimeout(_READY_SECONDS)
        word, _, number = line.recv(_MESSAGE).decode().partition(" ")
        if word != "pid":
            line.close()
            raise OSError(f"expected a forked process; got {word!r} {number}")
        self.pid = int(number)
        line.send(_GO)

    def __del__(self) -> None:
        """One that is stuck in the kernel is not waited for."""
        self._line.close()

    def wait(self, timeout: float) -> int:
        """Its exit code; -1 if the zygote has ended before it and can tell nothing."""
        self._line.settimeout(timeout)
        try:
            told = self._line.recv(_MESSAGE)
        except TimeoutError as error:
            raise subprocess.TimeoutExpired("a collector", timeout) from error
        except ConnectionError:
            told = b""
        self._line.close()
        return int(told.partition(b" ")[2]) if told else _LOST


class Zygote:
    """The one of this process. Made when it is first asked, and again if it was lost."""

    def __init__(self) -> None:
        """Nothing is started yet."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None

    def fork(self, words: Sequence[str], files: Sequence[int]) -> Forked:
        """A process that runs a collector. Raises OSError, and whoever asked starts an interpreter instead."""
        request = json.dumps({"words": [*words], "environment": {**os.environ}, "folder": str(Path.cwd())}).encode()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs, self._lock:
                self._ask(request, [theirs.fileno(), *files])
            return Forked(ours)
        except OSError:
            ours.close()
            raise

    @property
    def pid(self) -> int | None:
        """Of the warm process, if there is one."""
        return self._process.pid if self._process else None

    def end(self) -> None:
        """Let it go; what it has forked goes on to its own end."""
        with self._lock:
            self._end()

    def _ask(self, request: bytes, descriptors: list[int]) -> None:
        try:
            socket.send_fds(self._standing(), [request], descriptors)
        except BrokenPipeError:  # it is just ending
            self._end()
            socket.send_fds(self._standing(), [request], descriptors)

    def _standing(self) -> socket.socket:
        if self._line and self._process and self._process.poll() is None:
            return self._line
        self._end()
        line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line = line
        with theirs:
            os.set_inheritable(theirs.fileno(), True)
            self._process = subprocess.Popen(
                [*_ZYGOTE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        return line

    def _end(self) -> None:
        if self._line:
            self._line.close()
        if self._process:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_READY_SECONDS)
        self._line = self._process = None


_OURS: Final = Zygote()
atexit.register(_OURS.end)


def start(words: Sequence[str], files: Sequence[int], program: Sequence[str] = ()) -> Running:
    """A process for one collector, its standard files given: forked, or of a program of its own where that fails."""
    if not program:
        with suppress(OSError):
            return _OURS.fork(words, files)
    asked, out, err = files
    return subprocess.Popen(
        [*(program or INTERPRETER), *words], stdin=asked, stdout=out, stderr=err, start_new_session=True
    )


def serve(line: socket.socket) -> None:
    """Fork for each request, and tell of each end, until nobody asks any more."""
    with selectors.DefaultSelector() as waiting:
        waiting.register(line, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.fileobj is not line:
                    waiting.unregister(key.fd)
                    _tell(key.fd, *key.data)
                    continue
                request, descriptors, _, _ = socket.recv_fds(line, _MESSAGE, 1 + _FILES)
                if not request:
                    return
                pid, end = _fork(json.loads(request), descriptors)
                waiting.register(end, selectors.EVENT_READ, (pid, descriptors[0]))


def _fork(request: dict[str, Any], descriptors: Sequence[int]) -> tuple[int, int]:
    if (pid := os.fork()) == 0:
        _become(request, *descriptors)
    for descriptor in descriptors[1:]:
        os.close(descriptor)
    return pid, os.pidfd_open(pid)


def _tell(end: int, pid: int, asker: int) -> None:
    _, status = os.waitpid(pid, 0)
    os.close(end)
    with socket.socket(fileno=asker) as line, suppress(OSError):
        line.send(f"ended {os.waitstatus_to_exitcode(status)}".encode())


def _become(request: dict[str, Any], asker: int, *files: int) -> NoReturn:
    """Be a collector's process; never come back."""
    code = 1
    try:
        os.setsid()
        if not _wanted(asker):
            os._exit(code)
        for standard, given in enumerate(files):
            os.dup2(given, standard)
        os.closerange(_FILES, os.sysconf("SC_OPEN_MAX"))
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        sys.argv = ["tasks.collectors", *request["words"]]
        main()
        code = 0
    except BaseException:  # noqa: BLE001  what an interpreter does at its end
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _wanted(asker: int) -> bool:
    """Whoever has not waited for us has an interpreter do the work by now: two must not write to the same files."""
    try:
        os.write(asker, f"pid {os.getpid()}".encode())
        return os.read(asker, len(_GO)) == _GO
    except OSError:
        return False


if __name__ == "__main__":
    discover()
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
