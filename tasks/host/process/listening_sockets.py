"""Find the sockets at which processes listen: whoever has one of them later was given it, by fork or by a message."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tasks.host.process.table import list_listening, list_open, place_of
from tasks.system.unix_sockets import LISTENS, UnixSockets


def listening_sockets(pids: Iterable[int]) -> frozenset[str]:
    """Return the sockets at which these processes listen, by the kernel's names, as far as that is readable."""
    found, known, unix = set[str](), dict[int, set[str]](), UnixSockets()
    for where in map(place_of, pids):
        with suppress(OSError):
            network = Path(f"/proc/{where}/ns/net").stat().st_ino
            if network not in known:
                known[network] = {name for name, *_ in list_listening(where=where)}
            found.update(list_open(where))
            unix.ask(where)
    listening = {f"socket:[{number}]" for number, each in unix.found.items() if each.state == LISTENS}
    return frozenset(found & listening.union(*known.values()))
