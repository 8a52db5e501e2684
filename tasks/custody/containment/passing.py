"""Decide whether short-lived processes contradict containment when no living one was found."""

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Final

from tasks.custody.containment.membership import Matcher, quotes, survey
from tasks.custody.containment.process import Identity, Process

_ENOUGH: Final = 3


def come_and_gone(  # noqa: PLR0913, PLR0917  each is one thing that a look depends on
    passed: Iterable[Process],
    snapshot: Mapping[int, Process],
    matchers: Iterable[Matcher],
    root: PurePath,
    excluded_pids: Iterable[int],
    since: int,
) -> dict[Identity, str]:
    """Return short-lived processes that contradict "nothing of the workload runs", with reasons; none if under three.

    This detects a chain of forks in which each generation ends before it can be stopped. Unmatched processes that a
    living shell runs in the root are a person's and do not count. `since` is the first freeze in clock ticks since
    boot.
    """
    known = tuple(matchers)
    met = {process.pid: process for process in passed}
    found = survey(met, known, root, excluded_pids, since).alive
    ours = {who: reason for who, reason in found.items() if not _of_a_person(met[who.pid], snapshot, known, root)}
    return ours if len(ours) >= _ENOUGH else {}


def _of_a_person(
    process: Process, snapshot: Mapping[int, Process], matchers: Iterable[Matcher], root: PurePath
) -> bool:
    parent = snapshot.get(process.parent)
    shell = parent is not None and parent.alive and quotes(parent)
    return shell and not any(matcher.recognises(process, root) for matcher in matchers)
