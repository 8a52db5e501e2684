"""Decide which programs of the host only read, copy or edit: root's own, that run nothing of the workload's."""

from pathlib import PurePath
from typing import Final

from tasks.custody.containment.place import Place
from tasks.host.process.handles import Handles
from tasks.host.process.known_programs import HARMLESS, PROGRAMMED, SHELLS, is_editor, program, runs_code
from tasks.host.process.membership import only_quotes
from tasks.host.process.process import Process

_SWAP: Final = (".*.sw?", "#*#", ".#*", "*~")
"""What editors keep open for writing: swap, lock and backup files."""
_CODE_OPTIONS: Final = frozenset({"-c", "-lc", "-ic", "-ec", "-xc"})
_NO_SCRIPT: Final = ("/dev/", "/proc/", "/usr/", "/etc/")
_TERMINALS: Final = ("/dev/pts/", "/dev/tty", "/dev/console")


def is_harmless(process: Process, handles: Handles) -> bool:
    """Return whether it is a program of root's own that reads, copies or edits, and runs nothing of the root's."""
    if not (process.is_rooted or handles.below) or program(process) not in HARMLESS or not handles.trusted:
        return False
    if process.places and not process.places <= {Place.CWD, Place.SCRIPT}:
        return False
    if runs_script(process, handles):
        return False
    if _may_run_code(process, handles):
        return False
    written = handles.written & handles.below
    return all(is_editor(process) and any(map(PurePath(file).match, _SWAP)) for file in written)


def is_text(process: Process, handles: Handles) -> bool:
    """Return whether a program only carries the pattern as text: an editor of the host, or a shell without code."""
    if not only_quotes(process) or not (handles.trusted or handles.denied):
        return False
    return not runs_code(process) or not _runs_command(process)


def describe_unproven(process: Process, handles: Handles) -> str:
    """Return why a process in the root, of which nothing else is known, is not known to be harmless."""
    if program(process) in SHELLS and handles.trusted:
        return "it is a shell that runs a script, or commands from a pipe or file"
    if program(process) in HARMLESS and not handles.trusted:
        return "it is called like a program of the host, and is not root's own"
    if _may_run_code(process, handles):
        return "it runs code of its own language, and nobody's terminal is its input"
    place = next(iter(sorted(process.places or ())), Place.CWD)
    return f"{place} is in the root, and nothing proves it harmless"


def runs_script(process: Process, handles: Handles) -> bool:
    """Return whether it is a shell that runs a script, or commands of another than a person at a terminal."""
    return program(process) in SHELLS and not _is_at_rest(process, handles)


def _is_at_rest(process: Process, handles: Handles) -> bool:
    """Return whether a shell runs no script: a person's, with commands from a terminal.

    A script is held open while it runs, whatever the command line says.
    """
    if _runs_command(process):
        return process.terminal and handles.stdin.startswith(_TERMINALS)
    if any(not word.startswith(("-", "+")) for word in process.command[1:]):
        return False
    return handles.stdin.startswith(_TERMINALS) and all(file.startswith(_NO_SCRIPT) for file in handles.read)


def _may_run_code(process: Process, handles: Handles) -> bool:
    """Return whether a program that has a language of its own is not a person's, with commands from a terminal."""
    return program(process) in PROGRAMMED and not handles.stdin.startswith(_TERMINALS)


def _runs_command(process: Process) -> bool:
    """Return whether a shell was given its commands on the command line."""
    return program(process) in SHELLS and not _CODE_OPTIONS.isdisjoint(process.command[1:])
