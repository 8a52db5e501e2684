"""Collect the workload's artifacts byte for byte (runbook §4)."""

from tasks.acquisition.collector import GIB, Collector, Files

COLLECTOR = Collector(
    name="artifacts",
    answers="Which results had it produced?",
    order=61,
    sources=(Files("artifacts"),),
    needed=True,
    deadline=900.0,
    stalled=60.0,
    limit=64 * GIB,
)
