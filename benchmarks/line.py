"""A line between two network namespaces, shaped like one over a network: the store's, which is ours, and the clients'.

The namespaces have no names. They end with the processes in them, and with them the line: nothing is to be removed.
Needs root, `ip`, `tc`, `nsenter`, `taskset` and `setpriv`.
"""

import ctypes
import os
import subprocess
from typing import Final, Self

STORE: Final = "10.77.0.2"
_CLIENT: Final = "10.77.0.1"
_HOLDER: Final = ("setpriv", "--pdeathsig", "KILL", "sleep", "infinity")
_NEW_NETWORK: Final = 0x40000000
_SHAPE: Final = "root tbf rate 200mbit burst 256kb latency 100ms"


class Line:
    """Moves this process into the store's namespace, for good, and on to one processor; makes that of the clients."""

    delay: Final = 0.01
    """Seconds that a relay has to hold each direction back: 20 ms to the store and back."""
    told: Final = "200 Mbit/s each way, 20 ms to the store and back"

    def __init__(self) -> None:
        """Choose the processors."""
        client, store, *rest = sorted(os.sched_getaffinity(0)) * 3
        self.processors = {"client": client, "store": store, "relay": rest[0]}

    def __enter__(self) -> Self:
        """Draw the line."""
        _leave_the_network()
        self._clients = subprocess.Popen(_HOLDER)
        _leave_the_network()
        _run("ip", "link", "add", "store", "type", "veth", "peer", "name", "client", "netns", str(self._clients.pid))
        for before, name, address in (((), "store", STORE), (self._inside, "client", _CLIENT)):
            _run(*before, "ip", "link", "set", "lo", "up")
            _run(*before, "ip", "address", "add", f"{address}/30", "dev", name)
            _run(*before, "ip", "link", "set", name, "up")
            _run(*before, "tc", "qdisc", "add", "dev", name, *_SHAPE.split())
        os.sched_setaffinity(0, {self.processors["store"]})
        return self

    def __exit__(self, *_: object) -> None:
        """Let the clients' namespace go; ours goes with us."""
        self._clients.kill()
        self._clients.wait()

    @property
    def _inside(self) -> tuple[str, ...]:
        return ("nsenter", f"--net=/proc/{self._clients.pid}/ns/net")

    @property
    def client(self) -> tuple[str, ...]:
        """What stands before a client's command."""
        return (*self._inside, *self.on("client"))

    @property
    def shared(self) -> str:
        """Which processor each has, for people."""
        return ", ".join(f"{whose} on processor {number}" for whose, number in self.processors.items())

    def on(self, whose: str) -> tuple[str, ...]:
        """What stands before a command that is to run on the processor of the client, the store or the relay."""
        return ("taskset", "--cpu-list", str(self.processors[whose]))


def require_root() -> None:
    """Raise SystemExit if this process may not make namespaces."""
    if os.geteuid():
        raise SystemExit("expected root, which network namespaces and a shaped line need; got another user. Use sudo.")


def _leave_the_network() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK):
        number = ctypes.get_errno()
        raise SystemExit(f"expected a network namespace of our own; got: {os.strerror(number)}. Use sudo.")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
