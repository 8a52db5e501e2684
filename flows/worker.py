"""Start the evacuation's worker with raised priority: `evacuation worker`.

Its runs inherit the priority. All arguments are Prefect's own. Without `--pool` it is the pool of `evacuation deploy`,
or $EVACUATION_POOL, and without `--work-queue` too the queues of this host. Without `--type` it is of our type, and
without `--name` one that serves the host's own queue has the name of the host, by which it gives signs of life. Waits
for a server that is still starting, because Prefect's worker ends without one.
"""

import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NoReturn

from tasks.custody.errors import Refused
from tasks.custody.incident.description import leads_to
from tasks.custody.incident.news import PEOPLE
from tasks.system.polling import poll_until
from tasks.system.priority import take_priority

SETTINGS: Final = {"PREFECT_LOGGING_EXTRA_LOGGERS": "flows,tasks,blocks"}
POOL: Final = "evacuation"
QUEUES: Final = ("{host}", "{host}-training", PEOPLE)
"""The queues that a host's worker serves, as `evacuation deploy` makes them."""
_SERVER_SECONDS: Final = 120.0
_ANSWER_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.2


def await_server(address: str) -> None:
    """Wait at most two minutes while connections to this URL are refused. Other errors are left to Prefect."""
    host, port = leads_to(address)
    if host:
        poll_until(lambda: not _refuses(host, port), _SERVER_SECONDS, _POLL_SECONDS)


def _refuses(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), _ANSWER_SECONDS).close()
    except OSError as error:
        return isinstance(error, ConnectionRefusedError)
    return False


def command(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a Python that becomes the worker, with what is left out (see above)."""
    options, values = {word.partition("=")[0] for word in arguments}, [word.rpartition("=")[2] for word in arguments]
    host, added = socket.gethostname(), list[str]()
    if options.isdisjoint({"--pool", "-p"}):
        added += ["--pool", os.environ.get("EVACUATION_POOL") or POOL]
        if options.isdisjoint({"--work-queue", "-q"}):
            values.append(host)
            added += [word for queue in QUEUES for word in ("--work-queue", queue.format(host=host))]
    if options.isdisjoint({"--type", "-t"}):
        added += ["--type", "evacuation"]
    if host in values and options.isdisjoint({"--name", "-n"}):
        added += ["--name", host]
    return ["prefect", "worker", "start", *arguments, *added]


def require_server() -> str:
    """Return the address of the Prefect server that environment or profile name. Raises Refused if none does.

    Prefect would start a server of its own, which nobody else knows.
    """
    if address := os.environ.get("PREFECT_API_URL"):
        return address
    from prefect.settings import PREFECT_API_URL

    if address := PREFECT_API_URL.value():
        return str(address)
    raise Refused(
        "a Prefect server for the worker to serve",
        "none: neither PREFECT_API_URL nor a profile of Prefect names one",
        "export PREFECT_API_URL=http://HOST:4200/api, then run this again. Without a server: evacuation run FILE. "
        "Prefect サーバーを PREFECT_API_URL に設定して再実行。サーバーなしで撤収するには evacuation run FILE",
    )


def main(arguments: Sequence[str]) -> NoReturn:
    """Raise the priority, wait for the server, and become the worker, which imports nothing from where one stands.

    Raises Refused without a server.
    """
    os.chdir("/")
    address = "" if {"--help", "-h"} & {*arguments} else require_server()
    take_priority()
    with suppress(ValueError):  # Prefect reports what is wrong with the address
        await_server(address)
    os.execve(sys.executable, [sys.executable, "-P", "-m", *command(arguments)], {**SETTINGS, **os.environ})  # noqa: S606  no shell is wanted
