"""The end of the kernel log: out-of-memory kills, disk errors (runbook §4)."""

from tasks.collectors.collector import Collector, Command

COLLECTOR = Collector(
    name="kernel",
    answers="Did the kernel kill or complain?",
    order=30,
    sources=(Command(("dmesg",), "dmesg_tail.txt", last=200),),
)
