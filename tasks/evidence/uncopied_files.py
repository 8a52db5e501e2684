"""Open evidence files that were hashed in place. Only their digest is trusted."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath

from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.evidence.keys import unquote
from tasks.custody.store.manifest import digest
from tasks.incident.paths import IncidentDirectory
from tasks.system.files.open_beneath import open_below, real_name


@contextmanager
def open_uncopied(root: PurePath, file: StoredFile) -> Iterator[Path]:
    """Yield a path to the open file, which stays valid if its name is reused. OSError if it is gone."""
    base, name = os.fsencode(root), unquote(file.source)
    real = real_name(base, name)
    if real is None:
        raise FileNotFoundError(errno.ENOENT, "it leads out of the workload by now", file.source)
    descriptor = open_below(base, real)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


@contextmanager
def reading(directory: IncidentDirectory, volume: int, file: StoredFile) -> Iterator[Path]:
    """Yield a path to the bytes of any evidence file, wherever it lies."""
    if file.in_place:
        with open_uncopied(directory.root, file) as path:
            yield path
    else:
        yield directory.locate(volume, file)


def as_sealed(root: PurePath, file: StoredFile) -> bool:
    """Return whether the file still has the digest that was sealed."""
    with suppress(OSError), open_uncopied(root, file) as path:
        return digest(path) == file.sha256
    return False
