"""Sign a statement in a DSSE envelope (v1.0), and read one."""

import base64
from collections.abc import Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from tasks.custody.errors import BadSignature
from tasks.custody.store.manifest import canonical
from tasks.custody.store.signature import PrivateKey, PublicKey, public_key

_PAYLOAD: Final = "application/vnd.in-toto+json"


def sign_envelope(key: PrivateKey, payload: bytes) -> bytes:
    """Return a statement in an envelope, signed. Raises ValueError for a key that is not Ed25519."""
    public = public_key(key)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"no in-toto statement: it takes an Ed25519 key, and this one is {public.line.split()[0]}")  # noqa: TRY004  our callers name any fault of a key
    signature = {"keyid": public.fingerprint, "sig": base64.b64encode(key.sign(_signed_bytes(payload))).decode()}
    text = base64.b64encode(payload).decode()
    return canonical({"payload": text, "payloadType": _PAYLOAD, "signatures": [signature]})


def open_envelope(envelope: Mapping[str, Any], key: PublicKey) -> bytes:
    """Return the statement in an envelope. Raises BadSignature unless this key alone has signed it."""
    try:
        (signature,) = envelope["signatures"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        public = load_ssh_public_key(key.line.encode())
        if not isinstance(public, Ed25519PublicKey) or envelope["payloadType"] != _PAYLOAD:
            raise ValueError("another kind of key or payload")  # noqa: TRY301  told as the others
        public.verify(base64.b64decode(signature["sig"], validate=True), _signed_bytes(payload))
    except (ArithmeticError, LookupError, TypeError, ValueError, InvalidSignature, UnsupportedAlgorithm) as error:
        got = "a signature of other data, or by another key" if isinstance(error, InvalidSignature) else repr(error)
        cure = "Audit the incident: its closing is signed apart from this."
        wanted = "a DSSE envelope of an in-toto statement, signed by that key"
        raise BadSignature(wanted, got, "It proves nothing.", cure) from error
    return payload


def _signed_bytes(payload: bytes) -> bytes:
    """Return what the key signs: the pre-authentication encoding of DSSE, like no other protocol's text."""
    return b"DSSEv1 %d %b %d %b" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)
