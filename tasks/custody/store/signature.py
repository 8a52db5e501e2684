"""Make and verify signatures in the format of `ssh-keygen -Y sign` (PROTOCOL.sshsig), for proof by a public tool.

See docs/adr/0011.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

from tasks.custody.errors import BadSignature

NAMESPACE: Final = "evacuation"
"""The purpose of our signatures: one made for git or another kind of file is not valid here."""

Data: TypeAlias = bytes | Iterable[bytes]
"""The signed data, whole or in pieces."""
PrivateKey: TypeAlias = Ed25519PrivateKey | RSAPrivateKey | EllipticCurvePrivateKey

_MAGIC: Final = b"SSHSIG"
_VERSION: Final = 1
_WIDTH: Final = 70
_HASH: Final = "sha512"
_RSA: Final[dict[bytes, HashAlgorithm]] = {b"rsa-sha2-512": SHA512(), b"rsa-sha2-256": SHA256()}
_ECDSA: Final[dict[bytes, HashAlgorithm]] = {
    b"ecdsa-sha2-nistp256": SHA256(),
    b"ecdsa-sha2-nistp384": SHA384(),
    b"ecdsa-sha2-nistp521": SHA512(),
}


@dataclass(frozen=True)
class PublicKey:
    """A public key in ssh's format: `ssh-ed25519 AAAA…`, without a comment."""

    line: str

    @property
    def fingerprint(self) -> str:
        """The fingerprint as `ssh-keygen -l` shows it: "SHA256:" and the digest, without padding."""
        digest = hashlib.sha256(base64.b64decode(self.line.split()[1])).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def signer_line(principal: str, public: str, namespace: str = NAMESPACE) -> str:
    """Return the line of an allowed_signers file by which this public key may sign as this principal."""
    return f'{principal} namespaces="{namespace}" {public}'


def opening(key: PublicKey) -> str:
    """Return how each signature by this key begins, to tell at no cost that one is by another key."""
    blob = base64.b64decode(key.line.split()[1])
    return "\n".join(_armour(_MAGIC + _VERSION.to_bytes(4, "big") + _string(blob)).decode().splitlines()[:2])


def public_key(key: PrivateKey) -> PublicKey:
    """Return the public half of a key."""
    return PublicKey(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


def sign(key: PrivateKey, data: Data, namespace: str = NAMESPACE) -> bytes:
    """Return a signature in ssh-keygen's armour; with Ed25519 and RSA the same bytes as ssh-keygen's."""
    blob = base64.b64decode(public_key(key).line.split()[1])
    content = _make(key, _Fields(blob).text(), _message(data, namespace, b"", _HASH))
    parts = (blob, namespace.encode(), b"", _HASH.encode(), content)
    return _armour(_MAGIC + _VERSION.to_bytes(4, "big") + b"".join(map(_string, parts)))


def signer(signature: bytes, data: Data, namespace: str = NAMESPACE) -> PublicKey:
    """Return the key that signed exactly this data. Raises BadSignature if none did. Does not decide on trust."""
    with _explaining():
        decoded = base64.b64decode("".join(signature.decode("ascii").splitlines()[1:-1]), validate=True)
        if _armour(decoded) != signature:  # so every changed byte is noticed
            raise ValueError("another armour than ssh-keygen writes")
        fields = _Fields(decoded)
        if fields.take(len(_MAGIC)) != _MAGIC or fields.number() != _VERSION:
            raise ValueError("no SSH signature of version 1")
        blob, purpose, reserved, algorithm, content = (fields.text() for _ in range(5))
        fields.end()
        if purpose != namespace.encode():
            raise ValueError(f"a signature for the namespace {purpose[:80]!r}, not {namespace!r}")
        kind = _Fields(blob).text()
        if not re.fullmatch(rb"[a-z0-9@.-]+", kind):
            raise ValueError(f"a key of the kind {kind[:80]!r}")
        line = f"{kind.decode()} {base64.b64encode(blob).decode()}"
        _check(line, content, _message(data, namespace, reserved, algorithm.decode("ascii")))
        return PublicKey(line)


def _message(data: Data, namespace: str, reserved: bytes, algorithm: str) -> bytes:
    """Return the bytes that the key signs: never the bare data, to exclude use in other protocols."""
    if algorithm not in {"sha256", _HASH}:
        raise ValueError(f"the hash algorithm {algorithm[:80]!r}")
    digest = hashlib.new(algorithm)
    for piece in [data] if isinstance(data, bytes) else data:
        digest.update(piece)
    return _MAGIC + b"".join(map(_string, (namespace.encode(), reserved, algorithm.encode(), digest.digest())))


def _make(key: PrivateKey, kind: bytes, message: bytes) -> bytes:
    if isinstance(key, Ed25519PrivateKey):
        return _string(kind) + _string(key.sign(message))
    if isinstance(key, RSAPrivateKey):
        kind = b"rsa-sha2-512"
        return _string(kind) + _string(key.sign(message, PKCS1v15(), _RSA[kind]))
    both = decode_dss_signature(key.sign(message, ECDSA(_ECDSA[kind])))
    # big-endian, with a leading zero if the first bit is set
    return _string(kind) + _string(b"".join(_string(one.to_bytes(one.bit_length() // 8 + 1, "big")) for one in both))


def _check(line: str, content: bytes, message: bytes) -> None:
    fields = _Fields(content)
    kind, raw = fields.text(), fields.text()
    fields.end()
    key = load_ssh_public_key(line.encode())
    if isinstance(key, Ed25519PublicKey) and kind == b"ssh-ed25519":
        key.verify(raw, message)
    elif isinstance(key, RSAPublicKey) and kind in _RSA:
        key.verify(raw, message, PKCS1v15(), _RSA[kind])
    elif isinstance(key, EllipticCurvePublicKey) and kind in _ECDSA and line.startswith(kind.decode()):
        both = _Fields(raw)
        pair = encode_dss_signature(int.from_bytes(both.text(), "big"), int.from_bytes(both.text(), "big"))
        both.end()
        key.verify(pair, message, ECDSA(_ECDSA[kind]))
    else:
        raise ValueError(f"a signature of the kind {kind[:80]!r}")


class _Fields:
    """Reads fields of ssh's wire format (RFC 4251 §5) in sequence."""

    def __init__(self, data: bytes) -> None:
        self._rest = data

    def take(self, count: int) -> bytes:
        if count > len(self._rest):
            raise ValueError("a signature that ends early")
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def number(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def text(self) -> bytes:
        return self.take(self.number())

    def end(self) -> None:
        if self._rest:
            raise ValueError("more than a signature")


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _armour(blob: bytes) -> bytes:
    text = base64.b64encode(blob).decode()
    lines = [text[start : start + _WIDTH] for start in range(0, len(text), _WIDTH)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""]).encode()


@contextmanager
def _explaining() -> Iterator[None]:
    try:
        yield
    except (ValueError, NotImplementedError, InvalidSignature, UnsupportedAlgorithm) as error:
        got = "a signature of other data, or by another key" if isinstance(error, InvalidSignature) else str(error)
        cure = "Compare the file and its .sig with another copy of them; keep both as they are for the investigation."
        raise BadSignature("an SSH signature of this data", got, "It proves nothing.", cure) from error
