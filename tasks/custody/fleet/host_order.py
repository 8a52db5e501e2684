"""Define the order that a fleet's run hands to each host: until when it stands, and when a person is asked first.

See docs/adr/0032.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, cast

FLEET: Final = "FL-"
"""How the id of a fleet's incident begins."""
OF_A_FLEET: Final = " for "
"""What comes between host and fleet in the name of a run."""
FLEET_PATTERN: Final = rf"{FLEET}[0-9]{{8}}T[0-9]{{6}}Z-[a-z0-9][a-z0-9-]{{0,199}}-[0-9a-f]{{4}}"
_FLEET: Final = re.compile(FLEET_PATTERN, re.ASCII)
_HOST: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,199}", re.ASCII)


@dataclass(frozen=True)
class Order:
    """One attempt to evacuate one host of a fleet.

    `host` is the name of its workload block. After `not_after` the host refuses it. From `ask_from` on the host freezes
    and looks, and then asks a person, who has `ask_seconds`; without an answer it does what `unanswered` says. `limit`
    names the concurrency limit that is taken before the offload; empty for none.
    """

    fleet: str
    host: str
    attempt: int
    not_after: datetime
    ask_from: datetime
    ask_seconds: float
    unanswered: Literal["stop", "thaw"]
    limit: str = ""

    @classmethod
    def of(cls, fields: Mapping[str, Any] | None) -> "Order | None":
        """Parse a run's parameter; None if there is none. Raises ValueError, KeyError or TypeError if it is invalid."""
        if not fields:
            return None
        fleet, host, unanswered = str(fields["fleet"]), str(fields["host"]), str(fields["unanswered"])
        if not _FLEET.fullmatch(fleet) or not _HOST.fullmatch(host) or unanswered not in {"stop", "thaw"}:
            raise ValueError(f"expected an order of a fleet; got {fleet[:80]!r}, {host[:80]!r}, {unanswered[:80]!r}")
        return cls(
            fleet=fleet,
            host=host,
            attempt=int(fields["attempt"]),
            not_after=_time(fields["not_after"]),
            ask_from=_time(fields["ask_from"]),
            ask_seconds=float(fields["ask_seconds"]),
            unanswered=cast("Literal['stop', 'thaw']", unanswered),
            limit=str(fields.get("limit", "")),
        )

    @property
    def parameters(self) -> dict[str, Any]:
        """The order as JSON values: the parameter of the host's run."""
        return {**asdict(self), "not_after": self.not_after.isoformat(), "ask_from": self.ask_from.isoformat()}

    @property
    def key(self) -> str:
        """The idempotency key of its run: the server makes one run of it, however often it is asked to."""
        return f"{self.fleet}:{self.host}:{self.attempt}"

    def is_expired(self, now: datetime) -> bool:
        """Return whether it stands no longer."""
        return now > self.not_after

    def asks(self, now: datetime) -> bool:
        """Return whether a person has to be asked before the host is stopped."""
        return now >= self.ask_from


def fleet_tag(fleet: str) -> str:
    """Return the tag of all runs that evacuate hosts for this incident of a fleet."""
    return f"fleet:{fleet}"


def run_name(host: str, fleet: str = "") -> str:
    """Return the name of a run that evacuates a host. One with a fleet's id notifies nobody: the fleet does."""
    return f"evacuate {host}{OF_A_FLEET if fleet else ''}{fleet}"


def new_fleet_id(created: datetime, name: str, run: str) -> str:
    """Return the id of a fleet's incident: when its run was asked for, the fleet, and how the run's id begins."""
    return parse_fleet_id(f"{FLEET}{created.astimezone(UTC):%Y%m%dT%H%M%SZ}-{name}-{run[:4]}")


def parse_fleet_id(text: str) -> str:
    """Return the id unchanged if it has the shape of one. Raises ValueError otherwise."""
    if not _FLEET.fullmatch(text):
        raise ValueError(f"expected an id of a fleet, FL-YYYYmmddTHHMMSSZ-NAME-xxxx; got {text[:80]!r}")
    return text


def _time(value: object) -> datetime:
    time = datetime.fromisoformat(str(value))
    if time.tzinfo is None:
        raise ValueError(f"expected a time with its zone; got {time}")
    return time.astimezone(UTC)
