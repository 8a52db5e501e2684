"""Collect the workload's models byte for byte, never loaded (runbook §4)."""

from tasks.acquisition.collector import TIB, Collector, Files

COLLECTOR = Collector(
    name="models",
    answers="Which models had it produced?",
    order=62,
    sources=(Files("models"),),
    needed=True,
    deadline=3000.0,
    stalled=60.0,
    limit=TIB,
)
