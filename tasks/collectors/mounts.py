"""Collect the mount tables of the host and of frozen processes' namespaces. No mount is read: it could hang."""

from tasks.acquisition.collector import Collector, FunctionOutput, Target
from tasks.acquisition.procfs import each_namespace, tables


def make(target: Target) -> bytes:
    """Return the table of each namespace; a namespace of the workload ends with its last process."""
    spaces = each_namespace("mnt", target.frozen)
    return b"\n".join(f"==== {name}\n".encode() + tables([f"/proc/{pid}/mountinfo"]) for name, pid in spaces.items())


COLLECTOR = Collector(
    name="mounts",
    answers="What was mounted where, and with which options?",
    order=21,
    sources=(FunctionOutput(make, "mounts.txt"),),
    while_frozen=True,
)
