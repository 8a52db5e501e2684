"""The signing key block: what it refuses to save, that it signs, and that it never shows the key."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from pydantic import SecretStr, ValidationError

from blocks import signing_key
from blocks.file import load
from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore, with_usable_key
from tasks.custody.store.signature import PrivateKey, signer

WHO = "evacuation@gpu1"


def made(folder: Path, *options: str) -> str:
    path = folder / f"key{len(list(folder.iterdir()))}"
    command = ["ssh-keygen", "-q", "-N", "", "-f", str(path), *(options or ("-t", "ed25519"))]
    subprocess.run(command, check=True, capture_output=True)
    return path.read_text()


def block(text: str, passphrase: str | None = None, identity: str = WHO) -> SigningKey:
    word = None if passphrase is None else SecretStr(passphrase)
    return SigningKey(private_key=SecretStr(text), passphrase=word, identity=identity)


def test_what_it_signs_is_proven_by_ssh_keygen_with_the_line_that_it_shows(tmp_path: Path) -> None:
    key = block(made(tmp_path))
    (tmp_path / "allowed_signers").write_text(key.allowed_signers + "\n")
    (tmp_path / "x.sig").write_bytes(key.sign(b"content"))
    command = ["ssh-keygen", "-Y", "verify", "-f", "allowed_signers", "-I", WHO, "-n", "evacuation", "-s", "x.sig"]
    assert b"Good" in subprocess.run(command, cwd=tmp_path, input=b"content", check=True, capture_output=True).stdout
    assert key.public_key in key.allowed_signers
    assert signer(key.sign(b"x"), b"x").fingerprint == key.fingerprint


def test_a_key_with_a_passphrase_is_opened_by_it(tmp_path: Path) -> None:
    text = made(tmp_path, "-t", "ed25519", "-N", "a word")
    assert block(text, "a word").sign(b"x")


def test_a_key_pasted_into_a_form_may_lose_its_last_newline(tmp_path: Path) -> None:
    text = made(tmp_path).strip().replace("\n", "\r\n")
    assert block(text, "").sign(b"x")


def test_what_cannot_sign_is_refused_with_all_four_parts_and_without_the_key(tmp_path: Path) -> None:
    plain, locked = made(tmp_path), made(tmp_path, "-t", "ed25519", "-N", "right word")
    pem, public = made(tmp_path, "-t", "rsa", "-m", "PEM"), Path(tmp_path / "key0.pub").read_text()
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("a public one", {"text": public}),
        ("PEM format", {"text": pem}),
        ("none for a key that has one", {"text": locked}),
        ("do not fit", {"text": locked, "passphrase": "wrong word"}),
        ("a key that has none", {"text": plain, "passphrase": "needless word"}),
        ("another text", {"text": plain[: len(plain) // 2]}),
        ("got neither", {"text": ""}),
        ("a shorter one", {"text": made(tmp_path, "-t", "rsa", "-b", "1024")}),
        ("an identity", {"text": plain, "identity": "evacuation@gpu1 cert-authority"}),
        ("an identity", {"text": plain, "identity": "*"}),
    ]
    for told, fields in wrong:
        with pytest.raises(ValidationError, match=told) as raised:
            block(**fields)
        message = str(raised.value)
        assert message.count("expected") == 1
        assert "; got " in message
        assert "Nothing was saved. " in message
        assert not [line for line in fields["text"].splitlines()[1:-1] if line in message]
        assert "word" not in message.replace("password", "")


def test_no_form_of_the_block_shows_the_key(tmp_path: Path) -> None:
    text = made(tmp_path)
    store = EvidenceStore(bucket="evidence", signing=block(text))
    shown = (repr(store), str(store), store.model_dump_json(), repr(store.signing))
    secret = text.splitlines()[2]
    assert not [form for form in shown if secret in form]
    with pytest.raises(ValidationError) as raised:
        EvidenceStore(bucket="E", signing=store.signing)
    assert secret not in str(raised.value)


def test_a_key_is_opened_once_for_its_derivation_may_take_many_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, opened, calls = made(tmp_path), signing_key._decode, list[None]()

    def counted(*given: str) -> PrivateKey:
        calls.append(None)
        return opened(*given)

    monkeypatch.setattr(signing_key, "_decode", counted)
    key = {"private_key": text, "identity": WHO}
    store = EvidenceStore.model_validate({"bucket": "evidence", "signing": key})
    assert store.signing
    assert store.signing.sign(b"x")
    assert store.signing.allowed_signers
    assert len(calls) == 1


def test_a_key_that_cannot_be_used_costs_the_signatures_and_says_why_without_a_secret(tmp_path: Path) -> None:
    plain, locked = made(tmp_path), made(tmp_path, "-t", "ed25519", "-N", "right word")
    wrong: list[tuple[str, Any]] = [
        ("two that do not fit", {"private_key": locked, "passphrase": "wrong word", "identity": WHO}),
        ("none for a key that has one", {"private_key": locked, "identity": WHO}),
        ("one for a key that has none", {"private_key": plain, "passphrase": "needless word", "identity": WHO}),
        ("another text", {"private_key": plain.replace("\n", "x"), "identity": WHO}),
        ("got another text", {"private_key": plain, "identity": "a word mistaken"}),
        ("got another text", {"private_key": WHO, "identity": plain}),
        ("got neither", {"identity": WHO}),
        ("valid string", {"private_key": {"word": plain}, "identity": WHO}),
        ("valid", "a word"),
        ("Field required", {"private_key": plain}),
    ]
    for told, key in wrong:
        store, why = with_usable_key({"bucket": "evidence", "prefix": "x", "signing": key})
        assert (store.place, store.signing) == ("s3://evidence/x", None)
        assert told in why
        assert "word" not in why
        assert not [line for line in (plain + locked).splitlines()[1:-1] if line in why]


def test_a_form_in_which_nobody_gave_a_key_has_none_and_warns_of_nothing() -> None:
    store, why = with_usable_key({"bucket": "evidence", "signing": {}})
    assert (store.signing, why) == (None, "")


def test_a_good_key_is_kept_and_another_fault_of_the_block_is_still_one(tmp_path: Path) -> None:
    key = {"private_key": made(tmp_path), "identity": WHO}
    store, why = with_usable_key({"bucket": "evidence", "signing": key})
    assert (bool(store.signing), why) == (True, "")
    assert with_usable_key({"bucket": "evidence"})[1] == ""
    for signing in (key, {}, None):
        with pytest.raises(ValidationError, match="a bucket name"):
            with_usable_key({"bucket": "No bucket", "signing": signing})


def key_file(folder: Path, mode: int = 0o600) -> Path:
    """A key as a file of ours."""
    (path := folder / "signing.key").write_text(made(folder))
    path.chmod(mode)
    return path


def test_a_key_file_signs_as_the_key_in_it_would_and_nothing_of_it_is_saved(tmp_path: Path) -> None:
    path = key_file(tmp_path)
    key = SigningKey(key_file=path, identity=WHO)
    path.chmod(0o600)
    assert key.sign(b"x") == block(path.read_text()).sign(b"x")
    store, why = with_usable_key({"bucket": "evidence", "signing": {"key_file": str(path), "identity": WHO}})
    assert store.signing
    assert (store.signing.fingerprint, why) == (key.fingerprint, "")
    assert path.read_text().splitlines()[2] not in str(store.signing.model_dump(context={"include_secrets": True}))


@pytest.mark.parametrize("wrong", ["mode", "owner", "link", "folder", "gone", "text", "both"])
def test_a_key_file_that_others_reach_or_that_is_none_signs_nothing(tmp_path: Path, wrong: str) -> None:
    path, fields = key_file(tmp_path, 0o640 if wrong == "mode" else 0o600), dict[str, str]()
    secret = path.read_text()
    if wrong == "owner":
        if os.geteuid():
            pytest.skip("needs root")
        os.chown(path, 12345, -1)
    elif wrong == "text":
        path.write_text("no key")
    elif wrong == "both":
        fields["private_key"] = secret
    elif wrong != "mode":
        path = path.rename(tmp_path / "moved.key")
        moved, path = path, tmp_path / "signing.key"
        if wrong == "link":
            path.symlink_to(moved)
        elif wrong == "folder":
            path.mkdir()
    signing = {"key_file": str(path), "identity": WHO, **fields}
    store, why = with_usable_key({"bucket": "evidence", "signing": signing})
    assert store.signing is None
    assert "expected" in why
    assert not [line for line in secret.splitlines()[1:-1] if line in why]


def test_a_block_with_a_key_file_is_saved_on_a_host_that_has_no_such_file() -> None:
    key = SigningKey(key_file=Path("/nowhere/signing.key"), identity=WHO)
    assert EvidenceStore(bucket="evidence", signing=key).signing == key


@pytest.mark.usefixtures("prefect")
def test_a_file_names_a_saved_key_and_the_store_keeps_the_reference_alone(tmp_path: Path) -> None:
    text = made(tmp_path)
    block(text).save("a-key")
    (tmp_path / "evacuation.toml").write_text('[store.signed]\nbucket = "evidence"\nsigning = "signing-key/a-key"\n')
    [(_, store)] = load(tmp_path / "evacuation.toml")
    store.save("signed")

    loaded = EvidenceStore.load("signed")
    assert isinstance(loaded, EvidenceStore)
    assert loaded.signing
    assert loaded.signing.sign(b"x") == block(text).sign(b"x")
    with get_client(sync_client=True) as client:
        document = client.read_block_document_by_name("signed", "evidence-store", include_secrets=False)
    assert document.block_document_references["signing"]["block_document"]["name"] == "a-key"
    assert text.splitlines()[2] not in document.model_dump_json()


def test_the_flow_loads_nothing_that_signs_before_containment() -> None:
    code = "import sys, flows.evacuate; print([name for name in sys.modules if name.startswith('cryptography')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
