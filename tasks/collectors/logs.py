"""Collect the workload's log files byte for byte (runbook §4)."""

from tasks.acquisition.collector import GIB, Collector, Files

COLLECTOR = Collector(
    name="logs",
    answers="What did the workload write while it ran?",
    order=60,
    sources=(Files("logs"),),
    needed=True,
    deadline=900.0,
    stalled=60.0,
    limit=64 * GIB,
)
