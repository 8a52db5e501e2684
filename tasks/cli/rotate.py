"""Close a signing key from the command line: under its own signature, it names the host's next key in the store."""

import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from blocks.file import store_given
from blocks.signing_key import SigningKey
from blocks.store import with_usable_key
from tasks.custody.audit.rotated import SIGNED, KeyClosing
from tasks.custody.errors import Refused
from tasks.custody.evidence.keys import CLOSING, ROTATIONS, STAMP, TIME_STAMP
from tasks.custody.incident.description import place
from tasks.custody.incident.incident import principal_of
from tasks.custody.store.manifest import canonical
from tasks.custody.store.signature import signer_line
from tasks.custody.visible import say
from tasks.evidence.time_stamp import stamp
from tasks.storage.verify_object import create_kept


def rotate_by_hand(text: str, key: Path) -> int:
    """Store the closing of the key in use, stamped if the store names an authority. Raises Refused or StoreError."""
    file, name = place(text)
    block, why = with_usable_key(store_given(Path(file), name)[1])
    if block.signing is None:
        raise Refused("a signing key in the store's table", why or "none", "There is nothing to close.")
    try:
        public = _public_half(key)
    except (OSError, ValueError) as error:
        raise Refused("the public half of the next key", f"{error}", "ssh-keygen -t ed25519 makes both.") from error
    if public == block.signing.public_key:
        raise Refused("another key than the one in use", f"{key}", "Make a new one with ssh-keygen -t ed25519.")
    closed = KeyClosing(socket.gethostname(), datetime.now(UTC).replace(microsecond=0), public)
    line, data, store = closed.line, canonical(vars(closed)), block.open()
    folder = f"{ROTATIONS}{closed.host}/{closed.closed_utc:%Y%m%dT%H%M%SZ}/"

    def put(name: str, content: bytes) -> None:
        create_kept(store, f"{folder}{name}", content)

    signature, untimed = block.signing.sign(data), "the store names no authority"
    put(SIGNED, signature)
    put(CLOSING, data)
    if block.timestamp_url:  # over the signature: a thief can have had the text stamped beforehand
        of_signature = f"{SIGNED}{STAMP}"
        untimed = stamp(block, signature, lambda name, content: put(name.replace(TIME_STAMP, of_signature), content))
    fingerprint = block.signing.fingerprint
    say(
        f"{fingerprint} names {line.key.fingerprint} as the next key of {line.principals}, in {store.place}",
        f"  time      {(untimed and f'no time vouched for, because {untimed}') or block.timestamp_url}",
        f'  next      key_file = "{key}" in the table, then `evacuation doctor`',
        f"  auditor   {signer_line(line.principals, public)}",
    )
    return 0


def _public_half(key: Path) -> str:
    """Return kind and key of a key file; of one that is locked or elsewhere, what the file beside it says."""
    with suppress(OSError, ValueError):
        return SigningKey(key_file=key, identity=principal_of(socket.gethostname())).public_key
    return " ".join(Path(f"{key}.pub").read_text().split()[:2])
