"""Memory and pressure of the host, as the kernel tells it (runbook §4, `free -h`)."""

from pathlib import Path

from tasks.collectors.collector import Collector, Made, Target

_PLACES = ("/proc/meminfo", "/proc/pressure/memory", "/proc/pressure/cpu", "/proc/loadavg", "/proc/swaps")


def make(target: Target) -> bytes:
    """The kernel's own tables, one after the other; a table that this kernel lacks is left out by name."""
    del target
    parts = []
    for place in _PLACES:
        path = Path(place)
        parts.append(f"== {place}\n{path.read_text() if path.exists() else 'not on this kernel'}\n")
    return "".join(parts).encode()


COLLECTOR = Collector(
    name="memory",
    answers="Was the host short of memory?",
    order=20,
    sources=(Made(make, "mem.txt"),),
    while_frozen=True,
)
