"""Redact with the salt of an incident. It lies in its private folder, and goes on no record."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from tasks.custody.evidence.redact import redact_with
from tasks.system.files.atomic_files import read_private, write_once

_BYTES: Final = 32


def redact_for(salt: Path, patterns: Iterable[str], own: Iterable[str] = ()) -> None:
    """Redact from now on with the salt in this file, which is made if it is missing, and show what the patterns spell.

    What is shown of our `own` texts is described at `redact_with`.

    Where no file can be made or trusted, the process keeps a salt of its own: then values compare within it alone.
    """
    found = b""
    with suppress(OSError):
        if not os.path.lexists(salt):
            write_once(salt, os.urandom(_BYTES))
        found = read_private(salt)
    redact_with(found[:_BYTES], patterns, own)
