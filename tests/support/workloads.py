"""A small workload for tests: real processes with the runbook's command lines, on the standard library alone.

The sample workload in examples/ is the full-size one; this one starts in a tenth of a second.
"""

import json
import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

from blocks.workload import Workload
from tasks.drill.sample_workload import end_all_in, find_living
from tasks.host.cgroup.group import Hierarchy
from tasks.host.cgroup.ownership import INCIDENT_PREFIX
from tasks.incident.layout import GROUPS, of_any_boot

TRAIN = """
import os, signal, sys, time
children = []
for _ in range(int(os.environ.get("WORKERS", "2"))):
    child = os.fork()
    if child == 0:
        while True:
            time.sleep(0.05)
    children.append(child)
print("training with", children, flush=True)
while True:
    time.sleep(0.05)
"""

API = """
import json, os, sys, time, http.server, urllib.parse
port = int(sys.argv[sys.argv.index("--port") + 1])
model = os.environ.get("MODEL_PATH") or "models/model_builtin.joblib"
COLUMNS = ["age", "city"]
class Handler(http.server.BaseHTTPRequestHandler):
    disable_nagle_algorithm = True
    def answer(self, code, what):
        body = json.dumps(what).encode()
        self.send_response(code); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def columns(self):
        return COLUMNS if os.path.exists(model) else []
    def health(self):
        there = os.path.exists(model)
        return {"status": "ok", "model": os.path.basename(model), "ts": time.time(),
                "cols": len(COLUMNS) if there else None, "model_exists": there}
    def score(self, row):
        row = {name: row.get(name) for name in COLUMNS}
        return 0.25 if row == {"age": 0.0, "city": ""} else 0.75
    def do_GET(self):
        if self.path in ("/health", "/healthz"):
            return self.answer(200, self.health())
        if self.path == "/schema":
            return self.answer(200, {"required_columns": self.columns(), "numeric_columns": self.columns()[:1]})
        self.answer(500 if self.path == "/metrics" else 404, {"detail": "no"})
    def do_POST(self):
        global model
        path, _, query = self.path.partition("?")
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        if path == "/reload":
            wanted = urllib.parse.parse_qs(query).get("path", [model])[0]
            if not os.path.exists(wanted):
                return self.answer(500, {"detail": wanted})
            model = wanted
            return self.answer(200, {"status": "reloaded", "model": os.path.basename(model)})
        if not self.columns():
            return self.answer(503, {"detail": "no model"})
        if path == "/predict":
            return self.answer(200, {"pred_proba": self.score(body["features"])})
        self.answer(200, {"pred_proba": [self.score(row) for row in body["rows"]]})
    def log_message(self, form, *args):
        with open("logs/api-20260101.log", "a") as log:
            log.write(json.dumps({"event": form % args}) + "\\n")
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def free_port() -> int:
    """A TCP port on loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], object], seconds: float = 90.0, what: str = "the condition") -> None:
    """Wait for a condition, never for a guessed time. A process that ends while it is looked at is looked for again."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(psutil.NoSuchProcess):
            if condition():
                return
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true in {seconds} s")
        time.sleep(0.01)


def stand(process: psutil.Process) -> None:
    """Stop a process, as a person does with Ctrl-Z, and wait until it stands."""
    process.suspend()
    wait_until(lambda: process.status() == psutil.STATUS_STOPPED, what="its stop")


def open_the_way(folder: Path) -> None:
    """Let every user into a folder of ours, however deep it lies in the folder of all tests."""
    for place in (folder, *folder.parents):
        about = place.stat()
        if about.st_uid == os.geteuid() and about.st_mode & 0o055 != 0o055:
            place.chmod(about.st_mode | 0o055)


def words_of(process: psutil.Process) -> list[str]:
    """The command line of a process; empty where it has ended meanwhile."""
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def end_groups_of(evidence: Path) -> None:
    """Remove the control groups that incidents which no test has stopped or released have made for themselves."""
    if not (hierarchy := Hierarchy.find()):
        return
    rows = [row for path in evidence.glob(f"IR-*/{of_any_boot(GROUPS)}") for row in json.loads(path.read_text())]
    for group in {hierarchy.group(row["group"]) for row in rows if f"/{INCIDENT_PREFIX}" in row["group"]}:
        if group and group.place.exists():
            group.kill()
            group.remove()


class SmallWorkload:
    """A root folder with files as the runbook knows them, an API and a training job. Ends what it started."""

    def __init__(self, root: Path) -> None:
        """Lay out the folders and files."""
        self.root = root
        self.port = free_port()
        self.started: list[subprocess.Popen[bytes]] = []
        self.dataset = "builtin"
        for folder in ("models", "artifacts", "logs", "src", "uvicorn", "venv/bin"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "src/train.py").write_text(TRAIN)
        (root / "uvicorn/__main__.py").write_text(API)
        (root / "venv/bin/python").symlink_to(sys.executable)
        site = root / "venv/lib/python3/site-packages/scikit_learn-1.7.2.dist-info"
        site.mkdir(parents=True)
        (site / "METADATA").write_text("Metadata-Version: 2.1\nName: scikit-learn\nVersion: 1.7.2\n")
        (root / "models/model_builtin.joblib").write_bytes(pickle.dumps({"weights": list(range(500))}))
        (root / "artifacts/summary_builtin.json").write_text(json.dumps({"sklearn": "1.7.2", "score": 0.97}))
        (root / "artifacts/cv_results_builtin.csv").write_text("iter,score\n0,0.9\n")
        (root / "logs/train-20260101_000000.log").write_text("iteration 1\n")

    def block(self, **changes: object) -> Workload:
        """The workload block that describes it, and no workload of a test beside this one."""
        fields: dict[str, object] = {
            "root": self.root,
            "lock": self.root.parent / f"{self.root.name}.lock",
            "api_command": self.api_command,
            "api_pattern": rf"uvicorn .*api\.app(?!.*--port (?!{self.port}))",
            "training_pattern": rf"src/train\.py .*--mode full(?!.*--seed (?!{self.port}))",
            "grace_seconds": 5,
            "watch_seconds": 0.2,
            "recovery_seconds": 20,
        }
        return Workload(**(fields | changes))

    @property
    def api_command(self) -> list[str]:
        """How the API is started."""
        return ["venv/bin/python", "-m", "uvicorn", "api.app:app", "--host", "127.0.0.1", "--port", str(self.port)]

    @property
    def training_command(self) -> list[str]:
        """How a training run is started."""
        mode = ["--dataset", self.dataset, "--mode", "full", "--seed", str(self.port)]
        return ["venv/bin/python", "-u", "src/train.py", *mode]

    def start(self, command: Sequence[str] | None = None, **environment: str) -> subprocess.Popen[bytes]:
        """Start a program in the root, the training by default, and wait for its command line."""
        process = subprocess.Popen(
            command or self.training_command,
            cwd=self.root,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.started.append(process)
        known = psutil.Process(process.pid)
        wait_until(lambda: words_of(known) or known.status() == psutil.STATUS_ZOMBIE, what="its command line")
        return process

    def start_all(self, workers: int = 2) -> None:
        """Start the API and a training run, and wait until both are at work."""
        self.start(self.api_command)
        training = self.start(WORKERS=str(workers))
        wait_until(self.healthy, what="the API's answer")
        wait_until(lambda: len(psutil.Process(training.pid).children()) == workers, what="the training's workers")

    def healthy(self) -> bool:
        """Whether the API accepts connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def living(self) -> list[psutil.Process]:
        """Processes that work in the root, found without any code of the product."""
        return find_living(self.root)

    def __enter__(self) -> Self:
        """Nothing to start yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End everything that works in the root, by pid."""
        end_all_in(self.root)
        for started in self.started:
            started.wait(10)
        end_groups_of(self.root / "evidence")
