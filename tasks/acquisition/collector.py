"""Define a collector as data: name, question, order, limits, and its sources (Command, Files, Made, Gathered)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from tasks.custody.evidence.acquisition import Loss, Outcome, StoredFile
from tasks.custody.evidence.redact import redact
from tasks.custody.evidence.secrets_in_files import LIMIT, Search

FOREVER: Final = 10**9
MIB: Final = 1 << 20
GIB: Final = 1 << 30
TIB: Final = 1 << 40
_SHOW_DIGESTS: Final = partial(redact, digests=True)


@dataclass(frozen=True)
class Taken:
    """A file of the workload, and what the search for secrets found in the bytes that were hashed."""

    file: StoredFile
    search: Search


Item: TypeAlias = StoredFile | Taken | Loss


@dataclass(frozen=True)
class Target:
    """What a collector knows of the workload. Plain data: it crosses a process boundary as JSON.

    `seconds` is the time that this attempt has, and `limit` the bytes that it may still store; a source of many parts
    stops before, and keeps what it has. `containers` are ids and names of the paused ones, `container_selectors` the
    block's names for them, and `elsewhere` the fields of which files were found in them. `units` are the systemd
    services that the block names. `fallback` is a folder on another disk for what does not fit, `reserve` the file that
    keeps room for what must be stored, `margin` the bytes that copies leave free; without `copies` only what we make
    ourselves is stored. `apart` are real paths of what is ours; a file that no pattern names may have `largest` bytes,
    or any. `salt` is the file with the salt of hidden values, and `patterns` are the block's, whose words are
    shown, as are those of the incident's `reason`. `required_folders` are folders that have to be there, and
    `other_lists` the files that list what was left in each container and out of the root. `ended` are ids and names of
    containers that stay after their stop, in which they ran, and since when in seconds of the epoch; `copies_inside`
    tell of what was copied of paused ones where to, with size and time of writing; `last_writes` are fields of
    LastWrite.
    """

    incident: str
    root: str
    interpreter: str
    owner: int
    globs: dict[str, list[str]]
    frozen: list[tuple[int, int]]
    seconds: float = 20.0
    limit: int = TIB
    containers: tuple[tuple[str, str], ...] = ()
    container_selectors: tuple[str, ...] = ()
    docker_host: str = ""
    elsewhere: tuple[str, ...] = ()
    sensitive: str = "scan"
    fallback: str = ""
    reserve: str = ""
    margin: int = 0
    copies: bool = True
    units: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    largest: int | None = None
    salt: str = ""
    patterns: tuple[str, ...] = ()
    reason: str = ""
    required_folders: tuple[str, ...] = ()
    other_lists: tuple[str, ...] = ()
    ended: tuple[tuple[str, str, float], ...] = ()
    copies_inside: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    last_writes: tuple[dict[str, Any], ...] = ()

    @property
    def search_limit(self) -> int | None:
        """How many bytes of a file are searched for secrets; None for all, if files with secrets are withheld."""
        return None if self.sensitive == "withhold" else LIMIT

    def goes_along(self, size: int) -> bool:
        """Return whether a file of so many bytes goes along though no pattern names it."""
        return self.largest is None or size <= self.largest


@dataclass(frozen=True)
class ProgramOutput:
    """Store the output of a program in the file `stored`, without a shell; `last` keeps only its last lines.

    Of output above the limit the `keep` part is kept. As root, `as_owner` runs it with the rights of the workload's
    owner. `environment` are variables besides PATH, HOME and LC_ALL. Output with `max_lines` lines, the most that the
    program is asked for, counts as truncated; `omission` says what it is not asked for at all, which is a loss too.
    `redact` returns the output as it is stored; of a tool that prints no secret hexadecimal numbers are shown.
    """

    argv: tuple[str, ...]
    stored: str
    last: int = FOREVER
    keep: Literal["first", "last"] = "first"
    as_owner: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    max_lines: int = FOREVER
    omission: str = ""
    redact: Callable[[str], str] = _SHOW_DIGESTS


@dataclass(frozen=True)
class Files:
    """Store the workload's files that match `patterns`, byte for byte; without patterns, those of this block field.

    Without those of the block fields `beside`, which others take; of more than `max_files` files the rest is a loss.
    """

    field: str
    patterns: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    max_files: int = FOREVER


@dataclass(frozen=True)
class FunctionOutput:
    """Store what `make` returns in the file `stored`; `make` redacts it."""

    make: Callable[[Target], bytes]
    stored: str


@dataclass(frozen=True)
class FunctionItems:
    """Store as many files as `gather` finds; it yields each file or loss as soon as it is known."""

    gather: Callable[[Target, Path], Iterator[Item]]
    stored: str


Source = ProgramOutput | Files | FunctionOutput | FunctionItems


@dataclass(frozen=True)
class Collector:
    """One source of evidence.

    `order` is its place in the order of volatility (RFC 3227 §2.1), small first. `while_frozen` collectors run before
    the stop. `deadline` and `stalled` are in seconds: its process group is ended at the deadline, or after `stalled`
    seconds without a byte read or written. `limit` is the most bytes that it may store. The loss of a `needed` one
    makes the verdict PARTIAL, unless the workload block names the needed ones. An `unhurried` one keeps its own
    deadline while the workload is frozen, because what it takes would vanish with the stop. Collectors `of_containers`
    are needed if the workload block names containers, and do nothing otherwise; those `of_units` do nothing without
    systemd services. Those `of_interpreter` look at the interpreter that the block names, or at its environment.
    `early` ones run beside the look; the stop does not wait for them, as what they read outlives it.
    """

    name: str
    answers: str
    order: int
    sources: tuple[Source, ...]
    deadline: float = 20.0
    stalled: float = 20.0
    limit: int = 16 * MIB
    needed: bool = False
    while_frozen: bool = False
    early: bool = False
    unhurried: bool = False
    of_containers: bool = False
    of_units: bool = False
    of_interpreter: bool = False


class NothingThere(Exception):
    """Raised by a `FunctionOutput` source if what it collects does not exist on this host."""


class Incomplete(Exception):
    """Raised by a `FunctionOutput` that got a part, which is kept; the rest is a loss with this outcome and reason."""

    def __init__(self, data: bytes, outcome: Outcome, reason: str) -> None:
        """Take the part, and outcome and reason of the rest."""
        super().__init__(reason)
        self.data, self.outcome = data, outcome


class Unanswered(Exception):
    """Raised by a source that got nothing of what exists: a loss with this outcome and reason."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        """Take outcome and reason."""
        super().__init__(reason)
        self.outcome = outcome
