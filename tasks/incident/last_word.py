"""Read the verdict that an incident's last record has closed with."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Final

from tasks.incident.layout import ENDED, RECOVERED, closings
from tasks.system.files.atomic_files import read_plain, read_private, rows_of

THAWED: Final = "THAWED"
WORKS: Final = frozenset({"VERIFIED", "PARTIAL"})
"""Verdicts of an evacuation that has done its work, as far as it could."""
FINISHED: Final = WORKS | {THAWED}
"""Verdicts after which an incident need not be carried on."""
NOT_CONTAINED: Final = "NOTCONTAINED"
UNANSWERED: Final = "UNANSWERED"
CONTAINED: Final = WORKS | {"UNVERIFIED"}
"""Verdicts that say that the workload was contained."""


def last_word(home: Path) -> str:
    """Return the verdict of an incident's last closed record; empty without one."""
    with suppress(IndexError, OSError, ValueError, KeyError, TypeError):
        return str(json.loads(read_plain(closings(home)[-1]))["verdict"])
    return ""


def is_finished(home: Path) -> bool:
    """Return whether an incident need not be carried on: by its last verdict, if the store has got that record.

    A run that was killed between its closing and its end leaves that unknown. After a recovery a later emergency is
    another incident.
    """
    word = last_word(home)
    return word == THAWED or (word in WORKS and (_is_sent(home) or bool(rows_of(home / RECOVERED, read_private))))


def _is_sent(home: Path) -> bool:
    """Return whether the run of the last record is known to have ended with it in the store."""
    with suppress(IndexError, OSError, ValueError, KeyError, TypeError):
        ended = json.loads(read_plain(home / ENDED))
        last = int(ended["record"]) == int(closings(home)[-1].parent.name)
        return last and not str(ended["end"]).startswith(("Unverified", "cancelled"))
    return False
