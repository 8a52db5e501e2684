"""A vector: the objects of a store, whom the auditor trusts, and what an audit has to say of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from conformance.incidents import GPU1, ID, PERSON, PLACE, Objects

EXIT_CODES: Final = {"PROVEN": 0, "BROKEN": 11, "INDETERMINATE": 12, "UNFINISHED": 23}
ALLOWED: Final = f"# who may sign\n{GPU1.allowed_signers}\n{PERSON.allowed_signers}\n"


@dataclass(frozen=True)
class Vector:
    """One vector. `why` is a sentence; `at` is the key that the audit has to name, the worst finding's if it fails.

    `signers` is the auditor's allowed_signers file, None if there is none; `roots` are those of time-stamp authorities.
    `copy_of` is the place that the incident names, empty for a fleet.
    """

    title: str
    objects: Objects
    word: str = field(kw_only=True)
    why: str
    at: str = ""
    signers: str | None = ALLOWED
    roots: str = ""
    id: str = ID
    copy_of: str = PLACE

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.title if self.word == "PROVEN" else f"{self.title}_fail"

    @property
    def expected(self) -> Mapping[str, object]:
        """What expected.json says."""
        return {
            "id": self.id,
            "word": self.word,
            "exit_code": EXIT_CODES[self.word],
            **({"copy_of": self.copy_of} if self.copy_of else {}),
            "why": self.why,
            **({"object": self.at} if self.at else {}),
        }


proven, broken, indeterminate, unfinished = (partial(Vector, word=word) for word in EXIT_CODES)
