"""Each worker that we start serves the queues of its own host, which `evacuation deploy` makes, and of no other."""

import json
import shlex
import socket
import subprocess
from pathlib import Path

from tasks.custody.incident.news import PEOPLE
from tasks.deployment.register import worker_of

PROJECT = Path(__file__).parents[3]
HOST = socket.gethostname()


def expected(pool: str) -> list[str]:
    """The line that `evacuation deploy` prints for this host."""
    return shlex.split(worker_of(HOST, pool, "/bin/python", (PEOPLE,)).partition(": ")[2])[1:]


def test_the_line_names_the_queues_of_one_host() -> None:
    queues = [word for word, before in zip(expected("p")[1:], expected("p"), strict=False) if before == "--work-queue"]
    assert queues == [HOST, f"{HOST}-training", "people"]


def test_the_image_starts_it(tmp_path: Path) -> None:
    (command,) = [line for line in (PROJECT / "Dockerfile").read_text().splitlines() if line.startswith("CMD ")]
    program = tmp_path / "evacuation"
    program.write_text('#!/bin/sh\nfor word; do echo "$word"; done\n')
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "EVACUATION_POOL": "a pool"}
    words = json.loads(command.removeprefix("CMD "))
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == expected("'a pool'")


def test_the_unit_starts_it() -> None:
    unit = (PROJECT / "examples/systemd/evacuation-worker.service").read_text()
    (line,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    words = shlex.split(line.replace("%H", HOST).replace("${EVACUATION_POOL}", "p"))
    assert words[1:] == expected("p")
