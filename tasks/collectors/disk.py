"""Collect free space of every file system (runbook §4). Dead network mounts cost two seconds, and say so in a row."""

import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from tasks.acquisition.collector import Collector, FunctionOutput, Incomplete, ProgramOutput, Target
from tasks.acquisition.command import run
from tasks.custody.evidence.acquisition import Outcome
from tasks.custody.evidence.redact import redact
from tasks.system.kernel_tables import read_table, unescape

_DF: Final = ("df", "-h")
_SECONDS: Final = 2.0
_MOUNTS: Final = Path("/proc/self/mountinfo")
_REMOTE: Final = frozenset("acfs afs auristorfs cifs coda fhgfs gpfs ibrix ocfs2 smb3 smbfs vxfs".split())  # noqa: SIM905


def find_remote_mounts(table: str) -> list[str]:
    """Return the mount points in a mountinfo that `df -l` leaves out, because they wait for another host.

    The source is text of who mounted: a colon in it costs the mount two seconds, and no more.
    """
    lines = (line.partition(" - ") for line in table.split("\n"))
    waits = (before for before, _, fs in lines if fs.split(" ")[0] in _REMOTE or ":" in "".join(fs.split(" ")[1:2]))
    return [unescape(before.split(" ")[4]) for before in waits]


def make(target: Target) -> bytes:
    """Return what `df -h` prints: the local file systems, then each network mount that answers within two seconds."""
    quiet, mounts = subprocess.DEVNULL, find_remote_mounts(read_table(_MOUNTS))
    programs = [
        subprocess.Popen((*_DF, "--", each), stdin=quiet, stdout=subprocess.PIPE, stderr=quiet) for each in mounts
    ]
    until = time.monotonic() + _SECONDS
    rows = dict(zip(mounts, [_row(each, until) for each in programs], strict=True))
    text = "".join(f"{row or f'- - - - - {mount}: no answer in {_SECONDS:g} s'}\n" for mount, row in rows.items())
    remote = redact(text, digests=True).encode(errors="backslashreplace")
    data = run(ProgramOutput((*_DF, "-l"), "df.txt"), target) + remote
    if silent := ", ".join(mount for mount, row in rows.items() if not row):
        raise Incomplete(data, Outcome.TIMED_OUT, redact(f"no answer in {_SECONDS:g} s: {silent}"))
    return data


def _row(process: subprocess.Popen[bytes], until: float) -> str:
    for seconds in (until - time.monotonic(), 0.0):
        with suppress(subprocess.TimeoutExpired):
            output, _ = process.communicate(timeout=max(0.05, seconds))
            return output.decode(errors="backslashreplace").partition("\n")[2].rstrip()
        process.kill()  # one that hangs in the kernel does not end, and is left behind
    return ""


COLLECTOR = Collector(
    name="disk",
    answers="Was a disk full?",
    order=40,
    sources=(FunctionOutput(make, "df.txt"), ProgramOutput(("df", "-i", "-l"), "df_inodes.txt")),
)
