"""A doctor finds the key of a host that was rotated, where the auditor's file has the old one alone."""

import socket
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from blocks.signing_key import SigningKey
from tasks.custody.incident.readiness import Finding
from tasks.readiness.store import check_signature
from tests.support.memory_store import MemoryStore
from tests.unit.audit.test_roles import new_key
from tests.unit.audit.test_rotated import rotation


def looked(key: SigningKey, signers: str, objects: dict[str, bytes]) -> Finding:
    """What is found of this key, in a store of these objects."""
    store = MemoryStore()
    store._objects.update(objects)
    patient: Any = SimpleNamespace(block=SimpleNamespace(signing=key), signers=signers, writer=store)
    return check_signature(patient)


def test_the_next_key_is_found_by_its_rotation_and_not_without(signing_key: SigningKey) -> None:
    following, now = new_key(f"evacuation@{socket.gethostname()}"), datetime.now(UTC)
    named = rotation(signing_key, following, now - timedelta(hours=1))
    old, not_allowed = signing_key.allowed_signers, "the auditor's file does not allow"
    assert not_allowed in looked(following, old, {}).found
    assert not_allowed not in looked(following, old, named).found
    assert not_allowed in looked(following, old, rotation(signing_key, following, now + timedelta(hours=1))).found
    assert not_allowed in looked(new_key("x@y"), old, named).found
    assert not_allowed not in looked(signing_key, old, {}).found
