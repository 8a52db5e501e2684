"""Read the verdict that an incident's last record has closed with."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Final

from tasks.incident.layout import closings
from tasks.system.atomic_files import read_plain

THAWED: Final = "THAWED"
WORKS: Final = frozenset({"VERIFIED", "PARTIAL"})
"""Verdicts of an evacuation that has done its work, as far as it could."""
FINISHED: Final = WORKS | {THAWED}
"""Verdicts after which an incident need not be carried on."""
CONTAINED: Final = WORKS | {"UNVERIFIED"}
"""Verdicts that say that the workload was contained."""


def last_word(home: Path) -> str:
    """Return the verdict of an incident's last closed record; empty without one."""
    with suppress(IndexError, OSError, ValueError, KeyError, TypeError):
        return str(json.loads(read_plain(closings(home)[-1]))["verdict"])
    return ""
