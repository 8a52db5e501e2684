"""§8: read what people have written into the postmortem of an incident before."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from tasks.custody.evidence.keys import CLOSING, POSTMORTEM, VERDICT
from tasks.custody.incident.postmortem_fields import PostmortemFields
from tasks.incident.layout import RECORD

_FIELDS: Final = TypeAdapter(PostmortemFields)


def written_before(home: Path) -> PostmortemFields:
    """Return the fields of the incident's last finished postmortem; empty ones if there is none that can be read."""
    for page in sorted((home / RECORD / POSTMORTEM).glob("*.md"), reverse=True):
        record = home / RECORD / page.stem
        if (record / CLOSING).exists():
            with suppress(OSError, ValueError, KeyError, TypeError):
                return _FIELDS.validate_python(json.loads((record / VERDICT).read_bytes())[POSTMORTEM])
    return PostmortemFields()
