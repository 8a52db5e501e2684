"""What many tests want and is slow to make, made once a checkout by the first that wants it."""

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

CACHE: Final = Path(__file__).resolve().parents[2] / "build" / "cache"


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """Return the file or folder of this name in the cache. If there is none, `make` it whole at the path given."""
    CACHE.mkdir(parents=True, exist_ok=True)
    made = CACHE / name
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            part = CACHE / f"{name}.part"
            shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
            make(part)
            part.rename(made)
    return made
