"""Virtual environments of programs that are no dependency of ours: made once a checkout, then linked into a root."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

REQUIREMENTS: Final = Path(__file__).parent / "requirements"
_CACHE: Final = Path(__file__).parents[2] / "build" / "cache"


def furnish(root: Path, requirements: str) -> None:
    """Give a root its own environment with these requirements; without any, with an interpreter alone."""
    venv = root / "venv"
    shutil.rmtree(venv, ignore_errors=True)
    if requirements:
        shutil.copytree(_made(requirements), venv, symlinks=True, copy_function=_link)
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


def _made(requirements: str) -> Path:
    """The environment of tests/support/requirements/NAME.txt, or of a path without its .txt.

    Made by one of those who want it at the same time; a copy works too, as programs find their own interpreter.
    """
    pinned = REQUIREMENTS / f"{requirements}.txt"
    key = hashlib.sha256(pinned.read_bytes() + sys.executable.encode()).hexdigest()[:12]
    name = requirements.strip("/").replace("/", "-")
    made = _CACHE / f"{name}-{key}"
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            part = made.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            uv = str(Path(sys.executable).with_name("uv"))
            subprocess.run([uv, "venv", "--quiet", "--relocatable", "--python", sys.executable, part], check=True)
            chosen = ["--python", str(part / "bin/python"), "--require-hashes", "--compile-bytecode"]
            subprocess.run([uv, "pip", "sync", "--quiet", *chosen, pinned], check=True)
            part.rename(made)
    return made
