"""Define the signing key block, which signs manifests and closings by a key file of the host, or by a key of its own.

A key in the block lies in the Prefect server: whoever reads that signs as this host. It is for drills.
"""

import re
from pathlib import Path
from typing import ClassVar, Final, Self

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from prefect.blocks.core import Block
from pydantic import ConfigDict, HttpUrl, PrivateAttr, SecretStr, field_validator, model_validator

from blocks.described import Described, wrong_value
from blocks.form import FormMade, logo
from blocks.quick_save import QuickSave
from blocks.secret_file import read_secret
from blocks.workload_fields import AbsolutePath
from tasks.custody.store.envelope import sign_envelope
from tasks.custody.store.signature import Data, PrivateKey, public_key, sign, signer_line

_IDENTITY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*@[A-Za-z0-9.-]+")
_PUBLIC: Final = re.compile(r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-\S+ AAAA")
_PEM: Final = re.compile(r"-----BEGIN ((RSA|EC|DSA|ENCRYPTED) )?PRIVATE KEY-----")
_RSA_BITS: Final = 2048
_MAKE: Final = "Make one with ssh-keygen -t ed25519"


class SigningKey(QuickSave, FormMade, Described, Block):
    """A private key of OpenSSH, and the name that it signs by."""

    model_config = ConfigDict(hide_input_in_errors=True)

    _block_type_name: ClassVar[str] = "Signing Key"
    _block_type_slug: ClassVar[str] = "signing-key"
    _description: ClassVar[str] = "Signs manifests and closings, so that ssh-keygen -Y verify proves who made them."
    _logo_url: ClassVar[HttpUrl | None] = logo("1f58b")
    _code_example: ClassVar[str] = (
        "from blocks import SigningKey\n\n"
        "# ssh-keygen -t ed25519 -f /etc/evacuation/signing.key\n"
        'SigningKey(key_file="/etc/evacuation/signing.key", identity="evacuation@gpu1").save("evacuation")'
    )

    key_file: AbsolutePath | None = None
    """Where the worker's host has the private key, as ssh-keygen writes it: Ed25519, ECDSA, or RSA. The file is root's
    or the worker's, mode 0600."""
    private_key: SecretStr = SecretStr("")
    """The key itself, for drills: whoever reads this block can sign with it."""
    passphrase: SecretStr | None = None
    """The passphrase of the key, if it has one."""
    identity: str
    """Whom the key stands for in an allowed_signers file, as in evacuation@gpu1."""

    _key: PrivateKey = PrivateAttr()

    @field_validator("identity")
    @classmethod
    def _plain_identity(cls, identity: str) -> str:
        if not _IDENTITY.fullmatch(identity):
            expected = "an identity without spaces, commas and wildcards"
            raise wrong_value(expected, "another text", "Write it like evacuation@gpu1")
        return identity

    @model_validator(mode="after")
    def _opens(self) -> Self:
        """Decode a key of the block now; one in a file once it is used, as only its own host has that."""
        if bool(self.private_key) == bool(self.key_file):
            raise wrong_value("key_file or private_key", "both" if self.key_file else "neither", "Give key_file")
        if self.private_key:
            self.open()
        return self

    def open(self) -> PrivateKey:
        """Return the key, decoded once: its passphrase may take seconds. Raises ValueError without a part of it."""
        if not hasattr(self, "_key"):
            word = self.passphrase.get_secret_value() if self.passphrase else ""
            text = _read(self.key_file) if self.key_file else self.private_key.get_secret_value()
            self._key = _decode(text, word)
        return self._key

    @property
    def public_key(self) -> str:
        """The public half, as in a .pub file."""
        return public_key(self.open()).line

    @property
    def fingerprint(self) -> str:
        """The fingerprint, as `ssh-keygen -l` shows it."""
        return public_key(self.open()).fingerprint

    @property
    def allowed_signers(self) -> str:
        """The line for the file that `ssh-keygen -Y verify -f` reads."""
        return signer_line(self.identity, self.public_key)

    def sign(self, data: Data) -> bytes:
        """Return the content of the .sig file for `data`, given whole or in pieces."""
        return sign(self.open(), data)

    def envelop(self, statement: bytes) -> bytes:
        """Return an in-toto statement in a signed DSSE envelope. Raises ValueError for a key that is not Ed25519."""
        return sign_envelope(self.open(), statement)


def _read(path: Path) -> str:
    """Read a key file that nobody but root and this account can read or change. Raises ValueError."""
    try:
        return read_secret(path)
    except OSError as error:
        expected = f"the key file {path}, root's or this account's, mode 0600"
        cure = f"Put it there: chown root {path}; chmod 600 {path}"
        raise wrong_value(expected, error.strerror or "none", cure) from error


def _decode(text: str, passphrase: str) -> PrivateKey:
    """Decode a private key. Raises ValueError with a message that contains no part of the key."""
    if _PUBLIC.match(text.strip()):
        raise wrong_value("a private key", "a public one", "Give the file without .pub")
    if _PEM.search(text):
        cure = "Convert a copy of it: ssh-keygen -p -f FILE"
        raise wrong_value("a key in OpenSSH's own format", "one in PEM format", cure)
    try:
        key = load_ssh_private_key(text.encode(), passphrase.encode() or None)
    except TypeError:
        got = "one for a key that has none" if passphrase else "none for a key that has one"
        raise wrong_value("the passphrase of the key", got, "Correct passphrase") from None
    except UnsupportedAlgorithm:
        raise wrong_value("a key of Ed25519, ECDSA or RSA", "one of another kind, as of a token", _MAKE) from None
    except (ValueError, InvalidTag):
        if passphrase:
            raise wrong_value("a key and its passphrase", "two that do not fit", "Correct passphrase") from None
        raise wrong_value("a whole private key of OpenSSH", "another text", _MAKE) from None
    if not isinstance(key, PrivateKey):
        raise wrong_value("a key of Ed25519, ECDSA or RSA", "one of another kind", _MAKE)
    if public_key(key).line.startswith("ssh-rsa") and key.key_size < _RSA_BITS:  # type: ignore[union-attr]
        raise wrong_value(f"an RSA key of {_RSA_BITS} bits at least", "a shorter one", _MAKE)
    return key
