"""Decide the end of each host of a fleet. What is not known to be proven never counts as Verified."""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from tasks.custody.containment.receipt import KNOWN_STOPPED
from tasks.custody.fleet.attempt import Attempt
from tasks.custody.incident.ending import OF_WORD
from tasks.custody.incident.verdict import Word

HOST_SILENT_SECONDS: Final = 45.0
"""Age of a host's last sign of life after which it counts as silent: a worker gives one every 30 s."""
FROZEN_LABEL: Final = "evacuation.frozen"
CONTAINED_LABEL: Final = "evacuation.contained"
_ZONED: Final = re.compile(r"[1-8]\d{3}-.+(?:Z|[+-]\d\d:\d\d)", re.ASCII)
_REFUSED: Final = re.compile(r"\bRefused: |^Refused\b|[Vv]alidation")


class HostEnd(StrEnum):
    """The ends of a host, the worst first: the worst is the fleet's."""

    NOT_CONTAINED = "NotContained"
    SILENT = "Silent"
    EXPIRED = "Expired"
    CRASHED = "Crashed"
    CANCELLED = "Cancelled"
    REFUSED = "Refused"
    UNVERIFIED = "Unverified"
    UNANSWERED = "Unanswered"
    NOT_RECOVERED = "NotRecovered"
    PARTIAL = "Partial"
    THAWED = "Thawed"
    VERIFIED = "Verified"


CONTAINED: Final = frozenset({HostEnd.VERIFIED, HostEnd.PARTIAL, HostEnd.NOT_RECOVERED})
"""Ends that say that the host is contained, or was until its recovery. Unverified does if its run has said it."""
_OF_STATE: Final = {
    "COMPLETED": {"Verified": HostEnd.VERIFIED, "Thawed": HostEnd.THAWED},
    "FAILED": {
        "Partial": HostEnd.PARTIAL,
        "Unverified": HostEnd.UNVERIFIED,
        "Unanswered": HostEnd.UNANSWERED,
        "NotContained": HostEnd.NOT_CONTAINED,
        "NotRecovered": HostEnd.NOT_RECOVERED,
        "PartlyRecovered": HostEnd.NOT_RECOVERED,
        "PartlyThawed": HostEnd.THAWED,
        "Expired": HostEnd.EXPIRED,
    },
    "CANCELLED": {"Expired": HostEnd.EXPIRED},
}
_OTHERWISE: Final = {
    "COMPLETED": HostEnd.UNVERIFIED,
    "FAILED": HostEnd.CRASHED,
    "CRASHED": HostEnd.CRASHED,
    "CANCELLED": HostEnd.CANCELLED,
}


@dataclass(frozen=True)
class Closed:
    """A closing of a host's incident, as its store has it: digests by key, the word that it says, and its run."""

    word: str
    key: str
    sha256: str
    closed: datetime
    run: str
    manifests: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Row:
    """What is known of one host: one line of the fleet's table. `end` is None while it is open."""

    host: str
    attempt: int = 0
    run: str = ""
    end: HostEnd | None = None
    doing: str = ""
    message: str = ""
    incident: str = ""
    ordered: datetime | None = None
    began: datetime | None = None
    frozen: str = ""
    contained: str = ""
    ended: datetime | None = None
    seen: datetime | None = None
    not_after: datetime | None = None
    waits: bool = False
    """True until a worker has taken its order."""
    asks: bool = False
    """True while its run waits for a person."""
    failed: str = ""
    """The name of the state in which its run has failed."""
    joined: bool = False
    """True if its run has left the work to another run of the host."""
    stands: bool = False
    """True while a silent host may still come back."""
    closing: Closed | None = None

    @property
    def is_contained(self) -> bool:
        """True if it is proven contained: by its end, else by the labels of its run.

        What its run says of processes that nobody knows outranks both: Unverified outranks Unanswered.
        """
        if self.end is HostEnd.UNANSWERED or KNOWN_STOPPED in self.message:
            return False
        if self.end in CONTAINED or (self.end is HostEnd.UNVERIFIED and self.failed == HostEnd.UNVERIFIED):
            return True
        return self.contained_at is not None and self.end not in {HostEnd.NOT_CONTAINED, HostEnd.THAWED}

    @property
    def is_uncontained(self) -> bool:
        """True if it ended without proof of containment and nobody cancelled or thawed it.

        False for a silent host, which is reported by itself.
        """
        return self.end not in {None, HostEnd.SILENT, HostEnd.CANCELLED, HostEnd.THAWED} and not self.is_contained

    @property
    def contained_at(self) -> datetime | None:
        """When it was contained, by its label; None without one, or with one that is no time with a zone."""
        return _moment(self.contained)

    @property
    def frozen_at(self) -> datetime | None:
        """When its run had it frozen, likewise."""
        return _moment(self.frozen)

    @property
    def label(self) -> str:
        """Its end, or what it is doing: hosts with the same words are shown in one line."""
        if self.end is HostEnd.SILENT:
            return f"{self.end}, last seen {self.seen:%H:%M} UTC" if self.seen else f"{self.end}, never seen"
        return self.end or self.doing


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if _ZONED.fullmatch(text) else None
    except (ValueError, OverflowError):
        return None


