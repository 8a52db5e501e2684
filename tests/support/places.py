"""Processes on paper, placed by the text of their paths: on paper no path lies."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import PurePath

from tasks.custody.containment.place import Place
from tasks.host.process.known_programs import script_of
from tasks.host.process.process import Process


def placed(snapshot: Mapping[int, Process], root: str | PurePath) -> dict[int, Process]:
    """The same processes, each with what of it lies below the root; those that were placed stay as they are."""
    return {pid: beside(each, root) for pid, each in snapshot.items()}


@lru_cache(maxsize=4096)
def beside(process: Process, root: str | PurePath) -> Process:
    """One of them."""
    if process.places is not None:
        return process
    script, called = script_of(process.command), next(iter(process.command), "")
    parts = {
        Place.CWD: process.cwd,
        Place.PROGRAM: process.executable,
        Place.CALLED: str(PurePath(process.cwd or "/", called)) if "/" in called else "",
        Place.SCRIPT: str(PurePath(process.cwd or "/", script)) if script else "",
    }
    return replace(process, places=frozenset(place for place, path in parts.items() if _below(path, root)))


def _below(path: str, root: str | PurePath) -> bool:
    return bool(path) and PurePath(path).is_relative_to(root)
