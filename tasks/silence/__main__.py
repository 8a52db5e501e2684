"""§3: serve one witness over a pipe, until it is closed: by the run, or by its death."""

import json
import select
import sys
from contextlib import suppress
from io import FileIO
from typing import Any, Final

from tasks.silence.events import Events
from tasks.silence.listing import Listing

_WITNESSES: Final[dict[str, type[Events | Listing]]] = {"events": Events, "listing": Listing}


def serve(commands: FileIO) -> None:
    """Answer each line of JSON by one. The first is the witness's arguments; then come `arm` and `changes`."""
    orders = json.loads(commands.readline() or "null")
    if not orders:
        return
    try:
        witness = _WITNESSES[orders.pop("kind")](**orders)
    except OSError as error:
        _answer(lost=str(error))
        return
    poll = select.poll()
    for descriptor in (commands.fileno(), *witness.descriptors):
        poll.register(descriptor, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if commands.fileno() in ready:
            match commands.readline():
                case b"arm\n":
                    witness.arm()
                    _answer(lost=witness.lost)
                case b"changes\n":
                    changes = witness.changes()
                    _answer(changes, witness.lost)
                case _:
                    return
        witness.take()


def _answer(changes: list[dict[str, Any]] | None = None, lost: str = "") -> None:
    print(json.dumps({"changes": changes or [], "lost": lost}), flush=True)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        serve(FileIO(sys.stdin.fileno(), closefd=False))
