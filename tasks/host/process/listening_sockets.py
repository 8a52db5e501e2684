"""Find the sockets at which processes listen: whoever has one of them later was given it, by fork or by a message."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

from tasks.host.process.table import list_open, place_of
from tasks.system.kernel_tables import read_table

_LISTENS: Final = {"unix": (3, "00010000", 6), "tcp": (3, "0A", 9), "tcp6": (3, "0A", 9)}
"""Of each table of /proc/net: the column that tells of a socket that listens, what that says then, and the inode's."""


def listening_sockets(pids: Iterable[int]) -> frozenset[str]:
    """Return the sockets at which these processes listen, by the kernel's names, as far as that is readable."""
    found, known = set[str](), dict[int, frozenset[str]]()
    for where in map(place_of, pids):
        with suppress(OSError):
            network = os.stat(f"/proc/{where}/ns/net").st_ino
            if network not in known:
                known[network] = frozenset(_read_listening(where))
            found.update(list_open(where))
    return frozenset(found & frozenset[str]().union(*known.values()))


def _read_listening(where: int | str) -> Iterator[str]:
    for table, (column, listens, inode) in _LISTENS.items():
        with suppress(OSError):
            for line in read_table(f"/proc/{where}/net/{table}").split("\n"):
                words = line.split()
                if len(words) > inode and words[column] == listens:
                    yield f"socket:[{words[inode]}]"
