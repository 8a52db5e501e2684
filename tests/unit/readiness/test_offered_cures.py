"""Each cure that is offered for a process holds: with it in the block the process is a member, or excused."""

import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from blocks.workload import Workload
from tasks.host.judgement.case import Kind
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.workload import check_suspects, check_unknown
from tests.support.workloads import SmallWorkload, wait_until

LINE = re.compile(r"\b(?:\w+_pattern|units|bystanders) = (?:\[(?:(?:, )?(?:'[^']*'|\"(?:[^\"\\]|\\.)*\"))+\]|'[^']*')")
LOOP = "while :; do read line < out.fifo; done; echo over"
HOLDS = "import sys, time; file = open(sys.argv[1], 'a'); time.sleep(600)"
SERVES = "import http.server; http.server.HTTPServer(('127.0.0.1', 0), None).serve_forever()"
HAS = {"training_pattern": r"out\.fifo|jobs\.(sh|py)|fit\.out|hold|serve\.py|var/notes"}


class Of(NamedTuple):
    """What a process is called, where it works, and what below the root its output goes to."""

    words: tuple[str, ...]
    folder: str = "."
    output: str = ""
    has_doubt: bool = True
    patterned: bool = True


KINDS = {
    "writer through a pipe": Of(("cat", "out.fifo"), output="var/out.log"),
    "tee": Of(("tee", "var/fit.out")),
    "tee from elsewhere": Of(("tee", "ROOT/var/fit.out"), ".."),
    "reader": Of(("tail", "-f", "var/notes.txt"), has_doubt=False),
    "shell loop": Of(("sh", "-c", LOOP), patterned=False),
    "shell loop that writes": Of(("sh", "-c", LOOP), output="var/loop.log"),
    "script": Of(("sh", "jobs.sh")),
    "foreign program in the root": Of((sys.executable, "../hold.py", "../notes.txt")),
    "foreign program elsewhere": Of((sys.executable, "hold.py", "ROOT/var/notes.txt"), "..", patterned=False),
    "program of the root": Of(("venv/bin/python", "jobs.py")),
    "server": Of(("venv/bin/python", "serve.py")),
}


@pytest.fixture
def ground(small: SmallWorkload) -> SmallWorkload:
    """The root with what the kinds run and read."""
    (small.root / "var").mkdir()
    (small.root / "var/notes.txt").touch()
    (small.root / "jobs.sh").write_text(f"{LOOP}\n")
    (small.root / "jobs.py").write_text("import time; time.sleep(600)")
    (small.root / "serve.py").write_text(SERVES)
    (small.root.parent / "hold.py").write_text(HOLDS)
    os.mkfifo(small.root / "out.fifo")
    os.mkfifo(small.root.parent / "quiet")
    return small


@pytest.fixture
def started() -> Iterator[list[int]]:
    """Pids that are ended after the test."""
    found = list[int]()
    yield found
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def start(ground: SmallWorkload, kind: Of, started: list[int]) -> int:
    """Start one that is nobody's child, and return its pid once it is at work."""
    words = [each.replace("ROOT", str(ground.root)) for each in kind.words]
    output, about = ground.root / kind.output if kind.output else Path(os.devnull), {**os.environ, "LOOK": "HERE"}
    quiet = os.open(ground.root.parent / "quiet", os.O_RDWR)  # its input, which never ends
    with output.open("ab") as file:
        command, folder = ["setsid", "--fork", *words], ground.root / kind.folder
        subprocess.run(command, cwd=folder, env=about, stdin=quiet, stdout=file, stderr=file, check=True)
    os.close(quiet)

    def find() -> list[int]:
        named = (each for each in psutil.process_iter(["environ", "cmdline"]) if each.info["cmdline"] == words)
        return [each.pid for each in named if (each.info["environ"] or {}).get("LOOK") == "HERE"]

    wait_until(lambda: bool(find()), what=" ".join(words))
    started += find()
    if words[0] == "tee" or "hold.py" in words[1]:
        wait_until(lambda: bool(_files(started[0])), what="its file")
    return started[0]


def _files(pid: int) -> list[str]:
    return [each.path for each in psutil.Process(pid).open_files() if each.path.endswith(("fit.out", "notes.txt"))]


def look(block: Workload) -> tuple[CheckTarget, str]:
    """Return what is seen with this block, and every cure that is offered."""
    target = CheckTarget("small", block, "store", {})
    return target, f"{check_suspects(target).cure}; {check_unknown(target).cure}"


@pytest.mark.parametrize("has", [{}, HAS], ids=["a new block", "a block that matches"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_offered_line_makes_it_a_member_or_excuses_it(
    ground: SmallWorkload, started: list[int], kind: str, has: dict[str, Any]
) -> None:
    pid = start(ground, KINDS[kind], started)
    target, cure = look(ground.block(**has))
    is_member = pid in {each.pid for each in target.processes}
    in_doubt = pid in {each.pid for each in (*target.roster.suspects, *target.roster.unknown)}
    assert is_member == bool(has and KINDS[kind].has_doubt and KINDS[kind].patterned)
    assert in_doubt == (KINDS[kind].has_doubt and not is_member)
    lines = [line for line in LINE.findall(cure) if in_doubt]
    is_suspect = pid in {each.pid for each in target.roster.suspects}
    assert any("_pattern" in line for line in lines) == (is_suspect and KINDS[kind].patterned and not has), cure
    assert any("bystanders" in line for line in lines) == (in_doubt and (not has or kind != "shell loop")), cure
    other = r"^it's another "
    again, cure = look(ground.block(**has, bystanders=[other]))
    assert all(other in tomllib.loads(each)["bystanders"] for each in LINE.findall(cure) if "bystanders" in each)
    for line in lines:
        added = tomllib.loads(line)
        again, _ = look(ground.block(**has | added))
        found = {each.pid for each in again.excused_processes if "bystanders" in added}
        assert pid in found | {each.pid for each in again.processes if "bystanders" not in added}, line
        assert pid not in {each.pid for each in again.roster.alive if "bystanders" in added}, line
        assert again.roster.judgements[next(each for each in again.roster.judgements if each.pid == pid)].kind in {
            Kind.MEMBER,
            Kind.EXCUSED,
            Kind.APART,
        }
