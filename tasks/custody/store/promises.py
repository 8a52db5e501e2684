"""Decide from a store's tested guarantees how an object is created there and what proves it.

See docs/adr/0028.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

ONE_REQUEST: Final = 5 << 30
"""Maximum bytes that S3 takes, or copies, in one request."""


def in_one_request(size: int) -> bool:
    """Return whether so many bytes can be sent or copied in one request."""
    return size <= ONE_REQUEST


class CreationWay(StrEnum):
    """How an object is created if nothing may be overwritten."""

    CONDITION = "by the store's own condition"
    SENT = "sent in one conditional request"
    LOOKED = "looked for before and after"


@dataclass(frozen=True)
class Promises:
    """The guarantees that a store was seen to keep. All are False if they could not be tested; `untried` says why.

    `refuses`: refuses content that differs from the SHA-256 sent with it. `tells`: reports that digest later. `puts`,
    `copies`, `parts`: an object put, copied or completed from parts never overwrites, if the request has that
    condition. `locks`: keeps a lock; True if none is asked. `rejects`: answers some of these conditions with an error
    even if no object exists. `refuses_parts`: refuses a part that differs from the SHA-256 sent with it.
    """

    refuses: bool = True
    tells: bool = True
    puts: bool = True
    copies: bool = True
    parts: bool = True
    locks: bool = True
    untried: str = ""
    rejects: bool = False
    refuses_parts: bool = True

    @property
    def digests(self) -> bool:
        """Whether the store computes the digests that it reports; one never compared is only the sender's claim."""
        return self.refuses and self.tells

    def way(self, size: int, *, divided: bool = False, copied: bool = False) -> CreationWay:
        """Return how to create an object of `size` bytes, in parts if `divided`, from another object if `copied`."""
        whole = self.copies if copied else self.puts
        if self.parts if divided and not (copied and in_one_request(size)) else whole:
            return CreationWay.CONDITION
        return CreationWay.SENT if self.puts and in_one_request(size) else CreationWay.LOOKED

    def exclusive(self, size: int, *, divided: bool = False) -> bool:
        """Return whether the store guarantees that such an object overwrote nothing, sent or copied."""
        ways = {self.way(size, divided=divided, copied=copied) for copied in (False, True)}
        return CreationWay.LOOKED not in ways

    def conditional(self, way: CreationWay) -> bool:
        """Return whether to send the condition. It does no harm if ignored, but some stores answer with an error."""
        return not (self.rejects and way is CreationWay.LOOKED)

    @property
    def trusts_locks(self) -> bool:
        """Whether a reported lock counts: not if the store was seen to ignore locks."""
        return self.locks or bool(self.untried)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done differently at this store and why, a sentence each; empty if it keeps all guarantees."""
        return tuple(self._notes())

    def _notes(self) -> Iterator[str]:
        if self.untried:
            yield f"what this store does could not be tried, so no digest or condition is relied on: {self.untried}"
        elif not self.digests:
            yield f"it {'reports no digest' if self.refuses else 'accepts a wrong digest'}"
        if not self.digests:
            yield "every byte is read back instead of trusting its digests"
        elif not self.refuses_parts:
            yield "it did not refuse a wrong digest of a part: what is sent in parts is read back"
        if self.untried and not self.locks:
            yield "locks that it reports count, although it could not be tested that it keeps them"
        if not self.puts:
            why = "" if self.untried else "it has no condition on new objects: "
            yield f"{why}each new object is looked for before and after; another writer may come between"
        if self.puts and not self.copies:
            yield "it does not keep the condition on copies: bytes are sent again instead of copied"
        if self.puts and not self.parts:
            above = f"above {ONE_REQUEST >> 30} GiB they are looked for before and after"
            yield f"it ignores the condition on uploads in parts: large files are sent whole; {above}"
        if not self.trusts_locks:
            yield "it does not keep a lock: what is stored can be deleted before its time"


KEPT: Final = Promises()
