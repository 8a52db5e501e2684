"""Forgeries that fit together, and hosts that leave something out: what an audit makes of them."""

import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blocks.memory import MemoryStore
from tasks.audit import audited
from tasks.custody.audit.finding import AuditWord, Severity
from tasks.custody.manifest import canonical
from tasks.custody.signature import PrivateKey, public_key, sign
from tests.audit.conftest import Objects
from tests.audit.test_laws import HOME, findings
from tests.cases import INCIDENT

Holding = Callable[[dict[str, bytes]], MemoryStore]


@pytest.fixture(scope="module")
def stranger() -> PrivateKey:
    """A key that nobody knows."""
    return Ed25519PrivateKey.generate()


def signed_anew(objects: dict[str, bytes], key: PrivateKey, *names: str) -> dict[str, bytes]:
    """What somebody makes who may write to the store: each closing names their key, and they sign it."""
    made = dict(objects)
    for name in (f"{HOME}/{name}" for name in names):
        closing = json.loads(objects[name])
        closing["signer"] |= {"fingerprint": public_key(key).fingerprint}
        made[name] = canonical(closing)
        made[f"{name}.sig"] = sign(key, made[name])
    return made


def test_a_forgery_that_is_signed_by_anybodys_key_is_never_proven_without_signers(
    objects: Objects, holding: Holding, stranger: PrivateKey
) -> None:
    forgery = signed_anew(objects, stranger, "record/002/closing.json")
    audit = audited(holding(forgery), INCIDENT, None, deep=True)
    assert audit.word is AuditWord.INDETERMINATE
    told = findings(audit, Severity.OPEN)
    assert list(told) == [""]  # the incident as a whole
    assert "nobody vouches for the key that signed it" in told[""]
    assert "signed by several keys" in told[""]
    assert public_key(stranger).fingerprint in told[""]
