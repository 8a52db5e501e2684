"""§3: serve one witness over a pipe, until it is closed: by the run, or by its death."""

import json
import select
import sys
from contextlib import suppress
from io import FileIO
from typing import Any

from tasks.silence.events import Events
from tasks.silence.listing import Listing


def serve(commands: FileIO) -> None:
    """Answer each line by one of JSON. The first names the witness and its folder; then come `arm` and `changes`."""
    orders = json.loads(commands.readline())
    try:
        witness = Events(**orders) if orders.pop("hears") else Listing(**orders)
        poll = select.poll()
        for descriptor in (commands.fileno(), *witness.groups):
            poll.register(descriptor, select.POLLIN)
        while True:
            if commands.fileno() in dict(poll.poll()):
                match commands.readline():
                    case b"arm\n":
                        _answer(witness.arm(), witness.lost)
                    case b"arm at once\n" if isinstance(witness, Listing):
                        _answer(witness.arm(settles=False), witness.lost)
                    case b"changes\n":
                        _answer(witness.changes(), witness.lost)
                    case _:
                        return
            witness.take()
    except OSError as error:
        _answer([], str(error))


def _answer(changes: list[dict[str, Any]], lost: str) -> None:
    print(json.dumps({"changes": changes, "lost": lost}), flush=True)


if __name__ == "__main__":
    with suppress(BrokenPipeError, ValueError):
        serve(FileIO(sys.stdin.fileno(), closefd=False))
