"""Collect free space of local file systems (runbook §4). Local only: a dead network mount would hang it."""

from tasks.collectors.collector import Collector, Command

COLLECTOR = Collector(
    name="disk",
    answers="Was a disk full?",
    order=40,
    sources=(Command(("df", "-h", "-l"), "df.txt"), Command(("df", "-i", "-l"), "df_inodes.txt")),
)
