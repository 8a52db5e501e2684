"""Collect the end of the kernel log (runbook §4), and the kernel's version, command line, taint and modules."""

from tasks.acquisition.collector import Collector, FunctionOutput, ProgramOutput, Target
from tasks.acquisition.procfs import tables


def make(_: Target) -> bytes:
    """Return version, command line, taint (a mask, 0 is clean) and modules."""
    return tables(("/proc/version", "/proc/cmdline", "/proc/sys/kernel/tainted", "/proc/modules"))


COLLECTOR = Collector(
    name="kernel",
    answers="Did the kernel kill or complain?",
    order=30,
    sources=(FunctionOutput(make, "kernel.txt"), ProgramOutput(("dmesg",), "dmesg_tail.txt", last=200, keep="last")),
)
