"""Snapshots of incidents, and wishes for latest/ made of them."""

import hashlib
from datetime import UTC, datetime
from typing import Any

from blocks.port import Store
from tasks.custody.store.latest import ObjectRef, Promotion
from tasks.latest.transaction import ChangeRequest, change_latest

FIRST, SECOND, THIRD = "IR-20260102T030405Z", "IR-20260102T040405Z", "IR-20260102T050405Z"
NOW = datetime(2026, 1, 2, 6, tzinfo=UTC)
MODEL, SCORES, LOG = "latest/models/model_a.joblib", "latest/artifacts/summary_a.json", "latest/logs/train.log"


def sha(content: str) -> str:
    """Digest of a text."""
    return hashlib.sha256(content.encode()).hexdigest()


def put(store: Store, key: str, content: str) -> ObjectRef:
    """Create an object."""
    store.create(key, content.encode(), sha(content))
    return ObjectRef(sha(content), len(content), key)


def overwrite(store: Store, key: str, content: str) -> None:
    """As a person with the aws CLI does it, who asks nobody."""
    held = put(store, f"hand/{sha(key + content)}", content)
    store.copy(held.key, key, held.sha256, replace=True)


def snapshot(store: Store, incident: str, **files: str) -> ChangeRequest:
    """The snapshot of an incident that holds these contents under model, scores or log; and the wish for them."""
    keys = {"model": MODEL, "scores": SCORES, "log": LOG}
    stamp = incident.removeprefix("IR-")
    wanted = {
        keys[name]: put(store, f"snapshots/{stamp}/{keys[name].removeprefix('latest/')}", content)
        for name, content in files.items()
    }
    return ChangeRequest(wanted, f"run of {incident}", incident)


class Unheard:
    """A log that nobody reads."""

    def write(self, *_: object, **__: object) -> None:
        """Forget it."""


def turn_for(store: Store, wish: ChangeRequest, **how: Any) -> Promotion:
    """Take a turn, and hear nothing of it."""
    return change_latest(store, wish, Unheard(), **{"now": NOW, **how})


def latest(store: Store) -> dict[str, str]:
    """All that lies there, as text."""
    return {each.key: store.read(each.key).decode() for each in store.list("latest/")}
