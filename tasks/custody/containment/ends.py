"""Define how a process or container of the workload ended."""

from enum import StrEnum


class End(StrEnum):
    """How a process or container ended."""

    STOPPED = "stopped"
    KILLED = "killed"
    GONE = "ended by itself"
    REBOOT = "ended by a reboot"
    HELD = "left frozen"
    SURVIVED = "survived"
