"""Run a process at higher priority than the machine's computations, or reset it.

Nice alone does not suffice: with sched_autogroup the kernel first divides the processor among sessions. In separate
control groups (systemd units) neither counts across groups: CPUWeight does.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

NICE: Final = -15
OOM: Final = -900
"""Makes the kernel's OOM killer choose others: a training that fills the memory may be why we run."""


def take_priority() -> None:
    """Raise the priority of this process and its later children, as far as it has SYS_NICE and SYS_RESOURCE."""
    pid = os.getpid()
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, NICE)
    _write(pid, "autogroup", NICE)
    _write(pid, "oom_score_adj", OOM)


def give_way() -> None:
    """Reset the priority of an ordinary program. Needs no right."""
    pid = os.getpid()
    with suppress(OSError):
        if os.getpriority(os.PRIO_PROCESS, pid) < 0:
            os.setpriority(os.PRIO_PROCESS, pid, 0)
    for name in ("autogroup", "oom_score_adj"):
        with suppress(OSError, ValueError, IndexError):  # a kernel may lack autogroup
            if int(Path(f"/proc/{pid}/{name}").read_text().split()[-1]) < 0:
                _write(pid, name, 0)


def _write(pid: int, name: str, value: int) -> None:
    with suppress(OSError):
        Path(f"/proc/{pid}/{name}").write_text(str(value))


def main(command: list[str]) -> None:
    """Run a command at higher priority: `python -m tasks.system.priority prefect server start`."""
    take_priority()
    os.execvp(command[0], command)  # noqa: S606  no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
