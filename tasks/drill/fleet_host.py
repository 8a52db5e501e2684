"""Start a host of a drill's fleet: namespaces of its own on this machine, with a workload and a worker in them."""

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

from blocks.workload import Workload
from tasks.custody.errors import Refused
from tasks.drill.sample_workload import declare, find_living
from tasks.prefect_side.own_server import PrefectServer
from tasks.system.declarations import VARIABLE
from tasks.system.free_ports import ask
from tasks.system.installation import FLEET_KEY, FLEET_SIGNERS
from tasks.system.managed_process import ManagedProcess

_TRAIN: Final = """
import os, time
for _ in range(2):
    if os.fork() == 0:
        break
while True:
    time.sleep(0.05)
"""
_PACKAGE: Final = "venv/lib/python3/site-packages/sample-1.0.dist-info"
_SPACES: Final = ("--uts", "--pid", "--ipc", "--mount", "--fork", "--kill-child", "--mount-proc")
_TRAINING: Final = "venv/bin/python -u src/train.py --dataset builtin --mode full"
# A shell stays as the first process: it takes care of what the workload leaves behind, as an init does.
_BOOT: Final = """
hostname "$1"
[ -z "$2" ] || (cd "$2" && setsid sh -c "exec $3 </dev/null >/dev/null 2>&1" &)
shift 3
"$@" &
wait
"""


class FleetHost(ManagedProcess):
    """A host with a name and processes of its own. Ending it takes its power away: everything in it is killed at once.

    Without root's rights the namespaces belong to a user namespace, which the kernel has to allow.
    """

    ready_seconds = 60.0
    grace_seconds = 1.0

    def __init__(self, folder: Path, server: PrefectServer, pool: str, name: str, queues: Sequence[str] = ()) -> None:
        """Serve a host's own queues, or others: a host without a workload then."""
        self.name, self.server, self.pool = name, server, pool
        super().__init__(folder / name)
        self.root = self.folder / "work"
        self._queues = list(queues) or [name, f"{name}-training"]
        self._own, self._heard = not queues, ""

    @staticmethod
    def lay_out(root: Path) -> None:
        """Make the folder of a small workload: a training that sleeps, a model, results, a log."""
        for place in ("models", "artifacts", "logs", "src", "venv/bin", _PACKAGE):
            (root / place).mkdir(parents=True, exist_ok=True, mode=0o700)
        (root / "src/train.py").write_text(_TRAIN)
        (root / "models/model_builtin.joblib").write_bytes(b"\x80\x04N.")
        (root / "artifacts/summary_builtin.json").write_text(json.dumps({"score": 0.97}))
        (root / "artifacts/cv_results_builtin.csv").write_text("iter,score\n0,0.9\n")
        (root / "logs/train-20260101_000000.log").write_text("iteration 1\n")
        (root / _PACKAGE / "METADATA").write_text("Metadata-Version: 2.1\nName: sample\nVersion: 1.0\n")
        if not (root / "venv/bin/python").is_symlink():
            (root / "venv/bin/python").symlink_to(Path(sys.executable).resolve())

    def block(self) -> Workload:
        """Lay out the workload, and return the block that describes it."""
        self.lay_out(self.root)
        block = Workload(
            root=self.root,
            host=self.name,
            incident_suffix=self.name,
            lock=self.folder / "train.lock",
            evidence_dir=self.folder / "evidence",
            grace_seconds=5,
            watch_seconds=0.5,
        )
        declare(self.folder / "hosts.d", block)
        return block

    def command(self) -> Sequence[str]:
        """Return the command: the first process of the namespaces, the workload, the worker as its unit starts it."""
        alone = ["unshare", *_SPACES, *(() if os.geteuid() == 0 else ("--user", "--map-root-user"))]
        queues = [word for queue in self._queues for word in ("--work-queue", queue)]
        worker = [sys.executable, "-P", "-m", "flows.cli", "worker", "--pool", self.pool, *queues, "--name", self.name]
        root = str(self.root) if self._own else ""
        return [*alone, "sh", "-euc", _BOOT, "boot", self.name, root, _TRAINING, *worker]

    def environment(self) -> Mapping[str, str]:
        """Return the server's environment, with a home of its own, and the drill's keys of frames, if it has some."""
        own = {"PREFECT_HOME": str(self.folder / "prefect"), VARIABLE: str(self.folder / "hosts.d")}
        name, file = ("SIGNERS", FLEET_SIGNERS) if self._own else ("KEY", FLEET_KEY)
        own[f"EVACUATION_FLEET_{name}"] = str(self.folder.parent / file.name)
        return {**self.server.env, **own, "PREFECT_WORKER_QUERY_SECONDS": "1"}

    def start(self) -> None:
        """Start it. Raises Refused where the kernel allows no namespaces."""
        if not shutil.which("unshare"):
            raise Refused("unshare", "none", "Nothing was started. apt install util-linux")
        self._heard = self._last_heard()
        super().start()

    def ready(self) -> bool:
        """Return whether the server has heard from its worker, and its workload is at work."""
        return self._last_heard() != self._heard and (not self._own or len(self.living()) == 3)  # noqa: PLR2004

    def _last_heard(self) -> str:
        answer = json.loads(ask(f"{self.server.api}/work_pools/{self.pool}/workers/filter", {"limit": 200}) or b"[]")
        return next((str(each["last_heartbeat_time"]) for each in answer if each["name"] == self.name), "")

    def living(self) -> list[psutil.Process]:
        """Return every process of the workload, found without the evacuation's own code."""
        return find_living(self.root)
