"""Collect every process of the host, as `ps --sort=-pcpu` shows it (runbook §4), while the workload is frozen."""

import time

import psutil

from tasks.acquisition.collector import Collector, FunctionOutput, Incomplete, Target
from tasks.acquisition.procfs import folder_of, printable
from tasks.custody.evidence.acquisition import Outcome
from tasks.custody.evidence.redact import redact_command

_ROW = "{:>8} {:>8} {:>6} {:>6} {:>12} {}\n"


def _row(process: psutil.Process, now: float, total: int) -> tuple[float, str]:
    with process.oneshot():
        age = max(now - process.create_time(), 0.01)
        times = process.cpu_times()
        cpu = 100 * (times.user + times.system) / age
        memory = 100 * process.memory_info().rss / total
        try:
            words = " ".join(redact_command(process.cmdline(), folder_of(process.pid))) or f"[{process.name()}]"
        except psutil.ZombieProcess:
            words = f"[{process.name()}] <defunct>"
        line = printable([words])
        return cpu, _ROW.format(process.pid, process.ppid(), f"{cpu:.1f}", f"{memory:.1f}", f"{age:.0f}", line)


def make(_: Target) -> bytes:
    """Return a table of all processes, the busiest first; elapsed time in seconds."""
    now, total = time.time(), psutil.virtual_memory().total
    rows = []
    denied = 0
    for process in psutil.process_iter():
        try:
            rows.append(_row(process, now, total))
        except psutil.AccessDenied:
            denied += 1
        except psutil.NoSuchProcess:
            continue
    rows.sort(reverse=True)
    head = _ROW.format("PID", "PPID", "%CPU", "%MEM", "ELAPSED", "CMD")
    data = (head + "".join(row for _, row in rows)).encode(errors="backslashreplace")
    if denied:
        raise Incomplete(data, Outcome.DENIED, f"{denied} processes may not be looked at")
    return data


COLLECTOR = Collector(
    name="processes",
    answers="What ran on the host when the workload was frozen?",
    order=10,
    sources=(FunctionOutput(make, "ps_top.txt"),),
    needed=True,
    while_frozen=True,
)
