"""Read how the API runs, so that a recovery starts it so again. Its secrets go into a private file alone.

See docs/adr/0048.
"""

import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil

from blocks.workload import Workload
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Frozen
from tasks.custody.evidence.redact import redact
from tasks.host.process.membership import Member
from tasks.host.process.table import get_process
from tasks.system.kernel_tables import ENVIRONMENT, read_kernel

_AT_SECURE: Final = 23
_ENDLESS: Final = 1 << 64


def read_starts(members: Mapping[Identity, Member | Frozen]) -> list[dict[str, Any]]:
    """Return how those of the API run, the oldest first, without those that may not be read or are in a container."""
    found, apis = list[dict[str, Any]](), (identity for identity, each in members.items() if each.role == "api")
    for identity in sorted(apis, key=lambda identity: identity.start)[:16]:
        with suppress(psutil.Error, OSError, ValueError, LookupError, struct.error):
            at, there, process = Path(f"/proc/{identity.pid}"), get_process(identity), psutil.Process(identity.pid)
            rows = [line.partition(":")[::2] for line in (at / "status").read_text(errors="replace").split("\n")]
            block = read_kernel(f"{at}/environ", ENVIRONMENT)  # a process decides how long it is
            words = [word.split("=", 1) for word in os.fsdecode(block).split("\0") if word.find("=") > 0]
            start = {
                "command": [*(there.command if there else ())],
                "variables": dict(reversed(words)),
                "accounts": [*process.uids()],
                "setuid": dict(struct.iter_unpack("NN", (at / "auxv").read_bytes())).get(_AT_SECURE, 1),
                "folder": process.cwd(),
                "umask": int(dict(rows)["Umask"], 8),
                "nice": process.nice(),
                "limits": _limits(at),
                "outputs": [_output(at, number) for number in (1, 2)],
                "serves": psutil.CONN_LISTEN in {each.status for each in process.net_connections()},
            }
            if there and not there.container and get_process(identity) and len(block) < ENVIRONMENT:
                found.append(start)
    return found


def _limits(at: Path) -> list[tuple[str, ...]]:
    """Return name, soft and hard value of each limit, -1 for none, in the order of the kernel's numbers."""
    lines = (at / "limits").read_text().replace("unlimited", "-1").splitlines()[1:]
    return [(line[:26].strip(), *line[26:].split()[:2]) for line in lines]


def _output(at: Path, number: int) -> str:
    """Return the path of what is open to be written; empty if it has none. The file is not asked: it may not answer."""
    with suppress(FileNotFoundError):
        path, flags = str((at / f"fd/{number}").readlink()), (at / f"fdinfo/{number}").read_text().split()[3]
        if path.startswith("/") and not path.endswith(" (deleted)") and int(flags, 8) & os.O_ACCMODE:
            return path
    return ""


def former(starts: Iterable[Mapping[str, Any]], user: int, block: Workload) -> Mapping[str, Any]:
    """Return whose place the block's command takes, which root starts as `user`, anybody else as itself; or nothing.

    Only what ran as that account counts: another's variables are another's word. First comes what ran this very
    command, then what serves, then the oldest.
    """
    own = [each for each in starts if {*each["accounts"]} == {os.geteuid() or user} and not each["setuid"]]
    return min(own, key=lambda each: (each["command"] != block.api_command, not each["serves"]), default={})


def lacking(starts: Sequence[Mapping[str, Any]], user: int, block: Workload) -> list[str]:
    """Return by name, and no value, what a start as `user` lacks: another account's variables, limits of root's."""
    was, ours = former(starts, user, block), _limits(Path("/proc/self"))
    rows = [row for each in starts for row in zip(each["limits"], ours, strict=True) if os.geteuid() or not was]
    limits = {name for (name, _, hard), (*_, most) in rows if int(hard) % _ENDLESS > int(most) % _ENDLESS}
    variables = {name for each in starts for name in each["variables"] if not was} - block.api_environment.keys()
    return [redact(name) for name in (*sorted(variables), *sorted(limits))]
