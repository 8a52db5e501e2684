"""Define how a member of the workload, a process or a container, ended."""

from enum import StrEnum


class End(StrEnum):
    """How it ended."""

    STOPPED = "stopped"
    KILLED = "killed"
    GONE = "ended by itself"
    REBOOT = "ended by a reboot"
    HELD = "left frozen"
    SURVIVED = "survived"
