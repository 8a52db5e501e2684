"""Ask the kernel for UNIX sockets, by netlink (sock_diag(7)).

In /proc/net/unix a socket's name may hold a newline, so that any account writes rows of that table. Here the name is
one attribute of a message, as long as its header says. All else is the kernel's: number, state, and device and inode of
the file that was bound.
"""

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Final, NamedTuple

LISTENS: Final = 10
"""The state of a socket that listens (TCP_LISTEN)."""
_HEADER, _SOCKET, _ATTRIBUTE, _CODE = map(struct.Struct, ("=IHHII", "=BBBBIII", "=HH", "=i"))
_DIAGNOSTICS: Final = socket.AF_NETLINK, socket.SOCK_DGRAM, 4  # NETLINK_SOCK_DIAG
_REQUEST: Final = struct.pack("=IHHIIBBHIIIII", 40, 20, 0x301, 1, 0, socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, 3, 0, 0)
"""A dump by family (SOCK_DIAG_BY_FAMILY) of all states, each with name and file (UDIAG_SHOW_NAME, UDIAG_SHOW_VFS)."""
_NAME, _FILE = 0, 1
_ERROR, _DONE = 2, 3
_BLOCK: Final = 1 << 16
_NETWORK: Final = 0x40000000  # CLONE_NEWNET
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class UnixSocket(NamedTuple):
    """One socket; `state` is the kernel's number of it, as in tcp_states.h.

    `name` is what its account has bound it to, which may be any text: an abstract one begins with "@", any other is
    the path that was given. `file` is device and inode of the file that this has made, None if it has none: the device
    that mountinfo has, and the lower 32 bits of the inode.
    """

    state: int
    name: str
    file: tuple[int, int] | None


def inode_of(link: str) -> int | None:
    """Return the number of a socket by the kernel's name of an open file; None if it is no socket."""
    return int(link[len("socket:[") : -1]) if link.startswith("socket:[") else None


class UnixSockets:
    """The UNIX sockets of the network namespaces that were asked, each once: `found` has them by their numbers."""

    def __init__(self) -> None:
        """Ask nothing yet."""
        self.found, self.unread = dict[int, UnixSocket](), dict[int, str]()

    def ask(self, where: int | str) -> str:
        """Ask in the namespace of a process, by its name in /proc. Return why that was not answered; empty if it was.

        OSError if the process has ended, or may not be looked into.
        """
        with Path(f"/proc/{where}/ns/net").open("rb") as namespace:
            if (number := os.fstat(namespace.fileno()).st_ino) not in self.unread:
                self.unread[number] = ""
                try:
                    self.found |= _read(namespace.fileno())
                except OSError as error:
                    self.unread[number] = f"unix_diag: {error.strerror}"
            return self.unread[number]


def _read(namespace: int) -> Iterator[tuple[int, UnixSocket]]:
    with _connect(namespace) as line:
        line.send(_REQUEST)
        while True:
            for kind, message in _parts(_HEADER, line.recv(_BLOCK)):
                if kind in {_ERROR, _DONE}:
                    if error := -_CODE.unpack_from(message)[0]:
                        raise OSError(error, os.strerror(error))
                    return
                _, _, state, _, number, *_ = _SOCKET.unpack_from(message)
                attributes, file = dict(_parts(_ATTRIBUTE, message[_SOCKET.size :])), None
                name = os.fsdecode(attributes.get(_NAME, b""))
                if _FILE in attributes:
                    inode, device = struct.unpack("=II", attributes[_FILE])
                    file = os.makedev(device >> 20, device & 0xFFFFF), inode
                yield number, UnixSocket(state, f"@{name[1:]}" if name[:1] == "\0" else name.rstrip("\0"), file)


def _parts(header: struct.Struct, text: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield kind and content of messages, or of attributes, one after the other."""
    while text:
        length, kind, *_ = header.unpack_from(text)
        yield kind, text[header.size : length]
        text = text[(length + 3) & ~3 :]


def _connect(namespace: int) -> socket.socket:
    """Return a line to the kernel in a network namespace. Another than ours a thread enters, and ends."""
    lines = list[socket.socket | OSError]()

    def enter() -> None:
        try:
            failed = not ours and _LIBC.setns(namespace, _NETWORK) and ctypes.get_errno()
            line = OSError(failed, os.strerror(failed)) if failed else socket.socket(*_DIAGNOSTICS)
            lines.append(line)
        except OSError as error:
            lines.append(error)

    ours = os.path.samestat(os.fstat(namespace), Path("/proc/self/ns/net").stat())
    thread = Thread(target=enter)
    thread.start()
    thread.join()
    match lines.pop():
        case OSError() as error:
            raise error
        case line:
            return line
