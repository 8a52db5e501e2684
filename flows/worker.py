"""Start the evacuation's worker with raised priority: `evacuation worker --pool evacuation`.

Its runs inherit the priority. All arguments are Prefect's own; without `--type` it is of our type, and without `--name`
one that serves the host's own queue has the name of the host, by which it gives signs of life. Waits for a server
that PREFECT_API_URL names and that is still starting, because Prefect's worker ends without one.
"""

import os
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NoReturn
from urllib.parse import urlsplit

from tasks.system.priority import take_priority

SETTINGS: Final = {"PREFECT_LOGGING_EXTRA_LOGGERS": "flows,tasks,blocks"}
_TYPE: Final = "evacuation"
_TYPED: Final = ("--type", "-t")
_NAMED: Final = ("--name", "-n")
_SERVER_SECONDS: Final = 120.0
_ANSWER_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.2
_PORTS: Final = {"http": 80, "https": 443}


def await_server(address: str) -> None:
    """Wait at most two minutes while connections to this URL are refused. Other errors are left to Prefect."""
    place = urlsplit(address)
    port = place.port or _PORTS.get(place.scheme)
    deadline = time.monotonic() + _SERVER_SECONDS
    while place.hostname and port and _refused(place.hostname, port) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _refused(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), _ANSWER_SECONDS).close()
    except OSError as error:
        return isinstance(error, ConnectionRefusedError)
    return False


def command(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a Python that becomes the worker, of our type and named as its host unless asked for."""
    options, values = [word.partition("=")[0] for word in arguments], [word.rpartition("=")[2] for word in arguments]
    typed = any(word in _TYPED for word in options)
    named = (host := socket.gethostname()) not in values or any(word in _NAMED for word in options)
    added = [*(() if typed else ("--type", _TYPE)), *(() if named else ("--name", host))]
    return ["prefect", "worker", "start", *arguments, *added]


def main(arguments: Sequence[str]) -> NoReturn:
    """Raise the priority, wait for the server, and become the worker, which imports nothing from where one stands."""
    take_priority()
    environment = {**SETTINGS, **os.environ}
    with suppress(ValueError):  # Prefect reports what is wrong with the address
        await_server(environment.get("PREFECT_API_URL", ""))
    os.chdir("/")
    os.execve(sys.executable, [sys.executable, "-P", "-m", *command(arguments)], environment)  # noqa: S606  no shell is wanted
