"""What is flushed to disk, in order, as a power loss would find it."""

import os
from pathlib import Path

import pytest


def flushes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list that gets the path of each file and folder that is flushed from now on."""
    flushed, fsync = list[Path](), os.fsync

    def noted(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    return flushed
