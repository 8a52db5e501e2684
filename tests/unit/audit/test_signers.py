"""The auditor's own file of who may sign, held against what ssh-keygen makes of it."""

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from blocks.signing_key import SigningKey
from tasks.custody.audit.signers import read_signers
from tasks.custody.errors import Refused
from tasks.custody.store.signature import PublicKey

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDiuf0v7R0P9Pz7mNPl4k2Nu1FIV6pg1zvbGzuZs9yMq"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def test_the_line_that_the_block_shows_is_understood(signing_key: SigningKey) -> None:
    (signer,) = read_signers(f"\n# ours\n  {signing_key.allowed_signers} with a comment\n")
    assert signer.principals == signing_key.identity
    assert signer.key == PublicKey(signing_key.public_key)
    assert signer.may_sign(None)


@pytest.mark.parametrize(
    ("options", "at", "may"),
    [
        ("", None, True),
        ('namespaces="evacuation"', NOON, True),
        ('namespaces="file,evac*"', NOON, True),
        ('namespaces="git"', NOON, False),
        ('namespaces="[e]vacuation"', NOON, False),
        ('namespaces="evacuatio?"', NOON, True),
        ('namespaces="evacuation?"', NOON, False),
        ('namespaces="git, evacuation"', NOON, False),
        ('namespaces="EVACUATION"', NOON, False),
        ('namespaces=""', NOON, False),
        ('namespaces="*,!evacuation"', NOON, False),
        ('NAMESPACES="evacuation"', NOON, True),
        ('valid-after="20260102"', NOON, True),
        ('valid-after="20260103Z"', NOON, False),
        ('valid-before="202601021200Z"', NOON, True),
        ('valid-before="202601021159Z"', NOON, False),
        ('valid-before="20260102120001Z"', NOON, True),
        ('namespaces="evacuation",valid-after="20250101",valid-before="20270101"', NOON, True),
        ('valid-after="20250101"', None, False),
    ],
)
def test_an_option_means_what_ssh_keygen_makes_of_it(
    signing_key: SigningKey, tmp_path: Path, options: str, at: datetime | None, *, may: bool
) -> None:
    text = f"evacuation@test {options} {signing_key.public_key}\n"
    (signer,) = read_signers(text)
    assert signer.may_sign(at) is may
    if at is None or not shutil.which("ssh-keygen"):
        return
    (tmp_path / "allowed").write_text(text)
    (tmp_path / "data.sig").write_bytes(signing_key.sign(b"data"))
    command = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "evacuation@test", "-n", "evacuation"]
    when = ["-O", f"verify-time={at:%Y%m%d%H%M%SZ}", "-s", "data.sig"]
    done = subprocess.run([*command, *when], cwd=tmp_path, input=b"data", capture_output=True, check=False)
    assert (done.returncode == 0) is may, done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "evacuation@test",
        "evacuation@test ssh-ed25519",
        "evacuation@test ssh-ed25519 !!!",
        "evacuation@test cert-authority ssh-ed25519 AAAA",
        'evacuation@test valid-after="yesterday" ssh-ed25519 AAAA',
        'evacuation@test namespaces="x" namespaces="y" ssh-ed25519 AAAA',
        f"!evacuation@test {KEY}",
        f"evacuation@test,!other {KEY}",
        f'"!evacuation@test" {KEY}',
        f'evacuation@test valid-after="20260101",valid-after="20990101" {KEY}',
        f'evacuation@test namespaces="git",NAMESPACES="evacuation" {KEY}',
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "\x00",
    ],
)
def test_a_line_that_could_not_be_held_to_is_refused(line: str) -> None:
    with pytest.raises(Refused, match="allowed_signers"):
        read_signers(line)
