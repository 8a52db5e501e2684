"""Define what only people can write of an incident: the fields of the postmortem that no run can fill in."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Final

TEXT_LIMIT: Final = 10_000
"""Characters of a field."""


@dataclass(frozen=True)
class PostmortemFields:
    """Texts of people; a field is empty until somebody has written it."""

    title: str = ""
    effect: str = ""
    cause: str = ""
    measures: str = ""
    prevention: str = ""
    contact: str = ""

    def with_texts(self, texts: Mapping[str, str]) -> "PostmortemFields":
        """Return the fields with the given ones in place of what was written before."""
        return replace(self, **{name: text.strip() for name, text in texts.items()})

    @property
    def open(self) -> tuple[str, ...]:
        """Names of the fields that nobody has written."""
        return tuple(each.name for each in fields(self) if not getattr(self, each.name))
