"""Signed and retained: one evacuation into a bucket with Object Lock, and what happens where either cannot be had."""

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect_aws import AwsCredentials

from blocks.port import Store
from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore
from tasks.custody.evidence.keys import begun_key, done_key
from tasks.drill.store_and_worker import SeaweedFS
from tests.support.scenes import Scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

LOCKED = {"lock": "governance", "lock_days": 30, "legal_hold": True}


@pytest.fixture
def client(seaweed: SeaweedFS, credentials: AwsCredentials) -> "Iterator[S3Client]":
    made = credentials.get_boto3_session().client("s3", endpoint_url=seaweed.endpoint)
    yield made
    made.close()


@pytest.fixture
def vault(client: "S3Client") -> str:
    """A bucket with Object Lock."""
    name = f"vault-{uuid4().hex[:8]}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


@pytest.fixture
def saved(scene: Scene, signing_key: SigningKey) -> SigningKey:
    """The key, under a name of its own on the server."""
    signing_key.save(f"k{scene.name}")
    loaded = SigningKey.load(f"k{scene.name}")
    assert isinstance(loaded, SigningKey)
    return loaded


def proven(store: Store, key: str, signer: SigningKey, folder: Path) -> bool:
    """With ssh-keygen alone, of what the bucket gives back."""
    (folder / "allowed_signers").write_text(signer.allowed_signers + "\n")
    (folder / "it.sig").write_bytes(store.read(f"{key}.sig"))
    command = ["ssh-keygen", "-Y", "verify", "-f", "allowed_signers", "-I", signer.identity, "-n", "evacuation"]
    told = subprocess.run(
        [*command, "-s", "it.sig"], input=store.read(key), cwd=folder, capture_output=True, check=False
    )
    return told.returncode == 0


def test_everything_that_is_kept_is_locked_and_what_vouches_for_it_is_signed(  # noqa: PLR0913, PLR0917  a real scene
    scene: Scene, vault: str, saved: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: "S3Client"
) -> None:
    asked = {"bucket": vault, "signing": saved, "timestamp_url": "http://127.0.0.1:9/nobody", **LOCKED}
    scene.save(store=scene.store_block.model_copy(update=asked))
    monkeypatch.setattr(EvidenceStore, "load", None)  # whoever asked the server again would fail
    scene.small.start_all()
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    assert "No time vouched for 時刻の証明なし: http://127.0.0.1:9/nobody: ConnectError" in str(state.message)
    home, store = f"incidents/{scene.home.name}", scene.store
    assert store.head(f"{home}/record/001/unstamped.json")
    kept = [each.key for each in store.list("") if not each.key.startswith("latest/")]
    assert {key.split("/")[0] for key in kept} == {"incidents", "snapshots", "promotions"}
    for there in map(store.head, kept):
        assert there
        assert (there.lock, there.held, there.retained_until is not None) == ("governance", True, True), there.key
    for name in (f"{home}/evidence/manifest.json", f"{home}/record/001/closing.json"):
        assert proven(store, name, saved, tmp_path)
    closing = json.loads(store.read(f"{home}/record/001/closing.json"))
    assert closing["signer"] == {
        "identity": saved.identity,
        "fingerprint": saved.fingerprint,
        "public_key": saved.public_key,
    }
    for key in (f"{home}/evidence/models/model_builtin.joblib", f"{home}/record/001/closing.json.sig"):
        whole = f"{scene.store_block.prefix}/{key}"
        version = client.head_object(Bucket=vault, Key=whole)["VersionId"]
        with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
            client.delete_object(Bucket=vault, Key=whole, VersionId=version)

    again = scene.evacuate(incident_id=scene.home.name)
    assert again.name == "Verified", again.message
    assert proven(store, f"{home}/record/002/closing.json", saved, tmp_path)

    needle = saved.private_key.get_secret_value().splitlines()[2].encode()
    for path in scene.home.rglob("*"):
        assert not path.is_file() or needle not in path.read_bytes(), path
    with get_client(sync_client=True) as server:
        assert needle.decode() not in str(server.read_artifacts())


@pytest.mark.soak
def test_a_bucket_without_locks_stops_nothing_and_is_no_proof_until_another_one_has_them(
    scene: Scene, vault: str
) -> None:
    scene.small.start_all()
    plain = scene.store_block
    scene.save(store=plain.model_copy(update=LOCKED))
    state = scene.evacuate()
    assert state.name == "Unverified"
    assert scene.small.living() == []
    verdict = json.loads((scene.home / "record/001/verdict.json").read_bytes())["verdict"]
    assert any("has no Object Lock" in note for note in verdict["notes"])
    assert "unsigned: no signing key in the store block" in verdict["notes"]
    assert "it is not locked" in verdict["missing"][0]
    assert scene.store.head(f"incidents/{scene.home.name}/evidence/manifest.json")

    scene.save(store=plain.model_copy(update={"bucket": vault, **LOCKED}))
    again = scene.evacuate(incident_id=scene.home.name)
    assert again.name == "Verified", again.message


@pytest.mark.soak
def test_a_lock_that_is_asked_for_later_is_set_by_the_next_run_of_the_incident(scene: Scene, vault: str) -> None:
    scene.save(store=scene.store_block.model_copy(update={"bucket": vault}))
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    key = f"incidents/{scene.home.name}/evidence/manifest.json"
    before = scene.store.head(key)
    assert before
    assert not before.held

    scene.save(store=scene.store_block.model_copy(update=LOCKED))
    again = scene.evacuate(incident_id=scene.home.name)
    assert again.name == "Verified", again.message
    assert scene.store.head(begun_key(1))
    for each in map(scene.store.head, [key, f"incidents/{scene.home.name}/claim.json", begun_key(1), done_key(1)]):
        assert each
        assert (each.lock, each.held) == ("governance", True)


@pytest.mark.soak
def test_a_rehearsal_is_told_as_if_it_were_locked(scene: Scene, vault: str) -> None:
    scene.save(store=scene.store_block.model_copy(update={"bucket": vault, **LOCKED}))
    state = scene.evacuate(dry_run=True)
    assert state.name == "DryRun", state.message
    (verdict,) = scene.block.evidence.glob("dry-run/*/record/001/verdict.json")
    said = json.loads(verdict.read_bytes())["verdict"]
    assert not [each for each in said["missing"] if "locked" in each]
    assert list(scene.store.list("")) == []
