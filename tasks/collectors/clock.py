"""Collect what the host's clock says and how far it can be trusted, which every time in the evidence depends on.

RFC 3227 §2.2 asks for the difference between the system's clock and UTC. The kernel is asked how its clock is
synchronised (adjtimex, read only), and so are chrony and systemd-timesyncd if they are installed.
"""

import ctypes
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tasks.acquisition.collector import (
    Collector,
    FunctionOutput,
    Incomplete,
    NothingThere,
    ProgramOutput,
    Target,
    Unanswered,
)
from tasks.acquisition.command import run
from tasks.custody.store.manifest import canonical

_UNSYNCHRONISED: Final = 0x0040
_NANO: Final = 0x2000
_STATES: Final = ("ok", "insert second", "delete second", "leap second", "leap second has been", "not synchronised")
_ASKED: Final = {
    "chrony": ProgramOutput(("chronyc", "-n", "tracking"), "chrony"),
    "timesyncd": ProgramOutput(("timedatectl", "show-timesync", "--all"), "timesyncd"),
    "timedated": ProgramOutput(("timedatectl", "show"), "timedated"),
}


class _Timex(ctypes.Structure):
    """The kernel's struct timex; times in microseconds unless its status says nanoseconds."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "freq", "maxerror", "esterror")),
        ("status", ctypes.c_int),
        *((name, ctypes.c_long) for name in ("constant", "precision", "tolerance", "sec", "usec", "tick")),
        *((name, ctypes.c_long) for name in ("ppsfreq", "jitter")),
        ("shift", ctypes.c_int),
        *((name, ctypes.c_long) for name in ("stabil", "jitcnt", "calcnt", "errcnt", "stbcnt")),
        ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    )


def kernel() -> dict[str, Any]:
    """Return what the kernel knows of its clock's error, in microseconds. Reads only: no mode is set."""
    timex = _Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    if state < 0:
        return {"not known": os.strerror(ctypes.get_errno())}
    return {
        "state": _STATES[state] if state < len(_STATES) else str(state),
        "synchronised": not timex.status & _UNSYNCHRONISED,
        "offset_us": timex.offset / 1000 if timex.status & _NANO else timex.offset,
        "greatest_error_us": timex.maxerror,
        "estimated_error_us": timex.esterror,
        "frequency_ppm": timex.freq / 65536,
        "tai_offset_seconds": timex.tai,
    }


def _run_command(command: ProgramOutput, target: Target) -> str:
    try:
        return run(command, target).decode()
    except (NothingThere, Unanswered, Incomplete) as reason:
        return f"not known: {reason}"


def zone() -> str:
    """Return the time zone's name, from the link /etc/localtime."""
    try:
        return str(Path("/etc/localtime").readlink()).rpartition("zoneinfo/")[2]
    except OSError as error:
        return f"not known: {error.strerror}"


def make(target: Target) -> bytes:
    """Read all clocks one right after the other, so that times of the custody log can be compared."""
    clocks = {
        "realtime_ns": time.clock_gettime_ns(time.CLOCK_REALTIME),
        "monotonic_ns": time.clock_gettime_ns(time.CLOCK_MONOTONIC),
        "boottime_ns": time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        "tai_ns": time.clock_gettime_ns(time.CLOCK_TAI),
    }
    fields = {
        "clocks": clocks,
        "utc": datetime.fromtimestamp(clocks["realtime_ns"] / 1e9, UTC),
        "local": datetime.now().astimezone(),
        "zone": {"etc_localtime": zone(), "TZ": os.environ.get("TZ", ""), "names": list(time.tzname)},
        "kernel": kernel(),
        "asked": {name: _run_command(command, target) for name, command in _ASKED.items()},
    }
    return canonical(fields)


COLLECTOR = Collector(
    name="clock",
    answers="What time was it on the host, and how far off was its clock?",
    order=25,
    sources=(FunctionOutput(make, "clock.json"),),
)
