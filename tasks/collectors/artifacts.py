"""Artifacts of the workload (runbook §4), byte for byte."""

from tasks.collectors.collector import Collector, Files

COLLECTOR = Collector(
    name="artifacts",
    answers="Which results had it produced?",
    order=61,
    sources=(Files("artifacts"),),
    deadline=900.0,
)
