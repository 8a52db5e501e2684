"""Collect what else lies in the folders that go whole to the snapshot and latest/, byte for byte (runbook §5).

See docs/adr/0044.
"""

from tasks.acquisition.collector import TIB, Collector, Files
from tasks.custody.evidence.keys import FOLDERS

COLLECTOR = Collector(
    name=FOLDERS,
    answers="What else lay in the workload's folders?",
    order=70,
    sources=(Files(FOLDERS, beside=("logs", "artifacts", "models"), max_files=300_000),),
    needed=True,
    deadline=1800.0,
    stalled=60.0,
    limit=TIB,
)
