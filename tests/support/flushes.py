"""What is flushed to disk, in order, as a power loss would find it."""

import os
import re
from pathlib import Path

import pytest


def named(descriptor: int) -> Path:
    """Return the path of an open file; of one that is not whole yet, `.NAME.new` for the name that it will have."""
    path = Path(f"/proc/self/fd/{descriptor}").readlink()
    return path.with_name(re.sub(r"^(\..+)\.[0-9a-f]{16}\.new$", r"\1.new", path.name))


def flushes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list that gets the path of each file and folder that is flushed from now on."""
    flushed, fsync = list[Path](), os.fsync

    def noted(descriptor: int) -> None:
        flushed.append(named(descriptor))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    return flushed
