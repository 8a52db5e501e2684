"""This project as a wheel, made of the sources as they are, without a network."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.support.booted_host import PROJECT

_FOLDERS: Final = ("blocks", "flows", "tasks", "examples")
_FILES: Final = ("pyproject.toml", "README.md", "prefect.yaml")
_BUILD: Final = "from setuptools.build_meta import build_wheel; print(build_wheel('..'))"


def wheel(folder: Path) -> Path:
    """Build it from a copy, so that nothing is left in the checkout; its path in the folder."""
    for name in _FOLDERS:
        shutil.copytree(PROJECT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _FILES:
        shutil.copy(PROJECT / name, folder / "source" / name)
    built = subprocess.run(
        [sys.executable, "-c", _BUILD], cwd=folder / "source", capture_output=True, text=True, check=True
    )
    return folder / built.stdout.split()[-1]
