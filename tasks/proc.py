"""Reading /proc: a process as the kernel shows it. What may not be read stays empty."""

import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tasks.custody.container import Standpoint
from tasks.custody.process import Identity, Masks, Process

NOTHING: Final[Mapping[str, int]] = MappingProxyType({})
_LISTEN: Final = "0A"
_KERNEL_THREAD: Final = 0x00200000
_FORKED: Final = 0x00000040  # PF_FORKNOEXEC: forked, and no exec since
_ASKED: Final = re.compile(rb"^(Uid|SigBlk|SigIgn|SigCgt):\t(\w+)", re.MULTILINE)
_BLOCK: Final = 1 << 16
_FLOW_RUN: Final = re.compile(rb"(?:^|\0)PREFECT__FLOW_RUN_ID=([0-9a-f-]{36})(?:\0|$)")
GONE: Final = (FileNotFoundError, ProcessLookupError)


def boot_id() -> str:
    """The kernel's id of this boot: pids and start times mean nothing across boots."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_of(pid: int) -> int:
    """Start time of a process in clock ticks since boot. ProcessLookupError if it is gone."""
    try:
        return int(_stat(pid)[19])
    except GONE as error:
        raise ProcessLookupError(pid) from error


def began() -> datetime:
    """When this process was started, by the host's clock."""
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - start_of(os.getpid()) / os.sysconf("SC_CLK_TCK")
    return datetime.now(UTC) - timedelta(seconds=age)


def flow_run_of(pid: int) -> str:
    """The Prefect flow run that a process was started for; empty if none, or if its environment may not be read."""
    with suppress(OSError):
        if found := _FLOW_RUN.search(_bytes(pid, "environ")):
            return found[1].decode()
    return ""


def listeners(ports: frozenset[int]) -> dict[str, int]:
    """Sockets that listen on these TCP ports, by the name that they have among a process's open files."""
    found = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                words = line.split()
                port = int(words[1].rpartition(":")[2], 16)
                if words[3] == _LISTEN and port in ports:
                    found[f"socket:[{words[9]}]"] = port
    return found


def read_process(pid: int, listening: Mapping[str, int] = NOTHING) -> Process | None:
    """Read one process from /proc; what may not be read stays empty; None if it is gone."""
    try:
        stat = _stat(pid)
        if int(stat[6]) & _KERNEL_THREAD:
            return Process(Identity(pid, int(stat[19])), int(stat[1]), stat[0])
        status = _status(pid)
        command = _bytes(pid, "cmdline")
    except (*GONE, PermissionError):
        return None
    cwd, executable = _link(pid, "cwd"), _link(pid, "exe")
    cgroup = _text(pid, "cgroup")
    state = stat[0]
    if state == "Z" and _has_threads(pid):
        state = "R"
    return Process(
        identity=Identity(pid, int(stat[19])),
        parent=int(stat[1]),
        state=state,
        command=tuple(word.decode(errors="backslashreplace") for word in command.rstrip(b"\0").split(b"\0"))
        if command
        else (),
        cwd=cwd,
        executable=executable,
        user=int(status.get(b"Uid", b"-1")),
        masks=Masks(*(int(status.get(name, b"0"), 16) for name in (b"SigBlk", b"SigIgn", b"SigCgt"))),
        placeless=bool(command) and not cwd and not executable,
        cgroup=cgroup,
        container=standpoint().container(cgroup),
        ports=_ports(pid, listening) if listening else frozenset(),
        forked=bool(int(stat[6]) & _FORKED),
    )


@cache
def standpoint() -> Standpoint:
    """Where we look from, which does not change while we live."""
    return Standpoint.of(_text("self", "cgroup"), _text(1, "cgroup"), _text("self", "mountinfo"))


def _stat(pid: int) -> list[str]:
    return _bytes(pid, "stat").rpartition(b")")[2].decode().split()


def _status(pid: int) -> dict[bytes, bytes]:
    return dict(_ASKED.findall(_bytes(pid, "status")))


def _text(pid: int | str, name: str) -> str:
    with suppress(OSError):
        return _bytes(pid, name).decode(errors="replace")
    return ""


def _bytes(pid: int | str, name: str) -> bytes:
    """A file of /proc, in the fewest calls: the guard reads all of them several times a second, for days."""
    descriptor = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(descriptor, _BLOCK):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def _ports(pid: int, listening: Mapping[str, int]) -> frozenset[int]:
    folder = f"/proc/{pid}/fd"
    with suppress(OSError):
        files = (_link(pid, f"fd/{name}") for name in os.listdir(folder))
        return frozenset(listening[file] for file in files if file in listening)
    return frozenset()


def _has_threads(pid: int) -> bool:
    """A main thread that has exited looks like a zombie while the process's other threads go on."""
    with suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/task")) > 1
    return False


def _link(pid: int, name: str) -> str:
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/{name}").removesuffix(" (deleted)")
    return ""
