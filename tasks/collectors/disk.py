"""Collect free space of every file system (runbook §4). A network mount that is dead costs two seconds, and its row."""

import re
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from tasks.collectors.collector import Collector, Command, Incomplete, Made, Target
from tasks.collectors.command import run
from tasks.custody.evidence.acquisition import Outcome
from tasks.custody.evidence.redact import redact

_DF: Final = ("df", "-h")
_SECONDS: Final = 2.0
_LEAST: Final = 0.05
_MOST: Final = 100
_MOUNTS: Final = Path("/proc/self/mountinfo")
_REMOTE: Final = frozenset(
    ["acfs", "afs", "coda", "auristorfs", "cifs", "fhgfs", "gpfs", "ibrix", "ocfs2", "smb3", "smbfs", "vxfs"]
)
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


def networked(table: str) -> dict[str, tuple[str, str]]:
    """Return type and source by mount point of what may wait for another host, FUSE included; `table` is mountinfo."""
    found = {}
    for line in table.splitlines():
        before, _, after = line.partition(" - ")
        kind, source = [*after.split(" "), "", ""][:2]
        if ":" in source or kind in _REMOTE or _is_fuse(kind):
            found[_OCTAL.sub(lambda code: chr(int(code[1], 8)), before.split(" ")[4])] = kind, source
    return found


def make(target: Target) -> bytes:
    """Return what `df -h` prints: local file systems at once, each network mount within two seconds."""
    mounts = networked(_MOUNTS.read_text(errors="surrogateescape"))
    some = dict(list(mounts.items())[:_MOST])
    asked = {place: _start(place) for place in some}
    local = run(Command((*_DF, "-l", *_without(mounts)), "df.txt"), target).decode()
    rows, silent = _answers(asked), [f"{len(mounts) - _MOST} more"] if len(mounts) > _MOST else []
    for place, row in rows.items():
        silent += [] if row else [place]
        local += f"{row or f'{mounts[place][1]} - - - - {place}: no answer in {_SECONDS:g} s'}\n"
    data = redact(local).encode(errors="backslashreplace")
    if silent:
        raise Incomplete(data, Outcome.TIMED_OUT, redact(f"no answer in {_SECONDS:g} s from {', '.join(silent)}"))
    return data


def _without(mounts: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return options that leave out FUSE, some of which df takes for local."""
    kinds = sorted({kind for kind, _ in mounts.values() if _is_fuse(kind)})
    return [word for kind in kinds for word in ("-x", kind)]


def _is_fuse(kind: str) -> bool:
    return kind.partition(".")[0] == "fuse"


def _start(place: str) -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    return subprocess.Popen((*_DF, "--", place), stdin=quiet, stdout=subprocess.PIPE, stderr=quiet)


def _answers(asked: Mapping[str, subprocess.Popen[bytes]]) -> dict[str, str]:
    """Return the row of each mount; empty if it does not answer."""
    until, rows = time.monotonic() + _SECONDS, dict[str, str]()
    for place, process in asked.items():
        said = _heard(process, until)
        rows[place] = said.decode(errors="backslashreplace").partition("\n")[2].rstrip("\n")
        if not said:
            process.kill()
    for place, process in asked.items():
        if not rows[place]:
            _heard(process, until + _SECONDS)  # one that hangs in the kernel does not end, and is left behind
    return rows


def _heard(process: subprocess.Popen[bytes], until: float) -> bytes:
    with suppress(subprocess.TimeoutExpired):
        return process.communicate(timeout=max(_LEAST, until - time.monotonic()))[0]
    return b""


COLLECTOR = Collector(
    name="disk",
    answers="Was a disk full?",
    order=40,
    sources=(Made(make, "df.txt"), Command(("df", "-i", "-l"), "df_inodes.txt")),
)
