"""A shell that goes round in a loop: no child of the tests, it lives, and each command that it runs is gone at once."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.workloads import wait_until


@contextmanager
def shell_loop(folder: Path, turn: str, script: str = "") -> Iterator[int]:
    """Let a shell in a folder run these commands again and again, typed or in a script of that name; its pid."""
    text = f"echo $$ >pid; while [ ! -e enough ]; do {turn}; done; rm pid"
    if script:
        (folder / script).write_text(text)
    words = ["bash", script] if script else ["sh", "-c", text]
    subprocess.run(["setsid", "--fork", *words], cwd=folder, check=True)
    pid = folder / "pid"
    try:
        wait_until(lambda: pid.exists() and pid.read_text(), what="the loop")
        yield int(pid.read_text())
    finally:
        (folder / "enough").touch()
        wait_until(lambda: not pid.exists(), what="the loop's end")
