"""Run a program on a hostile file, given as stdin: this file as a script, with LIMITS PROGRAM….

The program cannot use the network, write files, gain rights, see our environment or descriptors, exceed its memory or
time, or, as another user, start processes. Standard library only.
"""

import ctypes
import json
import os
import resource
import selectors
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Final

_SELF: Final = (sys.executable, "-I", "-S", str(Path(__file__).resolve()))
_ANSWER_LIMIT: Final = 1 << 20
_CLONE_NEWUSER: Final = 0x1000_0000
_CLONE_NEWNET: Final = 0x4000_0000
_REFUSED: Final = "\nrefused: "
_NO_NEW_PRIVS: Final = 38
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_WRITES: Final = sum(1 << bit for bit in (1, *range(4, 13)))
_WRITES_OF_LATER: Final = {2: 1 << 13, 3: 1 << 14}
_TCP_SINCE, _TCP = 4, 3


@dataclass(frozen=True)
class Limits:
    """Limits in seconds and bytes. The program runs as `user` with `groups`, the primary one first; None for ours."""

    seconds: float
    memory: int
    user: int | None = None
    groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class SandboxResult:
    """The program's output and exit code, whether it was late, missing protections, and why it did not start."""

    output: bytes
    ended: int
    late: bool
    without: tuple[str, ...]
    refused: str = ""


def run_confined(program: Sequence[str], file: BinaryIO, limits: Limits) -> SandboxResult:
    """Run a program until it ends or its time is up, in its own session and an empty folder."""
    with tempfile.TemporaryDirectory(prefix="confined-") as own:
        if limits.user is not None:
            os.chown(own, limits.user, -1)
        return _run(program, file, limits, own)


def _run(program: Sequence[str], file: BinaryIO, limits: Limits, folder: str) -> SandboxResult:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    command = [*_SELF, json.dumps([asdict(limits), writing, folder]), *program]
    try:
        process = subprocess.Popen(
            command,
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            cwd="/",
            pass_fds=[writing],
            start_new_session=True,
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    try:
        assert process.stdout  # noqa: S101  it was asked for
        with os.fdopen(reading, "rb") as walls, process.stdout:
            heard, late = _hear(process, [walls.fileno(), process.stdout.fileno()], limits.seconds)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    without, _, refused = heard[0].decode().partition(_REFUSED)
    return SandboxResult(heard[1], process.wait(), late, tuple(without.split()), refused)


def _hear(process: "subprocess.Popen[bytes]", pipes: Sequence[int], seconds: float) -> tuple[list[bytes], bool]:
    """Return the output of each pipe, until the program ends or is late. Children may hold the pipes open longer."""
    heard = {pipe: bytearray() for pipe in pipes}
    until = time.monotonic() + seconds
    ended = os.pidfd_open(process.pid)
    with selectors.DefaultSelector() as waiting, os.fdopen(ended, "rb", buffering=0):
        waiting.register(ended, selectors.EVENT_READ)
        for pipe in pipes:
            os.set_blocking(pipe, False)
            waiting.register(pipe, selectors.EVENT_READ)
        while pipes[-1] in waiting.get_map() and (ready := waiting.select(max(0.0, until - time.monotonic()))):
            over = any(key.fd == ended for key, _ in ready)
            for pipe in [pipe for pipe in pipes if pipe in waiting.get_map()]:
                if not _take(pipe, heard[pipe]):
                    waiting.unregister(pipe)
            if over:
                break
    return [bytes(each) for each in heard.values()], time.monotonic() >= until


def _take(pipe: int, heard: bytearray) -> bool:
    """Read what is available now. Returns False at the end, or at the limit."""
    with suppress(BlockingIOError):
        while len(heard) < _ANSWER_LIMIT:
            if not (content := os.read(pipe, _ANSWER_LIMIT - len(heard))):
                return False
            heard += content
        return False
    return True


def main() -> None:
    """Set up the protections, report missing ones, then execute the program."""
    given, telling, folder = json.loads(sys.argv[1])
    limits = Limits(**given)
    os.set_inheritable(telling, False)
    # a network namespace without interfaces: as root, or if users may create namespaces
    alone = any(_libc().unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWNET | _CLONE_NEWUSER))
    missing = [] if alone else ["network"]
    os.chdir(folder)
    os.umask(0o077)
    if limits.user is not None:
        os.setgroups(list(limits.groups))
        os.setgid(limits.groups[0])
        os.setuid(limits.user)
    _limit(limits)
    _libc().prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    missing += [] if _forbid_writes() else ["writes"]
    os.write(telling, " ".join(missing).encode())
    try:
        os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  no shell is wanted
    except OSError as error:
        os.write(telling, f"{_REFUSED}{error.strerror}".encode())


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _limit(limits: Limits) -> None:
    seconds = max(1, round(limits.seconds))
    wanted = {
        resource.RLIMIT_AS: limits.memory,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        **({resource.RLIMIT_NPROC: 0} if limits.user is not None else {}),
    }
    for which, value in wanted.items():
        hard = resource.getrlimit(which)[1]
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (least, least))


def _forbid_writes() -> bool:
    """Use Landlock to deny creating, changing, renaming and removing files, and connecting to TCP ports."""
    libc = _libc()
    abi = libc.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if abi < 1:
        return False
    rights = _WRITES | sum(bit for since, bit in _WRITES_OF_LATER.items() if abi >= since)
    attributes = struct.pack("QQ", rights, _TCP) if abi >= _TCP_SINCE else struct.pack("Q", rights)
    rules = libc.syscall(_LANDLOCK_CREATE, attributes, len(attributes), 0)
    return bool(rules >= 0 and libc.syscall(_LANDLOCK_RESTRICT, rules, 0) == 0)


if __name__ == "__main__":
    main()
