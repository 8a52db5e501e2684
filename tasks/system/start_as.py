"""Become an account and run its program: `python -S -P -m tasks.system.start_as`, the orders as JSON on stdin.

The program's variables are data until then. Tells on stderr, each after a NUL, where it writes and why it does not run.

See docs/adr/0048.
"""

import json
import os
import resource
import signal
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks.system.files.ours import find_exposure
from tasks.system.priority import give_way


def main() -> None:
    """Run the program, as which this process goes on. The account's folders and files get ten seconds."""
    orders, errors = json.load(sys.stdin), os.dup(2)
    signal.alarm(10)
    try:
        _become(orders)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        out, err = (_open(path, 0) or _open(orders["log"], os.O_CREAT) or 1 for path in orders["outputs"])
        os.dup2(err, 2)
        os.dup2(out, 1)
        os.write(errors, b"\0" + os.fsencode(Path("/proc/self/fd/2").readlink()))
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(ignored, signal.SIG_DFL)
        signal.alarm(0)
        os.execvpe(orders["command"][0], orders["command"], orders["environment"])  # noqa: S606  no shell is wanted
    except (OSError, ValueError) as error:
        os.write(errors, os.fsencode(f"\0\0{orders['command'][0]}: {error}"))
        os._exit(1)


def _become(orders: Mapping[str, Any]) -> None:
    """Take limits, umask and priority, as far as is allowed, then groups and account, then the folder or the root."""
    give_way()
    for number, (_, soft, hard) in enumerate(orders["limits"]):
        with suppress(OSError, ValueError):
            resource.setrlimit(number, (int(soft), int(hard)))
    os.umask(orders.get("umask", os.umask(0)))
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, orders.get("nice", os.getpriority(os.PRIO_PROCESS, 0)))
    kept, allowed = orders.get("conditions", {}), os.geteuid() == 0
    with suppress(OSError, KeyError):
        Path("/proc/self/oom_score_adj").write_text(kept["oom_score_adj"])
    with suppress(*([] if orders["user"] else [OSError])):  # root that may not is root all the same
        if allowed and (orders["user"] > 0 or kept):
            os.setgroups(kept.get("groups", orders["groups"]))
            os.setresgid(*kept.get("group", orders["groups"][:1] * 3)[:3])
    if allowed and orders["user"] > 0:
        os.setresuid(*[orders["user"]] * 3)
    os.chdir(orders["root"])
    with suppress(OSError):
        os.chdir(orders["folder"])


def _open(path: str, create: int) -> int:
    """Open a file to append; 0 for what is none, and for root if another account could replace it."""
    with suppress(OSError):
        if path and (os.geteuid() or not find_exposure(Path(path))):
            if create:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | create, 0o666)
            if stat.S_ISREG(os.fstat(file).st_mode):
                return file
    return 0


if __name__ == "__main__":
    main()
