"""Decide which files other than models may enter latest/: complete ones."""

import json
import re
from pathlib import Path
from typing import Final

_LIMIT: Final = 1 << 26
# A log may have been rotated: .log.1, .log-20260101.
_LOG: Final = re.compile(r".*\.(err|log|out)([.-][\d.-]+)?", re.IGNORECASE | re.DOTALL)
_UNSTEADY: Final = ("it changed while it was read", "it was truncated while it was read", "it grew while it was read")


def is_log(stored: str) -> bool:
    """Return whether a stored file is a log, which is of use at any length."""
    return bool(_LOG.fullmatch(stored)) or stored.startswith("logs/")


def unsteady(stored: str, note: str) -> str:
    """Return why a copy may mix several moments; empty if it is consistent. A log that only grew is consistent."""
    matches = [words for words in _UNSTEADY if words in note]
    return "" if not matches or (matches == [_UNSTEADY[-1]] and _LOG.fullmatch(stored)) else matches[0]


def torn_json(path: Path) -> str:
    """Return why a .json file is not complete JSON; empty if it is, and for other suffixes."""
    if path.suffix.lower() != ".json":
        return ""
    try:
        if path.stat().st_size > _LIMIT:
            return f"more than {_LIMIT} bytes of JSON"
        json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        return f"not whole JSON: {error}"
    return ""
