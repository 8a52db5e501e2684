"""Decide which hosts of a fleet are ordered again by a retry."""

from collections.abc import Iterable

from tasks.custody.fleet.host_end import HostEnd, Row


def to_retry(rows: Iterable[Row]) -> list[Row]:
    """Return the hosts that a retry orders again: those that have failed and those that are silent."""
    return [row for row in rows if row.end not in {None, HostEnd.VERIFIED, HostEnd.THAWED}]
