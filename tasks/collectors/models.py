"""Models of the workload, copied and never loaded (runbook §4), byte for byte."""

from tasks.collectors.collector import Collector, Files

COLLECTOR = Collector(
    name="models",
    answers="Which models had it produced?",
    order=62,
    sources=(Files("models"),),
    deadline=900.0,
)
