"""Decide where a file's content is kept when disk space is short."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Place(StrEnum):
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


def places(need: int, free: Free) -> tuple[Place, ...]:
    """Return where to try to put a file of `need` bytes, best first. IN_PLACE, which needs no room, is last."""
    fits = {
        Place.EVIDENCE: free.copies and need <= free.evidence,
        Place.FALLBACK: free.fallback is not None and need <= free.fallback,
        Place.IN_PLACE: True,
    }
    return tuple(place for place in Place if fits[place])


def room_told(needs: Iterable[int], free: Free) -> dict[str, object]:
    """Return the estimate before the first copy, for the custody log."""
    sizes = tuple(needs)
    return {"files": len(sizes), "needed": sum(sizes), "free": free.summary, "fits": sum(sizes) <= free.evidence}
