"""Signatures: what we make ssh-keygen proves, what it makes we prove, and nothing else passes."""

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.custody.errors import BadSignature
from tasks.custody.store.signature import (
    PrivateKey,
    PublicKey,
    _armour,
    _check,
    _message,
    _string,
    opening,
    public_key,
    sign,
    signer,
)

KINDS = (("ed25519", "256"), ("rsa", "2048"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"))
WHO = "evacuation@host"


def _keygen(*arguments: str | Path, data: bytes = b"") -> bytes:
    return subprocess.run(["ssh-keygen", *arguments], input=data, check=True, capture_output=True).stdout


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PrivateKey]:
    """A key of each kind, made by ssh-keygen."""
    kind, bits = request.param
    path = tmp_path_factory.mktemp("key") / "key"
    _keygen("-q", "-t", kind, "-b", bits, "-N", "", "-f", path)
    key = load_ssh_private_key(path.read_bytes(), None)
    assert isinstance(key, PrivateKey)
    return path, key


def test_ssh_keygen_proves_what_we_sign(made: tuple[Path, PrivateKey], tmp_path: Path) -> None:
    _, key = made
    (tmp_path / "sig").write_bytes(sign(key, b"the manifest"))
    (tmp_path / "allowed").write_text(f'{WHO} namespaces="evacuation" {public_key(key).line}\n')
    proof = ("-Y", "verify", "-f", tmp_path / "allowed", "-I", WHO, "-n", "evacuation", "-s", tmp_path / "sig")

    assert b"Good" in _keygen(*proof, data=b"the manifest")
    with pytest.raises(subprocess.CalledProcessError):
        _keygen(*proof, data=b"another manifest")


def test_we_prove_what_ssh_keygen_signs(made: tuple[Path, PrivateKey]) -> None:
    path, key = made
    for more in ((), ("-O", "hashalg=sha256")):
        signature = _keygen("-Y", "sign", "-f", path, "-n", "evacuation", *more, data=b"the manifest")
        assert signer(signature, b"the manifest") == public_key(key)


def test_the_same_bytes_as_ssh_keygen_where_the_algorithm_has_no_chance_in_it(made: tuple[Path, PrivateKey]) -> None:
    path, key = made
    theirs = _keygen("-Y", "sign", "-f", path, "-n", "evacuation", data=b"x")
    if "ecdsa" in public_key(key).line:
        assert len(sign(key, b"x").splitlines()) == len(theirs.splitlines())
    else:
        assert sign(key, b"x") == theirs


def test_the_fingerprint_is_the_one_that_ssh_keygen_shows(made: tuple[Path, PrivateKey]) -> None:
    path, key = made
    assert public_key(key).fingerprint.encode() in _keygen("-l", "-f", path)


def test_each_signature_begins_as_its_key_tells(made: tuple[Path, PrivateKey]) -> None:
    path, key = made
    theirs = _keygen("-Y", "sign", "-f", path, "-n", "evacuation", data=b"x")
    for signature in (theirs, sign(key, b"another"), sign(key, b"x", "git")):
        assert signature.decode().startswith(opening(public_key(key)))


@given(place=st.integers(min_value=0), value=st.integers(1, 255))
@settings(deadline=None)
def test_no_byte_of_a_signature_can_change_unseen(made: tuple[Path, PrivateKey], place: int, value: int) -> None:
    signature = bytearray(sign(made[1], b"the manifest"))
    signature[place % len(signature)] ^= value
    with pytest.raises(BadSignature):
        signer(bytes(signature), b"the manifest")


@pytest.mark.parametrize(("magic", "version"), [(b"SSHSIG", 2), (b"SSHSIG", 0), (b"SSHSIX", 1)])
def test_a_signature_of_another_kind_or_version_is_none(magic: bytes, version: int) -> None:
    key = Ed25519PrivateKey.generate()
    blob = _string(b"ssh-ed25519") + _string(key.public_key().public_bytes_raw())
    made = _string(b"ssh-ed25519") + _string(key.sign(_message(b"data", "evacuation", b"", "sha512")))
    parts = b"".join(map(_string, (blob, b"evacuation", b"", b"sha512", made)))
    assert signer(_armour(b"SSHSIG" + (1).to_bytes(4, "big") + parts), b"data") == public_key(key)
    with pytest.raises(BadSignature, match="version 1"):
        signer(_armour(magic + version.to_bytes(4, "big") + parts), b"data")


@given(st.binary(max_size=300))
def test_whatever_it_is_handed_it_says_no_in_our_own_words(junk: bytes) -> None:
    with pytest.raises(BadSignature):
        signer(junk, b"data")


def test_neither_other_data_nor_another_purpose_is_proven(made: tuple[Path, PrivateKey]) -> None:
    _, key = made
    with pytest.raises(BadSignature, match="other data"):
        signer(sign(key, b"data"), b"dat\xe0")
    with pytest.raises(BadSignature, match="namespace"):
        signer(sign(key, b"data", "git"), b"data")


@pytest.mark.parametrize("separator", ["\x1c", "\x1d", "\x1e", "\x1f", " ", "\n", "\t"])
def test_a_kind_of_key_that_hides_another_key_is_no_signature(separator: str) -> None:
    # Whoever splits the line of this key at white space would read another key in it, one that somebody trusts.
    key = Ed25519PrivateKey.generate()
    trusted = public_key(key).line.split()[1]
    blob = _string(f"ssh-ed25519{separator}{trusted}".encode()) + _string(b"x")
    made = _string(b"ssh-ed25519") + _string(key.sign(_message(b"data", "evacuation", b"", "sha512")))
    parts = (blob, b"evacuation", b"", b"sha512", made)
    forged = _armour(b"SSHSIG" + (1).to_bytes(4, "big") + b"".join(map(_string, parts)))
    with pytest.raises(BadSignature, match="a key of the kind"):
        signer(forged, b"data")


def test_another_key_is_another_signer(made: tuple[Path, PrivateKey], tmp_path: Path) -> None:
    _keygen("-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other")
    other = load_ssh_private_key((tmp_path / "other").read_bytes(), None)
    assert isinstance(other, PrivateKey)
    assert signer(sign(other, b"data"), b"data") != public_key(made[1])
    assert isinstance(public_key(other), PublicKey)


EC, ED = ("ecdsa", "256"), ("ed25519", "256")


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (EC, b"ssh-ed25519"),
        (EC, b"ecdsa-sha2-nistp384"),
        (EC, b"x"),
        (ED, b"ecdsa-sha2-nistp256"),
        (ED, b"rsa-sha2-512"),
    ],
    indirect=["made"],
)
def test_a_signature_of_another_kind_than_its_key_is_none(made: tuple[Path, PrivateKey], kind: bytes) -> None:
    with pytest.raises(ValueError, match="a signature of the kind"):
        _check(public_key(made[1]).line, _string(kind) + _string(_string(b"\1") + _string(b"\1")), b"the message")
