"""Build and run the drill's sample workload: a virtual environment, an API and a training job."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from math import inf
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from blocks.workload import Workload
from tasks.system.declarations import VARIABLE, declaration
from tasks.system.files.atomic_files import write_whole
from tasks.system.files.shared_files import SHARED
from tasks.system.free_ports import free_ports
from tasks.system.polling import poll_until

SOURCE: Final = SHARED / "examples/workload"
REFUSED: Final = 75
_SERVED: Final = {"MODEL_PATH": "models/model_builtin.joblib"}
WORKERS: Final = 8
"""Workers of a full training run."""
_READY_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.1
_AT_WORK_SECONDS: Final = 0.5
_LOOK_AGAIN_SECONDS: Final = 0.01


class SampleWorkload(contextlib.AbstractContextManager["SampleWorkload"]):
    """A copy of examples/workload. Its processes end with it, found by the folder that they work in."""

    def __init__(self, root: Path, workers: int = WORKERS) -> None:
        """Choose the places, which `build` creates. It is at work once `workers` of the training's workers compute."""
        self.root, self._workers = root.absolute(), workers
        self.lock = self.root.parent / "train.lock"
        self.port = free_ports("api")["api"]
        self.url = f"http://127.0.0.1:{self.port}"
        self._started: list[subprocess.Popen[bytes]] = []

    @property
    def api_command(self) -> list[str]:
        """The API's command."""
        return ["venv/bin/python", "-m", "uvicorn", "api.app:app", "--host", "127.0.0.1", "--port", str(self.port)]

    @property
    def training_command(self) -> list[str]:
        """The training's command."""
        return ["make", "--silent", "train-full", f"LABEL={self.port}"]

    def block(self) -> Workload:
        """Return the workload block that describes it, and no other workload of the host."""
        return Workload(
            root=self.root,
            lock=self.lock,
            api_pattern=rf"uvicorn .*api\.app.*--port {self.port}",
            api_command=self.api_command,
            training_pattern=rf"src/train\.py .*--label {self.port}",
            training_command=self.training_command,
            api_environment=_SERVED,
            evidence_dir=self.root.parent / "evidence",
            user="" if os.geteuid() else "root",
        )

    def build(self) -> None:
        """Copy the sources, create the virtual environment from its lock file, train a first model."""
        shutil.copytree(SOURCE, self.root, ignore=shutil.ignore_patterns("__pycache__", "venv"))
        for folder in ("models", "artifacts", "logs"):
            (self.root / folder).mkdir(exist_ok=True)
        uv = Path(sys.executable).with_name("uv")
        self._run([str(uv), "venv", "--quiet", "--python", sys.executable, "venv"])
        of_venv = ["--python", "venv/bin/python", "requirements.txt"]
        self._run([str(uv), "pip", "sync", "--quiet", "--require-hashes", *of_venv])
        if shutil.which("git"):
            (self.root / ".gitignore").write_text("venv/\nmodels/\nartifacts/\nlogs/\ncache/\n__pycache__/\n")
            self._run(["git", "init", "--quiet"])
            self._run(["git", "add", "--all"])
            identity = ("-c", "user.name=drill", "-c", "user.email=drill@localhost")
            self._run(["git", *identity, "commit", "--quiet", "--message", "The sample workload"])
        self._run(["make", "--silent", "train-fast"])

    def _run(self, command: Sequence[str]) -> None:
        process = self._end_of(command)
        if process.returncode:
            tail = (process.stdout + process.stderr)[-1500:].decode(errors="replace")
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{tail}")

    def _end_of(self, command: Sequence[str]) -> "subprocess.CompletedProcess[bytes]":
        env, nothing = self.environment(), subprocess.DEVNULL
        return subprocess.run(command, cwd=self.root, env=env, stdin=nothing, capture_output=True, check=False)

    @staticmethod
    def environment() -> dict[str, str]:
        """Return our environment without what would make a nested make or git act on another folder."""
        drop = ("MAKE", "MFLAGS", "GIT_", "PREFECT_", "VIRTUAL_ENV")
        return {name: value for name, value in os.environ.items() if not name.startswith(drop)}

    def start(self) -> None:
        """Start the API and a full training run, and wait until the API answers and enough workers compute."""
        self._start(self.api_command, _SERVED)
        self._start(self.training_command, {})
        self._wait(self.healthy, "the API's answer")
        self._wait(lambda: len(self.computing()) >= self._workers, f"{self._workers} training workers")

    def _start(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self._started.append(
            subprocess.Popen(
                command,
                cwd=self.root,
                env=self.environment() | environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )

    def _wait(self, condition: Callable[[], object], what: str) -> None:
        def look() -> str:
            return "up" if condition() else "down" if any(process.poll() for process in self._started) else ""

        if poll_until(look, _READY_SECONDS, _POLL_SECONDS) != "up":
            raise RuntimeError(f"the sample workload did not come up: no {what}; see {self.root}/logs")

    @property
    def sessions(self) -> tuple[int, ...]:
        """Sessions of the API and of the training: no process of the workload leaves them."""
        return tuple(process.pid for process in self._started)

    def healthy(self) -> bool:
        """Return whether the API answers."""
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/health", timeout=5, trust_env=False).is_success
        return False

    def predict(self) -> dict[str, Any]:
        """Return one prediction, for a row made from the API's own schema."""
        with httpx.Client(base_url=self.url, timeout=30, trust_env=False) as api:
            columns = api.get("/schema").raise_for_status().json()["required_columns"]
            answer = api.post("/predict", json={"features": dict.fromkeys(columns, 1.0)})
            prediction: dict[str, Any] = answer.raise_for_status().json()
            return prediction

    def launch_training(self) -> int:
        """Try to start a training the guarded way, as a person would; return the launcher's exit code."""
        command = ["flock", "-n", "-E", str(REFUSED), str(self.lock), "make", "--silent", "train-fast"]
        return self._end_of(command).returncode

    def living(self) -> list[psutil.Process]:
        """Return every process that works in the root, found without the evacuation's own code."""
        return find_living(self.root)

    def computing(self) -> list[psutil.Process]:
        """Return the training's worker processes that have used the processor."""
        return [process for process in self.living() if _is_worker(process)]

    def end(self) -> None:
        """End everything that works in the root, each by its own pid; it may be started again."""
        end_all_in(self.root)
        while self._started:
            self._started.pop().wait()

    def __exit__(self, *_: object) -> None:
        """End it after any result."""
        self.end()


def declare(folder: Path, workload: Workload) -> dict[str, str]:
    """Declare a workload of a drill in that folder, whose name the returned environment tells."""
    folder.mkdir(mode=0o755, exist_ok=True)
    write_whole(folder / "drill.toml", declaration(workload).encode(), 0o644)
    return {VARIABLE: str(folder)}


def end_all_in(root: Path) -> None:
    """Kill every process that works in the folder, each by its own pid, until none is left.

    A zombie counts as gone: some init processes reap late.
    """

    def kill_all() -> bool:
        living = find_living(root)
        for process in living:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        return not living

    poll_until(kill_all, inf, _LOOK_AGAIN_SECONDS)


def find_living(root: Path) -> list[psutil.Process]:
    """Return every process that works in the folder, found without the evacuation's own code."""
    return [process for process in every_process() if _works_in(process, root)]


def every_process() -> Iterator[psutil.Process]:
    """Return all processes of the host. psutil's cache would leave out, once, one with the pid of one that it knew."""
    psutil.process_iter.cache_clear()
    return psutil.process_iter()


def _works_in(process: psutil.Process, root: Path) -> bool:
    with contextlib.suppress(psutil.Error, OSError):  # a folder may be deeper than its name may be long
        return process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(root)
    return False


def _is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "loky" in " ".join(process.cmdline()) and process.cpu_times().user > _AT_WORK_SECONDS
    return False
