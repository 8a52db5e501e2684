"""Freeze what a command is about to evacuate, before anything else is imported: each module here delays the freeze."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from tasks.custody.incident.description import one, place, read_tables
from tasks.prestart.freeze import freeze_described, uninterrupted
from tasks.prestart.journal import thaw_again
from tasks.system.priority import give_way, take_priority


@contextmanager
def at_the_front(freeze: tuple[str, str, str | None] | None) -> Iterator[None]:
    """Run at higher priority; first freeze this workload, for this store and incident, if they are given.

    Thaws at the end what the body did not take over, because the run was refused or failed before its own freeze.
    Raises KeyboardInterrupt at a signal to end, Refused for an unreadable file.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    early = None
    try:
        take_priority()
        try:
            if freeze:
                with uninterrupted():
                    workload, store, incident = freeze
                    described = _described(workload, "workload")
                    _described(store or place(workload)[0], "store")  # without one the run is refused
                    early = freeze_described(described, incident)
            yield
        finally:
            if early:
                thaw_again(early)
    finally:
        give_way()  # the shell's session would keep the priority


def _interrupt(*_: object) -> NoReturn:
    """Raise KeyboardInterrupt once: a second signal must not prevent the thaw or the server's end."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _described(text: str, kind: str) -> Mapping[str, Any]:
    """Read a table's fields from the file, unvalidated: the block reports later what is wrong with them."""
    file, name = place(text)
    return one(read_tables(Path(file)), kind, file, name)[1]
