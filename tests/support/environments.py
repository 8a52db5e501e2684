"""Virtual environments of programs that are no dependency of ours: made once a checkout, then linked into a root."""

import hashlib
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Final

from tests.support.made_once import made_once

REQUIREMENTS: Final = Path(__file__).parent / "requirements"


def furnish(root: Path, requirements: str) -> None:
    """Give a root its own environment with these requirements; without any, with an interpreter alone."""
    venv = root / "venv"
    shutil.rmtree(venv, ignore_errors=True)
    if requirements:
        shutil.copytree(environment(requirements), venv, symlinks=True, copy_function=_link)
        return
    (venv / "bin").mkdir(parents=True)
    interpreter = Path(sys.executable).resolve()
    (venv / "bin/python").symlink_to(interpreter)
    (venv / "pyvenv.cfg").write_text(f"home = {interpreter.parent}\n")


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def environment(requirements: str) -> Path:
    """The environment of tests/support/requirements/NAME.txt, or of a path without its .txt.

    A copy works too, as programs find their own interpreter.
    """
    pinned = REQUIREMENTS / f"{requirements}.txt"
    key = hashlib.sha256(pinned.read_bytes() + sys.executable.encode()).hexdigest()[:12]
    return made_once(f"{requirements.strip('/').replace('/', '-')}-{key}", partial(_make, pinned))


def _make(pinned: Path, path: Path) -> None:
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "venv", "--quiet", "--relocatable", "--python", sys.executable, path], check=True)
    chosen = ["--python", str(path / "bin/python"), "--require-hashes", "--compile-bytecode"]
    subprocess.run([uv, "pip", "sync", "--quiet", *chosen, pinned], check=True)
