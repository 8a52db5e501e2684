"""Collect the systemd journal around the incident: kernel, units, the workload's processes."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from tasks.acquisition.collector import Collector, FunctionOutput, NothingThere, ProgramOutput, Target
from tasks.acquisition.command import run
from tasks.custody.evidence.redact import redact
from tasks.system.unit_files import BOOTED

_BEFORE: Final = timedelta(hours=1)
_MOST_PIDS: Final = 500
_OPENED: Final = re.compile(r"IR-(\d{8}T\d{6})Z")


def since(incident: str) -> int:
    """Return the begin in seconds since 1970: an hour before the incident was opened."""
    found = _OPENED.match(incident)
    opened = datetime.strptime(found[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC) if found else datetime.now(UTC)
    return int((opened - _BEFORE).timestamp())


def words(target: Target) -> tuple[str, ...]:
    """Return journalctl's matches: those of one field are alternatives, and so is what follows a plus."""
    pids = {1, *(pid for pid, _ in target.frozen[:_MOST_PIDS])}
    matches = [f"_PID={pid}" for pid in sorted(pids)]
    window = ("--no-pager", "--utc", "--output=short-iso-precise", f"--since=@{since(target.incident)}")
    return ("journalctl", *window, *matches, "+", "_TRANSPORT=kernel", "+", "_SYSTEMD_UNIT=docker.service")


def require_systemd() -> None:
    """Raise NothingThere if systemd has not booted this host."""
    if not BOOTED.exists():
        raise NothingThere(f"no systemd on this host: {BOOTED} does not exist")


def make(target: Target) -> bytes:
    """Return the journal; if it is too long, its last part."""
    require_systemd()
    more = len(target.frozen) - _MOST_PIDS
    omission = f"what {more} of {len(target.frozen)} processes said was not asked for" if more > 0 else ""
    return run(ProgramOutput(words(target), "journal.txt", keep="last", omission=omission, redact=redact), target)


COLLECTOR = Collector(
    name="journal",
    answers="What did the kernel, systemd and the workload say around the incident?",
    order=32,
    sources=(FunctionOutput(make, "journal.txt"),),
    deadline=60.0,
    stalled=60.0,
)
