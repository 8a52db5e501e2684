"""Collect memory and pressure of the host (runbook §4, `free -h`)."""

from typing import Final

from tasks.acquisition.collector import Collector, FunctionOutput, ProgramOutput, Target
from tasks.acquisition.procfs import tables

_PLACES: Final = (
    *("/proc/meminfo", "/proc/swaps", "/proc/loadavg", "/proc/vmstat"),
    *("/proc/pressure/memory", "/proc/pressure/cpu", "/proc/pressure/io"),
)


def make(_: Target) -> bytes:
    """Return the kernel's own tables; pressure is the PSI of the whole host."""
    return tables(_PLACES)


COLLECTOR = Collector(
    name="memory",
    answers="Was the host short of memory?",
    order=20,
    sources=(ProgramOutput(("free", "-h"), "mem.txt"), FunctionOutput(make, "mem_tables.txt")),
    while_frozen=True,
)
