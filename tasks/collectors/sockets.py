"""Collect sockets of the host and of the frozen processes, with state and peer, as the kernel tells.

It tells of a network namespace at a time, so containers' are asked too.
"""

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Final

from tasks.acquisition.collector import Collector, FunctionOutput, Target
from tasks.acquisition.procfs import folder_of, link, numbers, printable
from tasks.custody.evidence.redact import redact_command
from tasks.system.unix_sockets import LISTENS, UnixSocket, UnixSockets, inode_of

_STATES: Final = (
    *("", "established", "syn-sent", "syn-received", "fin-wait-1", "fin-wait-2", "time-wait"),
    *("close", "close-wait", "last-ack", "listening", "closing"),
)
_OTHERS: Final = {1: "connected", 7: "unconnected", LISTENS: "listening"}
"""States of UDP and UNIX sockets."""
_MOST: Final = 20_000
_ROW: Final = "{:<5} {:<12} {:<28} {:<28} {}\n"


@dataclass(frozen=True)
class Socket:
    """One socket. The peer of one of UNIX is not told."""

    kind: str
    state: str
    local: str
    peer: str


_READ: Final[dict[str, dict[int, Socket]]] = {}
_UNREAD: Final = dict[str, str]()


def address(text: str) -> str:
    """Return `0100007F:1F90` as 127.0.0.1:8080; each word of four bytes is in this machine's byte order."""
    number, _, port = text.partition(":")
    words = [int(number[at : at + 8], 16) for at in range(0, len(number), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    family, form = (socket.AF_INET, "{}:{}") if len(words) == 1 else (socket.AF_INET6, "[{}]:{}")
    return form.format(socket.inet_ntop(family, packed), int(port, 16))


def inet(kind: str, text: str) -> dict[int, Socket]:
    """Parse /proc/net/tcp and its like, by inode: tables of numbers, all of them the kernel's."""
    rows = (line.split() for line in text.splitlines()[1:])
    return {int(row[9]): Socket(kind, _state(kind, row[3]), address(row[1]), address(row[2])) for row in rows}


def _state(kind: str, text: str) -> str:
    number = int(text, 16)
    if kind.startswith("udp"):
        return _OTHERS.get(number, text)
    return _STATES[number] if number < len(_STATES) else text


def unix(one: UnixSocket) -> Socket:
    """Return a socket as it is shown; bytes of its name that are not UTF-8 become escapes."""
    name = os.fsencode(one.name).decode(errors="backslashreplace")
    return Socket("unix", _OTHERS.get(one.state, str(one.state)), name, "")


def tables_of(pid: int) -> dict[int, Socket]:
    """Return all sockets of a process's network namespace, by inode; each namespace is read once."""
    namespace, known = link(pid, "ns/net"), UnixSockets()
    if namespace not in _READ:
        found: dict[int, Socket] = {}
        for kind in ("tcp", "tcp6", "udp", "udp6"):
            with suppress(FileNotFoundError):  # a kernel without IPv6
                found |= inet(kind, Path(f"/proc/{pid}/net/{kind}").read_text())
        if why := known.ask(pid):
            _UNREAD[namespace] = f"UNIX sockets of {namespace} were not read: {why}"
        _READ[namespace] = found | {inode: unix(each) for inode, each in known.found.items()}
    return _READ[namespace]


def descriptors(pid: int) -> Iterator[tuple[int, str]]:
    """Yield each descriptor of a process with its target; one that is closed meanwhile is left out."""
    for number in numbers(f"{pid}/fd"):
        with suppress(FileNotFoundError):
            yield number, link(pid, f"fd/{number}")


def of_process(pid: int) -> list[dict[str, Any]]:
    """Return the sockets that a process holds, by descriptor."""
    sockets, kind = tables_of(pid), "other, or not read" if _UNREAD else "other"
    held = [(descriptor, inode) for descriptor, link in descriptors(pid) if (inode := inode_of(link)) is not None]
    return [
        {"descriptor": descriptor, "inode": inode, **(vars(sockets[inode]) if inode in sockets else {"kind": kind})}
        for descriptor, inode in held
    ]


def _owners(pids: Iterable[int]) -> tuple[dict[int, list[int]], int]:
    """Return the pids by socket, and the number of processes that could not be read."""
    holders: dict[int, list[int]] = {}
    denied = 0
    for pid in pids:
        try:
            for inode in {inode_of(link) for _, link in descriptors(pid)} - {None}:
                holders.setdefault(inode or 0, []).append(pid)
        except PermissionError:
            denied += 1
        except OSError:
            continue
    return holders, denied


@cache
def _command(pid: int) -> str:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode(errors="backslashreplace").split("\0")
        return printable(redact_command(words, folder_of(pid)))[:60]
    return "gone"


def make(_: Target) -> bytes:
    """Return a table like `ss -a`: listening first, each with all processes that hold it."""
    pids = numbers("")
    found: dict[int, Socket] = {}
    for pid in pids or [os.getpid()]:
        with suppress(OSError):
            found |= tables_of(pid)
    holders, denied = _owners(pids)
    shown = sorted(
        found.items(), key=lambda item: (item[1].kind == "unix", item[1].state != "listening", item[1].local)
    )
    rows = []
    for inode, one in islice(shown, _MOST):
        held_by = ", ".join(f"{pid} ({_command(pid)})" for pid in holders.get(inode, [])) or "not known"
        rows.append(_ROW.format(one.kind, one.state, printable([one.local]), one.peer, held_by))
    notes = [f"{denied} processes could not be read\n"] if denied else []
    notes += [f"{why}\n" for why in _UNREAD.values()]
    notes += [f"{len(shown) - _MOST} more are not shown\n"] if len(shown) > _MOST else []
    head = _ROW.format("KIND", "STATE", "LOCAL", "PEER", "HELD BY")
    return "".join([head, *rows, *notes]).encode(errors="backslashreplace")


COLLECTOR = Collector(
    name="sockets",
    answers="Who listened, and who was connected to whom?",
    order=12,
    sources=(FunctionOutput(make, "sockets.txt"),),
    while_frozen=True,
)
