"""Fork each collector's process from a warm one, because a new interpreter costs a tenth of a second.

The frozen workload would wait for that thirty times. `python -m tasks.collectors.zygote DESCRIPTOR` has imported all
collectors, has one thread, and forks on request. A forked process has a session of its own, and the environment and
the three standard files of the request. The zygote ends with the process that started it.

See docs/adr/0017.
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
from typing import Any, Final, NoReturn, TypeAlias

from tasks.collectors import discover
from tasks.collectors.__main__ import main

INTERPRETER: Final = (sys.executable, "-P", "-m", "tasks.collectors")
_MESSAGE: Final = 1 << 17
_READY_SECONDS: Final = 10.0
_FILES: Final = 3
_LOST: Final = -1
_GO: Final = b"go"


class Forked:
    """A process that is not our child: the zygote reports its end."""

    def __init__(self, line: socket.socket) -> None:
        """Wait until it runs. Raises OSError if it does not."""
        self._line = line
        line.settimeout(_READY_SECONDS)
        word, _, number = line.recv(_MESSAGE).decode().partition(" ")
        if word != "pid":
            line.close()
            raise OSError(f"expected a forked process; got {word!r} {number}")
        self.pid = int(number)
        line.send(_GO)

    def __del__(self) -> None:
        """Close the line. A process that is stuck in the kernel is not waited for."""
        self._line.close()

    def wait(self, timeout: float) -> int:
        """Return its exit code; -1 if the zygote ended before it."""
        self._line.settimeout(timeout)
        try:
            message = self._line.recv(_MESSAGE)
        except TimeoutError as error:
            raise subprocess.TimeoutExpired("a collector", timeout) from error
        except ConnectionError:
            message = b""
        self._line.close()
        return int(message.partition(b" ")[2]) if message else _LOST


Running: TypeAlias = Forked | subprocess.Popen[bytes]
"""A collector's process. Its pid is that of its process group too."""


class Zygote:
    """The zygote of this process, started on first use, and again if it died."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None

    def fork(self, words: Sequence[str], files: Sequence[int]) -> Forked:
        """Return a process that runs a collector. Raises OSError; the caller then starts an interpreter instead."""
        request = json.dumps({"words": [*words], "environment": {**os.environ}}).encode()
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
        """Pid of the warm process; None if there is none."""
        return self._process.pid if self._process else None

    def end(self) -> None:
        """End the zygote; forked processes go on to their own end."""
        with self._lock:
            self._end()

    def _ask(self, request: bytes, descriptors: list[int]) -> None:
        try:
            socket.send_fds(self._standing(), [request], descriptors)
        except BrokenPipeError:  # it is about to end
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
            words = [sys.executable, "-P", "-m", "tasks.collectors.zygote", str(theirs.fileno())]
            quiet = subprocess.DEVNULL
            self._process = subprocess.Popen(
                words, stdin=quiet, stdout=quiet, cwd="/", pass_fds=[theirs.fileno()], start_new_session=True
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
    """Start a collector's process with these standard files: forked, or a new interpreter if that fails."""
    if not program:
        with suppress(OSError):
            return _OURS.fork(words, files)
    request, out, err = files
    return subprocess.Popen(
        [*(program or INTERPRETER), *words], stdin=request, stdout=out, stderr=err, cwd="/", start_new_session=True
    )


def serve(line: socket.socket) -> None:
    """Fork for each request and report each end, until the asker closes the line."""
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
    """Turn into a collector's process; never returns."""
    code = 1
    try:
        os.setsid()
        if not _is_wanted(asker):
            os._exit(code)
        for standard, descriptor in enumerate(files):
            os.dup2(descriptor, standard)
        os.closerange(_FILES, os.sysconf("SC_OPEN_MAX"))
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv = ["tasks.collectors", *request["words"]]
        main()
        code = 0
    except BaseException:  # noqa: BLE001  as an interpreter does at its end
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _is_wanted(asker: int) -> bool:
    """Return whether the asker still waits. If not, an interpreter does the work: two would write the same files."""
    try:
        os.write(asker, f"pid {os.getpid()}".encode())
        return os.read(asker, len(_GO)) == _GO
    except OSError:
        return False


if __name__ == "__main__":
    discover()
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
