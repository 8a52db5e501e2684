"""Make the key by which a host signs its evidence, and print the line by which the auditor knows it."""

import os
from pathlib import Path
from socket import gethostname

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tasks.cli.output import command
from tasks.custody.errors import Refused
from tasks.custody.incident.incident import principal_of
from tasks.custody.store.signature import public_key, signer_line
from tasks.custody.visible import say
from tasks.system.files.atomic_files import read_plain, sync_folder, write_once
from tasks.system.files.ours import find_exposure, make_folder


def make_by_hand(path: Path) -> int:
    """Write a new private key; print its line of an allowed_signers file, and on stderr what is to be done with it.

    Raises Refused if the file is there, or would lie where another account can replace it.
    """
    identity = principal_of(gethostname())
    line = signer_line(identity, make_key(path))
    say(f"wrote {path}, mode 0600 署名鍵を作成", error=True)
    say(f'in the [store.NAME] ストアの設定に: signing = {{ key_file = "{path}", identity = "{identity}" }}', error=True)
    say("give this line to the auditor by another way than the store 次の行をストア以外の経路で監査人へ:", error=True)
    say(line)
    return 0


def make_key(path: Path) -> str:
    """Write a new Ed25519 key in OpenSSH's format, mode 0600; return its public half. Raises Refused."""
    another = f"Name another file: {command('key', 'FILE')}"
    for there in filter(os.path.lexists, (path, Path(f"{path}.pub"))):  # a public half of another key misleads
        cure = f"Nothing is overwritten. {another}. Its public half: ssh-keygen -y -f {path}"
        raise Refused("a file that is not there yet", f"{there}, which is", f"{cure} 既存の鍵は上書きしません。")
    if place := find_exposure(path.parent):
        raise Refused("a folder that only root or this account can change", f"{path.parent}: {place}", f"{another}.")
    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    try:
        os.close(make_folder(path.parent))
        write_once(path, text)
        sync_folder(path.parent)
        kept = read_plain(path) == text
    except OSError as error:
        got = f"{error.filename or path}: {error.strerror}"
        raise Refused("a folder to write a key into", got, f"Run this as root. Or: {command('key', 'FILE')}") from error
    if not kept:
        raise Refused("a file that is not there yet", f"{path}, which another run has made", f"{another}.")
    return public_key(key).line
