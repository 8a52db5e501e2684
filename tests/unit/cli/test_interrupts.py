"""Ctrl-C at any moment ends a command by its sentence or object and its exit code, never by a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.custody.incident.exit_codes import INTERRUPTED

PRESS = """
import os, signal, sys
moments = sys.argv.pop(1).split(",")
class Press:
    def find_spec(self, name, *_):
        if name in moments:
            moments.remove(name)
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                if name.startswith("flows."):  # as a callback of the interpreter's loses it
                    return
                raise
sys.meta_path.insert(0, Press())
import flows.start
flows.start.main()
"""
BLOCK = """
[workload.none]
root = "{0}"
lock = "{0}.lock"
evidence_dir = "{0}.evidence"
api_pattern = "none such 1"
training_pattern = "none such 2"
worker_pattern = "none such 3"
[store.none]
folder = "{0}.store"
"""


def pressed(moments: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Type words, and Ctrl-C at the import of each of these modules."""
    command = [sys.executable, "-c", PRESS, moments, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.sample(1)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "moment"),
    [
        ("status", "flows.cli"),
        ("status", "tasks.cli.workloads"),
        ("plan", "flows.evacuate"),
        ("plan", "tasks.cli.status"),
    ],
)
def test_it_is_answered_whatever_was_being_imported(tmp_path: Path, verb: str, moment: str) -> None:
    """While Prefect was imported it left tracebacks of what it was in, and the run went on to its end."""
    (tmp_path / "root").mkdir()
    (tmp_path / "w.toml").write_text(BLOCK.format(tmp_path / "root"))
    done = pressed(moment, verb, str(tmp_path / "w.toml"), "--json")
    assert done.returncode == INTERRUPTED, done.stdout + done.stderr
    assert json.loads(done.stdout)["state"] == "Cancelled"
    assert "Traceback" not in done.stderr


def test_one_more_while_the_first_is_answered_leaves_the_exit_code() -> None:
    done = pressed("tasks.cli.workloads,tasks.cli.output", "status", "none.toml")
    assert (done.returncode, "Traceback" in done.stderr) == (INTERRUPTED, False)
