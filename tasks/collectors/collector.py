"""Define a collector as data: name, question, order, limits, and its sources (Command, Files, Made, Gathered)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tasks.custody.evidence.acquisition import Loss, Outcome, StoredFile

FOREVER: Final = 10**9
MIB: Final = 1 << 20
GIB: Final = 1 << 30
TIB: Final = 1 << 40


@dataclass(frozen=True)
class Target:
    """What a collector is told of the workload. Plain data: it crosses a process boundary as JSON.

    `seconds` is all the time that this attempt has, and `limit` the bytes that it may still store; a source of many
    parts leaves off before, and keeps what it has.
    `containers` are the ids and names of those that were paused, `asked` how the block recognises them, and `elsewhere`
    the fields of which files were found in them. `units` are the systemd services that the block names.
    `fallback` is a folder on another disk for what does not fit, `reserve` the file that keeps room for what must be
    stored, `margin` the bytes that copies leave free; without `copies` only what we make ourselves is stored.
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
    asked: tuple[str, ...] = ()
    docker_host: str = ""
    elsewhere: tuple[str, ...] = ()
    sensitive: str = "scan"
    fallback: str = ""
    reserve: str = ""
    margin: int = 0
    copies: bool = True
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """The output of a program, in the file `stored`; `last` keeps its last lines only.

    Runs without a shell. Of more than may be stored its `keep` part is kept. As root, `as_owner` runs it with the
    rights of the workload's owner, never with ours. `environment` are variables besides PATH, HOME and LC_ALL.
    """

    argv: tuple[str, ...]
    stored: str
    last: int = FOREVER
    keep: Literal["first", "last"] = "first"
    as_owner: bool = False
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Files:
    """The workload's files that match `patterns`, byte for byte; without any, those of this field of the block."""

    field: str
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Made:
    """A file that a function of ours makes from what it reads; it redacts what it makes."""

    make: Callable[[Target], bytes]
    stored: str


@dataclass(frozen=True)
class Gathered:
    """As many files as a function of ours finds; each file or loss is told as soon as it is known."""

    gather: Callable[[Target, Path], Iterator[StoredFile | Loss]]
    stored: str


Source = Command | Files | Made | Gathered


@dataclass(frozen=True)
class Collector:
    """One source of evidence.

    `order` is its place in the order of volatility (RFC 3227 §2.1), small first. `while_frozen` collectors run before
    anything is stopped. `deadline` is in seconds and ends the collector's whole process group; so do `stalled` seconds
    in which it neither reads nor writes a byte. `limit` is the most that it may store, in bytes. A `needed` one makes
    the verdict PARTIAL when it is lost, unless the workload block says which ones do. An `unhurried` one has
    all of its time although everything stands still meanwhile: what it takes would vanish with what is stopped. Those
    `of_containers` are needed where the workload block names containers, and have nothing to do elsewhere;
    nor have those `of_units` where it names no systemd services.
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
    unhurried: bool = False
    of_containers: bool = False
    of_units: bool = False


class NothingThere(Exception):
    """Raised by a `Made` source: what it should tell about does not exist here."""


class Incomplete(Exception):
    """Raised by a `Made` source that got a part: the part is kept, the rest is a loss with this outcome and reason."""

    def __init__(self, data: bytes, outcome: Outcome, reason: str) -> None:
        """Keep all three."""
        super().__init__(reason)
        self.data, self.outcome = data, outcome


class Unanswered(Exception):
    """Raised by a source that got nothing of what is there: a loss with this outcome and reason."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        """Keep the outcome."""
        super().__init__(reason)
        self.outcome = outcome
