"""Open evidence files that were hashed where they lie, and trust them by their digest alone."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.evidence.keys import unquote
from tasks.custody.store.manifest import digest
from tasks.runtime.context import RunContext
from tasks.system.open_beneath import open_below, real_name


@contextmanager
def opened(context: RunContext, file: StoredFile) -> Iterator[Path]:
    """A path to the open file: whoever gives its name to another meanwhile changes nothing. OSError if it is gone."""
    root, name = os.fsencode(context.directory.root), unquote(file.source)
    real = real_name(root, name)
    if real is None:
        raise FileNotFoundError(errno.ENOENT, "it leads out of the workload by now", file.source)
    descriptor = open_below(root, real)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


@contextmanager
def reading(context: RunContext, volume: int, file: StoredFile) -> Iterator[Path]:
    """A path to the bytes of any file of evidence, wherever they lie."""
    if file.in_place:
        with opened(context, file) as path:
            yield path
    else:
        yield context.directory.locate(volume, file)


def as_sealed(context: RunContext, file: StoredFile) -> bool:
    """Whether it still is what was hashed."""
    try:
        with opened(context, file) as path:
            return digest(path) == file.sha256
    except OSError:
        return False