def is_silent(seen: datetime | None, now: datetime) -> bool:
    """Return whether a host's last sign of life is too old."""
    return seen is None or now - seen > timedelta(seconds=HOST_SILENT_SECONDS)


def row_of(host: str, problem: str, attempt: Attempt | None, seen: datetime | None, now: datetime) -> Row:
    """Return the line of a host, by its latest attempt and its last sign of life."""
    if attempt is None:
        end = HostEnd.REFUSED if problem else HostEnd.SILENT if is_silent(seen, now) else None
        return Row(host, end=end, message=problem, seen=seen, doing="not ordered yet", stands=end is HostEnd.SILENT)
    row = Row(
        host,
        attempt.number,
        attempt.run,
        message=attempt.message,
        incident=attempt.incident,
        ordered=attempt.ordered,
        began=attempt.began,
        frozen=attempt.frozen,
        contained=attempt.contained,
        ended=attempt.ended,
        seen=seen,
        not_after=attempt.not_after,
        doing=_doing(attempt),
        waits=attempt.waits,
        asks=attempt.kind == "PAUSED",
        failed=attempt.state if attempt.kind == "FAILED" else "",
        joined=attempt.is_joined,
    )
    if attempt.final and not attempt.is_joined:
        return replace(row, end=_end(attempt))
    if is_silent(seen, now):
        return replace(row, end=HostEnd.SILENT, stands=attempt.waits or now <= attempt.not_after)
    return row


def not_ordered(row: Row, attempt: int, why: str, *, given_up: bool) -> Row:
    """Return the line of a host whose next attempt the server does not take: open, and once that is given up, said."""
    if not row.attempt or row.attempt >= attempt:
        return row
    if given_up:
        return replace(row, message=f"attempt {attempt}: {why}; {row.message}")
    return replace(row, end=None, doing="not ordered again yet")


def _end(attempt: Attempt) -> HostEnd:
    refused = attempt.kind == "FAILED" and attempt.state == "Failed" and _REFUSED.search(attempt.message)
    if refused and not attempt.frozen:
        return HostEnd.REFUSED
    return _OF_STATE.get(attempt.kind, {}).get(attempt.state, _OTHERWISE[attempt.kind])


def _doing(attempt: Attempt) -> str:
    if attempt.is_joined:
        return "joined an evacuation that is at work"
    if attempt.kind == "PAUSED":
        return "frozen, asks a person"
    if attempt.waits or attempt.kind == "PENDING":
        return "ordered"
    if attempt.contained:
        return "contained, saves the evidence"
    return "frozen" if attempt.frozen else "begun"


def closed_row(row: Row, closing: Closed | None, now: datetime, why: str = "") -> Row:
    """Return the line with what the host's store says. Verified without its run's closing that says so is Unverified.

    A run that has joined another one ends as the first closing after its order says; Unverified if none comes in time,
    or if it names no incident. A closing of another run, or from before the order, proves nothing.
    """
    if row.joined:
        if closing and row.ordered and closing.closed > row.ordered:
            return replace(row, end=_of(closing), stands=False, closing=closing)
        if not row.incident or row.not_after is None or now > row.not_after:
            row = replace(row, end=HostEnd.UNVERIFIED, message=f"no closing came of what it joined; {row.message}")
        return row
    own = closing if closing and closing.run == row.run else None
    row = replace(row, closing=own)
    if row.end and closing and closing.word == Word.NOT_CONTAINED and row.ordered and closing.closed > row.ordered:
        reason = f"at {closing.closed} the closing of run {closing.run} says {closing.word}"
        return replace(row, end=HostEnd.NOT_CONTAINED, message=f"{reason}; {row.message}")
    if row.end is not HostEnd.VERIFIED or (own and _of(own) is HostEnd.VERIFIED):
        return row
    if closing and not own:
        why = f"its last closing is of run {closing.run} at {closing.closed}, the order of {row.run} at {row.ordered}"
    reason = f"its closing says {own.word}" if own else why or "its store has no closing of it"
    return replace(row, end=HostEnd.UNVERIFIED, message=f"{reason}; {row.message}")


def _of(closing: Closed) -> HostEnd:
    return HostEnd(OF_WORD[Word(closing.word)].name) if closing.word in {*Word} else HostEnd.UNVERIFIED


def expires(row: Row, now: datetime) -> bool:
    """Return whether nobody has taken the order in time, so that it is to be cancelled."""
    return row.waits and row.not_after is not None and now > row.not_after
