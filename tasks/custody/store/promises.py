"""Decide, by what a store was seen to do, how an object is created there and what then counts as its proof."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

ONE_REQUEST: Final = 5 << 30
"""Bytes that S3 takes, or copies, in one request, at most."""


def in_one_request(size: int) -> bool:
    """Whether so many bytes can be sent or copied in one request."""
    return size <= ONE_REQUEST


class Way(StrEnum):
    """How an object is created where nothing may be overwritten."""

    CONDITION = "by the store's own condition"
    SENT = "sent in one conditional request"
    LOOKED = "looked for before and after"


@dataclass(frozen=True)
class Promises:
    """What a store was seen to do, each False as well where it could not be tried; `untried` says why.

    It refuses content that differs from the SHA-256 beside it (`refuses`), tells that digest later (`tells`), honours
    the condition that nothing lies at the key when an object is put, copied, or completed from parts (`puts`, `copies`,
    `parts`), and keeps a lock (`locks`; True where none is asked). `rejects`: it was seen to answer some of these
    conditions with an error, whatever lies there. `refuses_parts`: it refuses a part of an upload that differs from the
    SHA-256 beside it.
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
        """Whether a digest that it tells is its own: one that is never compared is only what the sender said."""
        return self.refuses and self.tells

    def way(self, size: int, *, divided: bool = False, copied: bool = False) -> Way:
        """How an object of `size` bytes is created, of parts if `divided`, of another object if `copied`."""
        whole = self.copies if copied else self.puts
        if self.parts if divided and not (copied and in_one_request(size)) else whole:
            return Way.CONDITION
        return Way.SENT if self.puts and in_one_request(size) else Way.LOOKED

    def exclusive(self, size: int, *, divided: bool = False) -> bool:
        """Whether it is the store's own word that such an object overwrote nothing, however it came there."""
        ways = {self.way(size, divided=divided, copied=copied) for copied in (False, True)}
        return Way.LOOKED not in ways

    def conditional(self, way: Way) -> bool:
        """Whether the condition is sent: where it is not kept it does no harm, unless it is an error there."""
        return not (self.rejects and way is Way.LOOKED)

    @property
    def locks_as_told(self) -> bool:
        """Whether a lock that it tells of counts: not where it was seen not to keep one."""
        return self.locks or bool(self.untried)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done in another way here and why, a sentence each; none of a store that keeps all of them."""
        return tuple(self._notes())

    def _notes(self) -> Iterator[str]:
        if self.untried:
            yield f"what this store does could not be tried, so no digest or condition is relied on: {self.untried}"
        elif not self.digests:
            yield f"it {'tells no digest' if self.refuses else 'takes a wrong digest'}"
        if not self.digests:
            yield "every byte is read back instead of trusting its digests"
        elif not self.refuses_parts:
            yield "it was not seen to refuse a wrong digest of a part: what is sent in parts is read back"
        if self.untried and not self.locks:
            yield "a lock counts where it tells of one; that it keeps locks was not seen"
        if not self.puts:
            why = "" if self.untried else "it has no condition on new objects: "
            yield f"{why}each new object is looked for before and after, and others may come between"
        if self.puts and not self.copies:
            yield "it heeds no condition on copies: bytes are sent again instead of copied"
        if self.puts and not self.parts:
            yield (
                "it heeds no condition on parts: large files are sent whole; above "
                f"{ONE_REQUEST >> 30} GiB they are looked for before and after"
            )
        if not self.locks_as_told:
            yield "it does not keep a lock: what is stored can be deleted before its time"


KEPT: Final = Promises()
