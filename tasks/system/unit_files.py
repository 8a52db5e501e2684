"""Name instances of systemd's units by paths, and stamp files so that a change by a person is seen."""

import hashlib
import os
import re
from pathlib import Path, PurePath
from typing import Final

BOOTED: Final = Path("/run/systemd/system")
"""A folder if systemd has booted this host, as sd_booted(3) tells."""
WORKER_UNIT: Final = Path("/etc/systemd/system/evacuation-worker.service")
"""The worker's unit where `evacuation install` has put one, which runs as root."""


def escape(path: PurePath) -> str:
    """Return an absolute path as an instance's name, as `systemd-escape --path` does."""
    plain = os.fsencode(os.path.normpath(path)).strip(b"/")
    escaped = re.sub(rb"^\.|[^A-Za-z0-9:_./]", lambda found: b"\\x%02x" % found[0][0], plain)
    return escaped.replace(b"/", b"-").decode() or "-"


def unescape(instance: str) -> PurePath:
    """Return the path of an instance's name, as `systemd-escape --unescape --path` does."""
    plain = instance.encode().replace(b"-", b"/")
    return PurePath("/" + os.fsdecode(re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), plain)))


def stamp(text: str, by: str) -> str:
    """Return the text below a line that says by what it was written, with a digest."""
    return f"# Written by {by}; changed since if this is not its sha256: {_digest(text)}\n{text}"


def is_stamped(text: str) -> bool:
    """Return whether a text is stamped, also if it has been changed since."""
    return text.startswith("# Written by ")


def is_as_written(text: str) -> bool:
    """Return whether a text is stamped, and has not been changed since."""
    first, _, rest = text.partition("\n")
    return is_stamped(first) and first.endswith(f" {_digest(rest)}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
