"""§4, §8: sign manifests and closings. If the key fails, the evidence is sealed unsigned."""

import binascii
import logging
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tasks.custody.errors import BadSignature, Tampered
from tasks.custody.evidence.acquisition import Seal
from tasks.custody.evidence.keys import MANIFEST, SIGNATURE, volume_folder
from tasks.custody.incident.incident import principal_of
from tasks.custody.store.manifest import pieces_of
from tasks.prefect_side.saved_blocks import SavedStore
from tasks.runtime.store_access import StoreAccess

if TYPE_CHECKING:
    from blocks.signing_key import SigningKey

logger = logging.getLogger(__name__)

_ARMOUR: Final = re.compile(r"-----BEGIN OPENSSH PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END OPENSSH PRIVATE KEY-----")
_MAGIC: Final = b"openssh-key-v1\0"
_UNLOCKED: Final = _MAGIC + b"\0\0\0\x04none"


@dataclass(frozen=True)
class Signer:
    """The signing key: the identity that it stands for, its fingerprint, and its public half."""

    identity: str
    fingerprint: str
    public_key: str


def unready(saved: SavedStore) -> str:
    """Return why the key of a store's block cannot be opened; empty if it may open, or if there is none.

    Checks the format alone (PROTOCOL.key of OpenSSH): opening the key takes seconds, which would delay containment. A
    problem of a key in a file is reported when it is opened.
    """
    if (key := saved.fields.get("signing")) is None:
        return ""
    fields = key if isinstance(key, Mapping) else {}
    if fields.get("key_file"):
        return ""
    found = _ARMOUR.search(str(fields.get("private_key", "")))
    try:
        head = binascii.a2b_base64(found[1]) if found else b""
    except binascii.Error:
        head = b""
    if not head.startswith(_MAGIC):
        return "the key in the store block is no private key of OpenSSH"
    locked, word = not head.startswith(_UNLOCKED), bool(fields.get("passphrase"))
    if locked == word:
        return ""
    problem = "a passphrase, and the block gives none" if locked else "no passphrase, and the block gives one"
    return f"the key in the store block has {problem}"


def tell_key(saved: SavedStore) -> None:
    """Warn at the start about a key that cannot be opened. The verdict notes it at the seal."""
    if problem := unready(saved):
        logger.warning("Manifests and closings will be unsigned: %s. Correct the signing-key block.", problem)
    key = saved.fields.get("signing")
    identity, principal = key.get("identity") if isinstance(key, Mapping) else None, principal_of(socket.gethostname())
    if identity not in {None, principal}:
        logger.warning(
            "The key is named %s. An audit counts it only if the auditor's file allows it as %s.", identity, principal
        )


def find_signer(store: StoreAccess) -> Signer | str:
    """Return the signer of this run, or why there is none."""
    if key := store.signing_key:
        return Signer(key.identity, key.fingerprint, key.public_key)
    return store.signing_problem


def sign(store: StoreAccess, name: str, sha256: str, make: Callable[["SigningKey"], bytes]) -> bytes:
    """Have the key sign a manifest, closing or statement, and log that, or why not; empty without a usable key."""
    signer, signature = find_signer(store), b""
    if key := store.signing_key:
        try:
            signature = make(key)
        except Exception as error:  # noqa: BLE001  whatever is wrong with the key, the evidence is sealed
            signer = f"the key failed: {type(error).__name__}: {error}"
    result = f"by {signer.identity}, {signer.fingerprint}" if isinstance(signer, Signer) else signer
    store.log.write("signed" if signature else "unsigned", name, digest=sha256, result=result)
    return signature


def read_signature(folder: Path) -> bytes:
    """Read the signature beside a sealed manifest; empty if there is none."""
    path = folder / SIGNATURE
    return path.read_bytes() if path.exists() else b""


def signed_by(folder: Path) -> str:
    """Return the fingerprint of the key that signed a folder's manifest; empty if there is no valid signature."""
    from tasks.custody.store.signature import signer  # this library must not delay containment

    if not (signature := read_signature(folder)):
        return ""
    with suppress(BadSignature), (folder / MANIFEST).open("rb") as file:
        return signer(signature, pieces_of(file)).fingerprint
    return ""


def require_same_hand(sealed: Seal, folder: Path) -> None:
    """Raise Tampered unless the manifest's signature is as it was at the seal, by the same key."""
    found = signed_by(folder)
    if found != sealed.signed_by or bool(read_signature(folder)) != bool(found):
        raise Tampered(
            f"{folder / MANIFEST} to be {f'signed by {sealed.signed_by}' if sealed.signed_by else 'unsigned'}",
            f"a signature by {found}" if found else "no signature of it",
            "Nothing is sent.",
            "Find out who changed it; compare the folder with the store.",
        )


def note_unsigned(seals: Iterable[Seal], signer: Signer | str) -> Iterator[str]:
    """Yield a note for the verdict for each unsigned manifest."""
    if isinstance(signer, str):
        yield f"unsigned: {signer}"
    else:
        for each in (each for each in seals if not each.signed_by):
            folder = volume_folder(each.volume)
            yield f"{folder} was sealed unsigned; a record whose closing is signed vouches for its manifest"
