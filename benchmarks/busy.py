"""Eight processes that compute and do nothing else, as a workload of this project: they leave no processor idle."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from blocks.workload import Workload
from tasks.host.host import LinuxHost
from tasks.incident.layout import CORDON

BUSY: Final = 8
WITHOUT_RIGHTS: Final = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
_SETTLE_SECONDS: Final = 1.0
_TRAINING: Final = "while True:\n    pass\n"


class BusyMachine:
    """The workload: processes under one root that compute and do nothing else, eight if nobody asks for fewer."""

    def __init__(self, folder: Path, count: int = BUSY) -> None:
        """Lay it out."""
        self.count = count
        self.root, self.evidence = folder / "workload", folder / "evidence"
        self.processes: list[subprocess.Popen[bytes]] = []
        (self.root / "src").mkdir(parents=True)
        (self.root / "src/train.py").write_text(_TRAINING)

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
        return all(_state(process.pid) in "TtZX" for process in self.processes)


def _state(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "X"
