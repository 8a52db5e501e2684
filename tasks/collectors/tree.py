"""The frozen processes of the workload, each looked into before it dies."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tasks.collectors.collector import Collector, Made, Target
from tasks.custody.manifest import canonical
from tasks.custody.redact import redact_command, redact_environment

_QUESTIONS: dict[str, Callable[[psutil.Process], Any]] = {
    "parent": lambda process: process.ppid(),
    "command": lambda process: redact_command(process.cmdline()),
    "executable": lambda process: process.exe(),
    "cwd": lambda process: process.cwd(),
    "state": lambda process: process.status(),
    "user": lambda process: process.username(),
    "started": lambda process: process.create_time(),
    "cpu_seconds": lambda process: process.cpu_times()._asdict(),
    "memory_bytes": lambda process: process.memory_info()._asdict(),
    "threads": lambda process: process.num_threads(),
    "nice": lambda process: process.nice(),
    "environment": lambda process: redact_environment(process.environ()),
    "open_files": lambda process: [file._asdict() for file in process.open_files()],
    "sockets": lambda process: [str(connection) for connection in process.net_connections("inet")],
    "signals": lambda process: _signals(process.pid),
}


def _signals(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    lines = (line.partition(":") for line in text.splitlines())
    return {key: value.strip() for key, _, value in lines if key.startswith("Sig")}


def _ask(process: psutil.Process, question: Callable[[psutil.Process], Any]) -> Any:
    try:
        return question(process)
    except (psutil.Error, OSError) as error:
        return {"not read": str(error) or type(error).__name__}


def _start(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])


def _describe(pid: int, start: int) -> dict[str, Any]:
    about: dict[str, Any] = {"pid": pid, "start_ticks": start}
    try:
        process = psutil.Process(pid)
        same = _start(pid) == start
    except (psutil.NoSuchProcess, OSError):
        same = False
    if not same:
        return about | {"not read": "the process is gone"}
    return about | {name: _ask(process, question) for name, question in _QUESTIONS.items()}


def make(target: Target) -> bytes:
    """One object a process. What could not be read says so in its place."""
    return canonical([_describe(pid, start) for pid, start in target.frozen])


COLLECTOR = Collector(
    name="tree",
    answers="What did each process of the workload do, hold and listen to?",
    order=11,
    sources=(Made(make, "tree.json"),),
    while_frozen=True,
)
