"""Define the incident and its id: one evacuation of one workload, in one or several runs (runbook §0)."""

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from tasks.custody.errors import Refused

ID_SHAPE = "IR-YYYYmmddTHHMMSSZ, optionally followed by -host (a-z, 0-9, dot, dash; 63 letters at most)"
_HOST = r"(-[a-z0-9][a-z0-9.-]{0,62})?"
ID_PATTERN = r"^(IR-[0-9]{8}T[0-9]{6}Z" + _HOST + r")?$"
"""For forms: an incident id, or nothing."""
_ID = re.compile(r"IR-(?P<stamp>\d{8}T\d{6}Z)" + _HOST, re.ASCII)
_STAMP = "%Y%m%dT%H%M%SZ"
SKEW: Final = timedelta(minutes=5)
"""Allowed difference between two hosts' clocks: Kerberos' default (RFC 4120)."""
ISSUED: Final = timedelta(days=7)
"""How long before its incident an id may have been issued, as by a ticket."""


def parse_id(text: str) -> str:
    """Return the id unchanged if it has the runbook's shape and a valid time. Raises Refused otherwise."""
    match = _ID.fullmatch(text)
    with suppress(ValueError):
        if match and ".." not in text:
            datetime.strptime(match["stamp"], _STAMP).replace(tzinfo=UTC)
            return text
    cure = "Copy the whole id of the one that is meant; a new incident is given none, and gets its own."
    raise Refused(f"an incident id {ID_SHAPE}", repr(text[:80]), cure)


def known_id(value: object) -> str:
    """Return an id that was read from a file, a marker or the environment; empty if it is none.

    Such an id becomes the name of a folder: no other word that another account has written may.
    """
    with suppress(Refused):
        return parse_id(value) if isinstance(value, str) else ""
    return ""


def new_id(created: datetime, suffix: str = "") -> str:
    """Return the id for the creation time of the run that opens the incident, so that a retry gets the same id."""
    name = f"IR-{created.astimezone(UTC).strftime(_STAMP)}"
    return parse_id(f"{name}-{suffix}") if suffix else name


def is_ahead(incident: str, now: datetime) -> bool:
    """Return whether an id's time is in the future by more than SKEW. Ids sort by time."""
    return incident > new_id(now + SKEW)


def require_issued(incident: str, now: datetime, suffix: str = "", newest: str = "") -> None:
    """Raise Refused for an id that a new incident may not have, though its shape is right.

    `suffix` is the workload's, `newest` the workload's newest incident: later ones follow it, because ids sort by time.
    """
    if suffix and not incident.endswith(f"-{suffix}"):
        raise Refused(f"an id that ends in -{suffix}, as the workload block says", incident, f"Give …Z-{suffix}.")
    if is_ahead(incident, now) or incident < new_id(now - ISSUED):
        expected = f"an id that was issued in the {ISSUED.days} days before {now:%Y-%m-%d %H:%M:%S} UTC"
        raise Refused(expected, incident, "Leave incident_id and new_incident out: it gets its own.")
    if newest and incident <= newest:
        cure = "Leave new_incident out to carry that incident on, or incident_id as well for a new one."
        raise Refused(f"an id after {newest}, the newest incident of this workload", incident, cure)


def principal_of(host: str) -> str:
    """Return who signs the evidence of a host, as an allowed_signers file names it."""
    return f"evacuation@{host}"


@dataclass(frozen=True)
class Origin:
    """Whose evidence it is, and the bucket and prefix that it was made for: signed with each manifest and closing."""

    host: str = ""
    workload: str = ""
    place: str = ""


@dataclass(frozen=True)
class Incident:
    """What is evacuated, since when, and why. Written once, when the incident is opened."""

    id: str
    workload: str
    host: str
    boot: str
    opened_at: datetime
    detected_at: datetime
    reason: str
    opened_by: str

    def __post_init__(self) -> None:
        """Raise Refused for an id that is none, also where the incident was read from a file."""
        parse_id(self.id)

    def origin(self, place: str) -> Origin:
        """Return whose evidence it is, for this place of a store."""
        return Origin(self.host, self.workload, place)

    @property
    def snapshot(self) -> str:
        """Name of the incident's snapshot: the UTC time in its id, not the current time."""
        return self.id.removeprefix("IR-")
