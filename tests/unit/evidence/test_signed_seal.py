"""A seal that is signed: anybody can prove it, no change of it goes unseen, and a key that fails costs no evidence."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore
from tasks.custody.errors import Tampered
from tasks.custody.evidence.acquisition import Evidence, Seal
from tasks.custody.evidence.keys import MANIFEST, SIGNATURE, SUMS
from tasks.custody.store import signature
from tasks.custody.store.manifest import digest_bytes
from tasks.custody.store.objects import all_objects, closing_objects
from tasks.evidence.collect import collect
from tasks.evidence.seal import check_seal, read_manifest, seal
from tasks.evidence.signing import find_signer, note_unsigned, read_signature, unready
from tasks.prefect_side.saved_blocks import SavedStore
from tasks.runtime.context import RunContext
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload


def signing(context: RunContext, key: SigningKey | None) -> RunContext:
    context.store.block = EvidenceStore(folder=context.workload.evidence, signing=key)
    return context


@pytest.fixture
def context(small: SmallWorkload, signing_key: SigningKey) -> Iterator[RunContext]:
    with case_of(small.block()) as opened:
        yield signing(opened, signing_key)


def sealed(context: RunContext) -> Seal:
    evidence = collect.fn(context, "logs").data
    assert isinstance(evidence, Evidence)
    made = seal.fn(context, context.run.volume, [evidence]).data
    assert isinstance(made, Seal)
    return made


def test_anybody_can_prove_it_with_the_line_that_the_block_shows(context: RunContext, signing_key: SigningKey) -> None:
    made = sealed(context)
    assert made.signed_by == signing_key.fingerprint
    (context.directory.path / "allowed_signers").write_text(signing_key.allowed_signers + "\n")
    command = ["ssh-keygen", "-Y", "verify", "-f", "../allowed_signers", "-I", signing_key.identity, "-n", "evacuation"]
    with (context.directory.evidence_dir(1) / MANIFEST).open("rb") as manifest:
        subprocess.run([*command, "-s", SIGNATURE], stdin=manifest, cwd=context.directory.evidence_dir(1), check=True)
    assert check_seal.fn(context, [made]).data == made
    assert list(note_unsigned([made], find_signer(context.store))) == []


def test_the_custody_log_says_who_signed_what(context: RunContext, signing_key: SigningKey) -> None:
    made = sealed(context)
    (entry,) = [entry for entry in context.log.entries() if entry["action"] == "signed"]
    assert (entry["object"], entry["digest"]) == (f"evidence/{MANIFEST}", made.manifest_sha256)
    assert signing_key.fingerprint in entry["result"]
    assert signing_key.identity in entry["result"]


def test_the_signature_goes_up_before_the_manifest_and_is_proven_like_the_rest(context: RunContext) -> None:
    sealed(context)
    manifest, told = read_manifest(context.directory, 1), read_signature(context.directory.evidence_dir(1))
    names = [item.stored_name for item in closing_objects(manifest, told)]
    assert names == [SUMS, SIGNATURE, MANIFEST]
    every = {item.stored_name: item.sha256 for item in all_objects(manifest, "s", told)}
    assert every[SIGNATURE] == digest_bytes(told)
    assert [item.stored_name for item in closing_objects(manifest)] == [SUMS, MANIFEST]


def remove(folder: Path) -> None:
    (folder / SIGNATURE).unlink()


def damage(folder: Path) -> None:
    (folder / SIGNATURE).write_bytes((folder / SIGNATURE).read_bytes().replace(b"A", b"B", 1))


def replace(folder: Path) -> None:
    made = signature.sign(Ed25519PrivateKey.generate(), (folder / MANIFEST).read_bytes())
    (folder / SIGNATURE).write_bytes(made)


@pytest.mark.parametrize("tamper", [remove, damage, replace])
def test_a_signature_that_is_gone_damaged_or_anothers_stops_the_offload(
    context: RunContext, tamper: Callable[[Path], None]
) -> None:
    made = sealed(context)
    tamper(context.directory.evidence_dir(1))
    with pytest.raises(Tampered, match="to be signed by"):
        check_seal.fn(context, [made])


@pytest.mark.parametrize("plant", [replace, lambda folder: (folder / SIGNATURE).write_bytes(b"x")])
def test_a_signature_that_was_planted_stops_it_too(context: RunContext, plant: Callable[[Path], None]) -> None:
    made = sealed(signing(context, None))
    plant(context.directory.evidence_dir(1))
    with pytest.raises(Tampered, match="to be unsigned"):
        check_seal.fn(context, [made])


@pytest.mark.slow
def test_killed_between_signature_and_manifest_it_is_sealed_anew(small: SmallWorkload, signing_key: SigningKey) -> None:
    for key in (signing_key, None):
        with case_of(small.block(), incident="IR-20260102T030405Z" + ("" if key else "-2")) as context:
            sealed(signing(context, signing_key))
            stale = read_signature(context.directory.evidence_dir(1))
            (context.directory.evidence_dir(1) / MANIFEST).unlink()
            made = sealed(signing(context, key))
            assert check_seal.fn(context, [made]).data == made
            assert read_signature(context.directory.evidence_dir(1)) != stale
            assert bool(made.signed_by) == bool(key)


class Broken:
    """A key that could be loaded and does not sign."""

    identity, fingerprint, public_key = "x@y", "SHA256:x", "ssh-ed25519 AAAA"

    def sign(self, data: bytes) -> bytes:
        """Fail."""
        del data
        raise RuntimeError("the token is gone")


def test_a_key_that_fails_costs_the_signature_and_nothing_else(context: RunContext) -> None:
    object.__setattr__(context.store.block, "signing", Broken())
    made = sealed(context)
    assert check_seal.fn(context, [made]).data == made
    assert made.signed_by == ""
    (entry,) = [entry for entry in context.log.entries() if entry["action"] == "unsigned"]
    assert "the token is gone" in entry["result"]
    assert list(note_unsigned([made], find_signer(context.store))) == [
        "evidence was sealed unsigned; a record whose closing is signed vouches for its manifest"
    ]


def test_a_store_block_that_cannot_be_made_still_lets_evidence_be_sealed(small: SmallWorkload) -> None:
    with case_of(small.block(), saved={"bucket": "No bucket"}) as context:
        made = sealed(context)
        assert check_seal.fn(context, [made]).data == made
        assert list(note_unsigned([made], find_signer(context.store))) == [
            "unsigned: the store block cannot be used: ValidationError"
        ]


@pytest.mark.slow
def test_a_key_that_cannot_be_opened_leaves_the_store_usable_and_is_told_as_why_nothing_is_signed(
    small: SmallWorkload, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "right word", "-f", path], check=True)
    key = {"private_key": path.read_text(), "passphrase": "wrong word", "identity": "x@y"}
    with case_of(small.block(), saved={"folder": str(tmp_path), "signing": key}) as context:
        made = sealed(context)
        assert context.store.evidence.place == str(tmp_path)
        assert check_seal.fn(context, [made]).data == made
        (note,) = note_unsigned([made], find_signer(context.store))
        assert note.startswith("unsigned: the key in the store block cannot be used: expected a key and its passphrase")
        kept = b"".join(each.read_bytes() for each in context.directory.path.rglob("*") if each.is_file()).decode(
            errors="replace"
        )
    for told in (note, caplog.text, kept, repr(context), repr(context.store.block)):
        assert "wrong word" not in told
        assert path.read_text().splitlines()[2] not in told


@pytest.mark.slow
def test_the_start_of_a_run_warns_of_a_key_that_cannot_be_opened_without_opening_it(tmp_path: Path) -> None:
    path = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "right word", "-f", path], check=True)
    locked, plain = path.read_text(), tmp_path / "plain"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", plain], check=True)
    wrong: list[tuple[str, object]] = [
        ("has a passphrase", {"private_key": locked}),
        ("has no passphrase", {"private_key": plain.read_text(), "passphrase": "needless word"}),
        ("no private key of OpenSSH", {"private_key": path.with_suffix(".pub").read_text()}),
        ("no private key of OpenSSH", {"private_key": plain.read_text().replace("b3Bl", "b3Bl\0")}),
        ("no private key of OpenSSH", {}),
        ("no private key of OpenSSH", "a word"),
    ]
    for told, key in wrong:
        assert told in unready(SavedStore("house", {"signing": key}))
    for saved in ({}, {"signing": None}, {"signing": {"private_key": plain.read_text().replace("\n", "\r\n")}}):
        assert unready(SavedStore("house", saved)) == ""
    assert unready(SavedStore("house", {"signing": {"private_key": locked, "passphrase": "a word"}})) == ""
    in_file = SavedStore("house", {"signing": {"key_file": str(plain), "private_key": ""}})
    assert unready(in_file) == "", "the block holds no key to look at"


def test_no_key_is_said_once(context: RunContext) -> None:
    made = sealed(signing(context, None))
    assert list(note_unsigned([made], find_signer(context.store))) == ["unsigned: no signing key in the store block"]
