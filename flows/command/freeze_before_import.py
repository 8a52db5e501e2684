"""Freeze what a command is about to evacuate, before anything else is imported: each module here delays the freeze."""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from select import PIPE_BUF, select
from typing import Any, Final, NoReturn

from tasks.custody.errors import Refused
from tasks.custody.incident.description import HERE, one, place, read_description
from tasks.custody.visible import say, visible
from tasks.host.process.process import process_line
from tasks.prestart.freeze import defer_signals, freeze_described, members_described
from tasks.prestart.journal import EarlyFreeze, count_held, leave_to_person, thaw_again
from tasks.system.files.file_here import resolve_argument
from tasks.system.priority import give_way, take_priority
from tasks.system.time_limit import before_the_freeze, time_limit

_STDERR: Final = 2
_SHOW_SECONDS: Final = 0.2
_SHOWN: Final = 20
_WIDTH: Final = 120


@contextmanager
def freeze_before_import(freeze: tuple[str, str, str | None] | None) -> Iterator[None]:
    """Run at higher priority; first freeze this workload, for this store and incident, if they are given.

    What is taken where no file is named is shown before. Thaws at the end what the body did not take over, because
    the run was refused or cancelled before its own freeze; after an error of ours it stays frozen.
    Raises KeyboardInterrupt at a signal to end, Refused for an unreadable file.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    early = None
    try:
        take_priority()
        try:
            if freeze:
                with defer_signals(), before_the_freeze():
                    argument, store, incident = freeze
                    workload, note = resolve_argument(argument)
                    _show(iter([note] if note else []))
                    fields = _fields(workload, "workload")
                    goes_to = _fields(store or place(workload)[0], "store")  # without one the run is refused
                    if Path(workload).is_dir():
                        _show(_taken_for(fields, goes_to))
                    elif argument == HERE:
                        _show(_to_freeze(fields))
                    early = freeze_described(fields, incident)
            yield
        except Refused as error:
            freed, early = _let_go(early), None
            if freed:
                error.consequence = f"{freed} stood frozen meanwhile, and run again 一時凍結し解除済み."
            raise
        except Exception:
            if early and (stand := leave_to_person(early.path)):
                say(
                    f"an error of ours: {stand} stay frozen 凍結のまま; `evacuation status` says what to type",
                    error=True,
                )
            raise
        finally:
            if freed := _let_go(early):
                with suppress(OSError, ValueError):  # nobody reads it
                    say(f"let go again, the run ended before it began 凍結を解除: {freed}", error=True)
    finally:
        give_way()  # the shell's session would keep the priority


def _let_go(early: EarlyFreeze | None) -> str:
    """Thaw what no run has taken over; return how many that were, and what, empty if none."""
    freed = len(thaw_again(early)) if early else 0
    return count_held(freed, early.containers) if early and freed else ""


def _interrupt(*_: object) -> NoReturn:
    """Raise KeyboardInterrupt once: a second signal must not prevent the thaw or the server's end."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _fields(text: str, kind: str) -> Mapping[str, Any]:
    """Read a table's fields from the file, unvalidated: the block reports later what is wrong with them."""
    file, name = place(text)
    return one(read_description(Path(file), kind), kind, file, name)[1]


def _taken_for(fields: Mapping[str, Any], store: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a run without a file evacuates, where to, and which processes it would freeze now."""
    at = f" at {store['endpoint']}" if "endpoint" in store else ""
    yield f"no file ファイル指定なし: {fields['root']}, to {store['bucket']}{at}, by the runbook's defaults"
    yield from _to_freeze(fields)


def _to_freeze(fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield which processes a run would freeze now, each with its command."""
    found, entries = members_described(fields), ", ".join(map(str, fields.get("containers") or ()))
    named = f", and containers コンテナ: {entries}" if entries else ""
    yield f"to be frozen 凍結対象: {len(found)} processes{named}"
    yield from (visible(f"  {each.pid}  {process_line(each)}", _WIDTH) for each in found[:_SHOWN])


def _show(lines: Iterator[str]) -> None:
    """Write to stderr as much as it takes at once: a terminal that stands still must not delay the freeze."""
    text = "".join(f"{visible(line)}\n" for line in lines).encode()
    with suppress(OSError):
        if select([], [_STDERR], [], time_limit().remaining(_SHOW_SECONDS))[1]:
            os.write(_STDERR, text[:PIPE_BUF])
