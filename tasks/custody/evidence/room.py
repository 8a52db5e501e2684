"""Decide where the bytes of a file go when room is short."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Place(StrEnum):
    """The places in the order in which they are tried."""

    EVIDENCE = "evidence folder"
    FALLBACK = "fallback folder"
    IN_PLACE = "in place"


@dataclass(frozen=True)
class Free:
    """Bytes that may still be filled. `fallback` is None where there is no such folder.

    `copies` is False where the evidence folder is a last resort that only what we make ourselves may fill.
    """

    evidence: int
    fallback: int | None = None
    copies: bool = True

    @property
    def summary(self) -> str:
        """In a few words."""
        words = f"{self.evidence} bytes free in the evidence folder"
        return words if self.fallback is None else f"{words}, {self.fallback} in the fallback folder"


def places(need: int, free: Free) -> tuple[Place, ...]:
    """Where to try to put a file that needs so many bytes, best first; in place is the last, for it needs none."""
    fits = {
        Place.EVIDENCE: free.copies and need <= free.evidence,
        Place.FALLBACK: free.fallback is not None and need <= free.fallback,
        Place.IN_PLACE: True,
    }
    return tuple(place for place in Place if fits[place])


def room_told(needs: Iterable[int], free: Free) -> dict[str, object]:
    """The estimate before the first copy, for the custody log."""
    sizes = tuple(needs)
    return {"files": len(sizes), "needed": sum(sizes), "free": free.summary, "fits": sum(sizes) <= free.evidence}
