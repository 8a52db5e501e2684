"""Decide where a file's content is kept when disk space is short.

See docs/adr/0012.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class ContentPlace(StrEnum):
    """Places for content, in the order in which they are tried."""

    EVIDENCE = "evidence folder"
    FALLBACK = "fallback folder"
    IN_PLACE = "in place"


@dataclass(frozen=True)
class Free:
    """Bytes that may still be used. `fallback` is None without a fallback folder.

    `copies` is False if the evidence folder is reserved for files that we generate.
    """

    evidence: int
    fallback: int | None = None
    copies: bool = True

    @property
    def summary(self) -> str:
        """Free bytes of each folder."""
        words = f"{self.evidence} bytes free in the evidence folder"
        return words if self.fallback is None else f"{words}, {self.fallback} in the fallback folder"


def places(need: int, free: Free) -> tuple[ContentPlace, ...]:
    """Return where to try to put a file of `need` bytes, best first. IN_PLACE, which needs no room, is last."""
    fits = {
        ContentPlace.EVIDENCE: free.copies and need <= free.evidence,
        ContentPlace.FALLBACK: free.fallback is not None and need <= free.fallback,
        ContentPlace.IN_PLACE: True,
    }
    return tuple(place for place in ContentPlace if fits[place])


def room_fields(needs: Iterable[int], free: Free) -> dict[str, object]:
    """Return the estimate before the first copy, for the custody log."""
    sizes = tuple(needs)
    return {"files": len(sizes), "needed": sum(sizes), "free": free.summary, "fits": sum(sizes) <= free.evidence}
