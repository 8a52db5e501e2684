"""The cordon's marker: who holds the training lock, since when and why, where people who meet the lock can read it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_marker(marker: Path, about: Mapping[str, Any]) -> None:
    """Write it whole or not at all. It survives a loss of power: a guarded training refuses under it."""
    beside = marker.with_name(f".{marker.name}.{os.getpid()}")
    with beside.open("w") as file:
        file.write(json.dumps(about, indent=2, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())
    beside.chmod(0o644)
    beside.replace(marker)


def read_marker(marker: Path) -> dict[str, Any]:
    """What the marker says; nothing where there is none, or one that is no marker."""
    try:
        about = json.loads(marker.read_text())
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}
