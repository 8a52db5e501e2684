"""Eight processes that compute and do nothing else, as a workload of this project: they leave no processor idle."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.watched import state_of
from blocks.workload import Workload
from tasks.host.host import LinuxHost
from tasks.incident.layout import CORDON

BUSY: Final = 8
WITHOUT_RIGHTS: Final = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
_SETTLE_SECONDS: Final = 1.0


class BusyMachine:
    """The workload: processes under one root that compute and do nothing else, eight if nobody asks for fewer."""

    def __init__(self, folder: Path, count: int = BUSY) -> None:
        """Lay it out."""
        self.count = count
        self.root, self.evidence = folder / "workload", folder / "evidence"
        self.processes: list[subprocess.Popen[bytes]] = []
        (self.root / "src").mkdir(parents=True)
        (self.root / "src/train.py").write_text("while True:\n    pass\n")

    def block(self) -> Workload:
        """The block that describes it."""
        return Workload(root=self.root, lock=self.root.parent / "train.lock", evidence_dir=self.evidence)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Start it, and end it whatever happened, with the cordon of the run that contained it."""
        command = [*WITHOUT_RIGHTS, sys.executable, "-u", "src/train.py", "--dataset", "builtin", "--mode", "full"]
        self.processes = [
            subprocess.Popen(command, cwd=self.root, stdin=subprocess.DEVNULL, start_new_session=True)
            for _ in range(self.count)
        ]
        try:
            time.sleep(_SETTLE_SECONDS)
            yield
        finally:
            for process in self.processes:
                process.kill()
                process.wait()
            LinuxHost().release(self.evidence / CORDON)
            shutil.rmtree(self.evidence, ignore_errors=True)

    def at_rest(self) -> bool:
        """Whether none of them runs any more."""
        seen = [state_of(process.pid) for process in self.processes]
        return all(each is None or each[0] in "TtZX" for each in seen)
