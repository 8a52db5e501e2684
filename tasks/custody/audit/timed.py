"""Check the time stamps of closings (RFC 3161): what an authority vouches for, beside the host's own clock."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Final, TypeAlias

from tasks.custody.audit.finding import AuditFinding, broken, note, printable, unclear
from tasks.custody.audit.layout import Covers, beside
from tasks.custody.audit.untrusted import Unreadable, document
from tasks.custody.errors import BadSignature
from tasks.custody.store.manifest import digest_bytes
from tasks.custody.store.timestamp import Roots, prove, stamped_at

if TYPE_CHECKING:
    from tasks.custody.audit.untrusted import Closing
    from tasks.custody.fleet.documents import FleetClosing

TimedClosing: TypeAlias = "Closing | FleetClosing"

_AHEAD_SECONDS: Final = 30
_LATE_SECONDS: Final = 600
_UNTIMED: Final = "no time vouched for, because"
_CLOCKS: Final = "That the clocks were right: every time comes from the host."
_CLOSED: Final = "That the clocks were right before a record was closed: only that time is vouched for."


@dataclass(frozen=True)
class TimeStamps:
    """What the time stamps of closings prove. `summary` is that of the last closing."""

    findings: tuple[AuditFinding, ...]
    summary: str
    unproven: str


def may_lie_beside(closings: Mapping[str, TimedClosing]) -> Iterator[str]:
    """Yield the keys of what may lie beside closings that name an authority."""
    for key, closing in closings.items():
        yield from beside(key) if closing.timestamp_url else ()


def time_stamps(closings: Mapping[str, TimedClosing], documents: Mapping[str, bytes], roots: Roots) -> TimeStamps:
    """Judge the time stamps of closings, which are given by key, in their order. Without `roots` none is proven.

    With them each closing needs one: a thief of the signing key would name no authority. A missing one
    is a note if a later closing's is proven: that vouches for the custody log, which goes on.
    """
    summaries, findings, proven = list[str](), list[AuditFinding](), list[str]()
    for key, closing in reversed([*closings.items()]):
        words, fault = _judge_time(key, closing, documents, roots)
        summaries.append(words)
        if fault is None:
            proven += [key] if closing.timestamp_url else []
        elif proven and beside(key)[0] not in documents:
            findings.append(note(key, f"{fault.what}; the time of {proven[-1]}, which is later, is proven"))
        else:
            findings.append(fault)
    summary = summaries[0] if summaries else f"{_UNTIMED} no record is closed"
    return TimeStamps(tuple(findings), summary, _CLOSED if summaries and len(proven) == len(summaries) else _CLOCKS)


def seen_at(stamp: bytes, data: bytes, roots: Roots) -> datetime | None:
    """Return when an authority that leads to a given root has seen this data; None if that is not proven."""
    try:
        at = stamped_at(stamp, data)
    except BadSignature:
        return None
    return None if _unproven(stamp, data, roots) else at


def seen_times(
    closings: Iterable[str], documents: Mapping[str, bytes], roots: Roots, covers: Covers
) -> dict[str, datetime]:
    """Return when authorities have first seen documents: closings, what they cover, and what that covers in its turn.

    `covers` are, by a closing's key, what it covers: how, key and digest.
    """
    digest, found = cache(lambda key: digest_bytes(documents[key])), dict[str, datetime]()
    stamps = ((seen_at(documents.get(beside(key)[0], b""), documents[key], roots), key) for key in closings)
    for at, key in sorted((at, key) for at, key in stamps if at):
        pending = [key]
        while pending:
            if (one := pending.pop()) not in found:
                found[one] = at
                pending += [name for _, name, sha in covers.get(one, ()) if name in documents and digest(name) == sha]
    return found


def _judge_time(
    key: str, closing: TimedClosing, documents: Mapping[str, bytes], roots: Roots
) -> tuple[str, AuditFinding | None]:
    """Return what is known of a closing's time, and a finding unless it is proven or no authority was to be asked."""
    url, (stamp, unstamped) = printable(closing.timestamp_url, 200), beside(key)
    if not url or stamp not in documents:
        why = _reason(documents.get(unstamped)) if url else "the closing names no time-stamp authority"
        words, wanted = f"{_UNTIMED} {why}", url or roots is not None
        return words, unclear(key, words, "a time stamp of it", "none") if wanted else None
    try:
        at = stamped_at(documents[stamp], documents[key])
    except BadSignature as error:
        words = f"{_UNTIMED} what lies beside the closing is no time stamp over it"
        return words, broken(stamp, "it is no time stamp over its closing", error.expected, printable(error.got))
    ours = closing.closed_utc if closing.closed_utc.tzinfo else closing.closed_utc.replace(tzinfo=UTC)
    late = (at - ours).total_seconds()
    when = f"{at:%Y-%m-%d %H:%M:%S} UTC"
    words = f"{when} by {url}, {round(late):+d} s from the host's own clock"
    if fault := _unproven(documents[stamp], documents[key], roots):
        return f"not proven: {words}", unclear(stamp, f"it states {when}, and does not prove it", *fault)
    if -_AHEAD_SECONDS <= late <= _LATE_SECONDS:
        return words, None
    what = f"its own time is wrong, or it was sent late: an authority saw it at {when}"
    return words, unclear(key, what, f"{_AHEAD_SECONDS} s before to {_LATE_SECONDS} s after", f"{round(late):+d} s")


def _unproven(stamp: bytes, closing: bytes, roots: Roots) -> tuple[str, str] | None:
    """Return what is expected and what is there instead; None if the time stamp is proven."""
    if roots is None:
        return "the roots of time-stamp authorities", "none were given"
    try:
        prove(stamp, closing, roots)
    except BadSignature as error:
        return "a signature that leads to a given root", printable(error.got)
    return None


def _reason(unstamped: bytes | None) -> str:
    """Return why the run says that there is no time stamp. Nobody signs that."""
    try:
        reason = document(unstamped).get("reason") if unstamped is not None else None
    except Unreadable:
        reason = None
    return printable(reason) if reason else "there is no time stamp: the run ended before it, or somebody removed it"
