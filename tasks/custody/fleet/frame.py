"""Define a frame: one signed event by which a fleet's run freezes, or gives back, all its hosts at once.

See docs/adr/0049.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from tasks.custody.errors import BadSignature
from tasks.custody.fleet.host_order import parse_fleet_id
from tasks.custody.store.manifest import canonical

if TYPE_CHECKING:
    from tasks.custody.audit.signers import AllowedSigner

NAMESPACE: Final = "evacuation-fleet"
"""The purpose of the signature: one of evidence is no order, and the reverse."""
EVENT: Final = "evacuation.fleet.frame"
"""A fleet's run freezes, or gives back, all its hosts: payload `frame`, canonical JSON, and its `signature`."""
EVENT_ANSWER: Final = "evacuation.fleet.answer"
"""A host says what it did for a frame: payload `host`, `done`, `processes`, `why`."""
RESOURCE: Final = "evacuation.fleet"
"""The resource of every frame. An answer's is this, a dot, and the fleet's id."""
HOSTS: Final = 20
"""Hosts in one frame at most: a larger fleet has several, and the server delivers to a host its own alone."""
STANDS: Final = timedelta(seconds=60)
"""How long a frame stands. The event stream delivers events of the last minute to a host that had lost it."""
EARLY: Final = timedelta(seconds=5)
"""How long before it is made it stands: the clock of a server's answers tells whole seconds."""
_LIMIT: Final = 1 << 18
_SIGNATURE_LIMIT: Final = 1 << 12
_SHOWN: Final = 200


def resource_of(pool: str, queue: str = "") -> str:
    """Return the resource that a frame has for the workers of a pool, or for those of one of its queues."""
    return f"{RESOURCE}/{pool}/{queue}"


@dataclass(frozen=True)
class Frame:
    """What is to be done at once, for which run of which fleet's incident, on which hosts.

    `targets` is the digest of the frozen list. Each of `hosts` has pool, queue, and the fields of its workload. No
    frame with the same `nonce` is obeyed again.
    """

    act: Literal["freeze", "thaw"]
    fleet: str
    run: str
    targets: str
    not_before: datetime
    not_after: datetime
    nonce: str
    hosts: Mapping[str, Mapping[str, Any]]

    @property
    def text(self) -> str:
        """The frame as canonical JSON, which is what is signed."""
        times = {"not_before": self.not_before.isoformat(), "not_after": self.not_after.isoformat()}
        return canonical({**asdict(self), **times}).decode()

    def stands(self, now: datetime) -> bool:
        """Return whether it is to be obeyed at this time."""
        return self.not_before <= now <= self.not_after <= self.not_before + EARLY + STANDS

    @classmethod
    def of(cls, text: str) -> "Frame":
        """Parse `text`. Raises ValueError for anything that is no frame."""
        try:
            fields: dict[str, Any] = json.loads(text)
            times = {name: datetime.fromisoformat(fields[name]) for name in ("not_before", "not_after")}
            frame = cls(**{**fields, **times})
            parse_fleet_id(frame.fleet)
            known = frame.act in {"freeze", "thaw"} and re.fullmatch(r"[0-9a-f]{32}", frame.nonce, re.ASCII)
            typed = all(isinstance(fields[name], str) for name in ("run", "targets"))
            hosts = all(isinstance(each, dict) for each in (fields["hosts"], *fields["hosts"].values()))
            if known and typed and hosts and all(time.utcoffset() is not None for time in times.values()):
                return frame
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError("it is no frame") from error
        raise ValueError("it is no frame")


def why_ignored(payload: object, openings: Sequence[str]) -> str:
    """Return why an event is not looked at, at a cost of microseconds; empty if its signature is to be verified.

    `openings` is how the signatures of the allowed keys begin.
    """
    text, signature = (payload.get("frame"), payload.get("signature")) if isinstance(payload, Mapping) else (None, None)
    if not isinstance(text, str) or not isinstance(signature, str):
        return "it has no text and signature"
    if len(text) > _LIMIT or len(signature) > _SIGNATURE_LIMIT:
        return "it is too large"
    return "" if signature.startswith(tuple(openings)) else "it is signed by a key that fleet_signers does not name"


def verify_frame(text: str, signature: str, signers: Sequence["AllowedSigner"]) -> Frame:
    """Return the frame that an allowed signer has signed; nothing is parsed before. Raises ValueError."""
    from tasks.custody.store.signature import signer  # a worker without fleet_signers does not load it

    try:
        key = signer(signature.encode(), text.encode(), NAMESPACE)
    except (BadSignature, UnicodeError) as error:
        raise ValueError("its signature is not one of it") from error
    frame = Frame.of(text)
    named = (each for each in signers if each.key == key and each.may_sign(frame.not_after, NAMESPACE))
    if any(each.stands_for(f"fleet@{frame.fleet[20:-5]}") for each in named):
        return frame
    raise ValueError("it is signed by a key that fleet_signers does not name for this fleet")


@dataclass(frozen=True)
class FrameAnswer:
    """What a host has answered: it froze or thawed so many processes, or refused, and why. Any client can forge one.

    `at` is by the host's clock, or when the server heard it, if that was earlier.
    """

    host: str
    done: Literal["frozen", "thawed", "refused"]
    processes: int
    why: str = ""
    at: datetime | None = None

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> "FrameAnswer":
        """Parse an event. Raises ValueError, KeyError or TypeError for another one."""
        payload = event["payload"]
        at = min(datetime.fromisoformat(event[name]).astimezone(UTC) for name in ("occurred", "received"))
        return cls(str(payload["host"]), payload["done"], int(payload["processes"]), str(payload["why"])[:_SHOWN], at)
