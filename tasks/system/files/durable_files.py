"""Flush many files to disk, so that what is said of them afterwards survives a power loss."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path

from tasks.system.files.atomic_files import sync
from tasks.system.parallel import side_by_side


def flush(paths: Sequence[Path]) -> None:
    """Flush files and folders in parallel, which lets the disk group its writes. Raises OSError."""
    deque(side_by_side(sync, paths), maxlen=0)


def flush_trees(*folders: Path) -> None:
    """Flush everything below these folders, and their names; links are not followed. One that is missing is empty."""
    below = (path for folder in folders if folder.exists() for path in (folder.parent, folder, *folder.rglob("*")))
    flush([path for path in below if not path.is_symlink()])
