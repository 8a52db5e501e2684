"""Parse the documents of a fleet's record from a bucket that may be forged."""

from dataclasses import dataclass
from datetime import datetime

from tasks.custody.audit.untrusted import PLAIN, Named, Sha256, Unreadable, document, validate
from tasks.custody.fleet.host_end import HostEnd
from tasks.custody.fleet.incident import FleetIncident


@dataclass(frozen=True)
class FleetClosing:
    """closing.json of a fleet's record: what one run vouches for. `targets` is the digest of the frozen list.

    `host` is the one that has written it.
    """

    fleet: str
    host: str
    record: int
    run: str
    verdict: HostEnd
    closed_utc: datetime
    targets: Sha256
    files: dict[str, Sha256]
    signer: Named | None = None
    timestamp_url: str = ""


@dataclass(frozen=True)
class ClosingOfHost:
    """The last closing of a host's incident, as the fleet's run has read it."""

    key: str
    sha256: Sha256
    verdict: str


@dataclass(frozen=True)
class HostLine:
    """A host of hosts.json. `beneath` is where its objects lie in the fleet's bucket or folder; None if elsewhere.

    `run` is that of its order, which wrote the closing unless it has `joined` another.
    """

    host: str
    end: HostEnd
    incident: str
    stands: bool
    beneath: str | None
    closing: ClosingOfHost | None
    manifests: dict[str, Sha256]
    run: str
    joined: bool


@dataclass(frozen=True)
class HostLines:
    """hosts.json: a line for each host of the frozen list."""

    fleet: str
    hosts: tuple[HostLine, ...]


def read_fleet_closing(data: bytes) -> FleetClosing:
    """Parse a fleet's closing.json. Raises Unreadable."""
    found = validate(FleetClosing, document(data))
    _require_plain(*found.files)
    return found


def read_hosts(data: bytes) -> HostLines:
    """Parse hosts.json. Raises Unreadable."""
    found = validate(HostLines, document(data))
    for line in found.hosts:
        closings = [line.closing.key] if line.closing else []
        _require_plain(*line.manifests, *closings, *filter(None, [line.beneath, line.incident]))
    return found


def read_targets(data: bytes) -> FleetIncident:
    """Parse targets.json. Raises Unreadable."""
    return validate(FleetIncident, document(data))


def _require_plain(*names: str) -> None:
    for name in names:
        if not PLAIN.fullmatch(name):
            raise Unreadable("names of stored files", repr(name[:80]))
