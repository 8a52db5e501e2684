"""Retention on a real server with Object Lock: nobody deletes or shortens, and nothing that we do shortens either."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError
from prefect_aws import AwsCredentials
from pydantic import ValidationError

from blocks.port import StoredObject
from blocks.s3 import store as s3
from blocks.s3.store import S3Store
from blocks.store import EvidenceStore
from tasks.custody.errors import Conflict, PermanentStoreError
from tasks.custody.store.retention import NOTHING, Retention
from tasks.drill.store_and_worker import SeaweedFS
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.examine import examine
from tasks.readiness.store import check_canary, check_lock
from tests.support.workloads import SmallWorkload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ASKED = Retention("governance", 30, hold=True)


class Vault:
    """A bucket with Object Lock, and its owner's own client."""

    def __init__(self, client: "S3Client", seaweed: SeaweedFS, credentials: AwsCredentials) -> None:
        """Make it; it stays until the server's folder is removed."""
        self.client, self.name = client, f"vault-{uuid4().hex[:8]}"
        self._seaweed, self._credentials = seaweed, credentials
        client.create_bucket(Bucket=self.name, ObjectLockEnabledForBucket=True)

    def store(self, asked: Retention, bucket: str = "") -> S3Store:
        """A store that retains, or one that does not."""
        return S3Store(
            bucket or self.name, "x", credentials=self._credentials, endpoint=self._seaweed.endpoint, retention=asked
        )

    def refuses(self, act: str, key: str, **arguments: Any) -> None:
        """The server denies it to whoever may do anything else."""
        with pytest.raises(ClientError, match="AccessDenied"):
            getattr(self.client, act)(Bucket=self.name, Key=f"x/{key}", **arguments)


@pytest.fixture
def vault(seaweed: SeaweedFS, credentials: AwsCredentials) -> Iterator[Vault]:
    client = credentials.get_boto3_session().client("s3", endpoint_url=seaweed.endpoint)
    yield Vault(client, seaweed, credentials)
    client.close()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(store: S3Store, key: str, data: bytes = b"x") -> StoredObject:
    store.create(key, data, sha(data))
    return seen(store, key)


def seen(store: S3Store, key: str) -> StoredObject:
    found = store.head(key)
    assert found
    return found


def lacking(asked: Retention, there: StoredObject, since: datetime | None = None) -> str:
    since = since or datetime.now(UTC) - timedelta(minutes=1)
    return asked.lacking(there.lock, there.retained_until, held=there.held, since=since)


def test_what_is_created_or_copied_is_locked_and_held_at_once(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "STREAM_ABOVE", 1000)
    store, large = vault.store(ASKED), tmp_path / "large"
    large.write_bytes(b"large" * 1000)
    put(store, "small")
    store.create("large", large, sha(large.read_bytes()))
    store.copy("large", "snapshots/large", sha(large.read_bytes()))
    for key in ("small", "large", "snapshots/large"):
        assert lacking(ASKED, seen(store, key)) == ""
        assert seen(store, key).retained_until == ASKED.until(datetime.now(UTC))
    assert store.unfit() == ""


def test_the_server_refuses_to_delete_or_to_shorten_it(vault: Vault) -> None:
    put(vault.store(ASKED), "a")
    version = vault.client.head_object(Bucket=vault.name, Key="x/a")["VersionId"]
    sooner = {"Mode": "GOVERNANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(days=1)}
    vault.refuses("delete_object", "a", VersionId=version)
    vault.refuses("put_object_retention", "a", Retention=sooner)
    assert lacking(ASKED, seen(vault.store(ASKED), "a")) == ""


def test_after_its_hold_is_lifted_a_lock_still_holds_and_compliance_whatever_the_right(vault: Vault) -> None:
    put(vault.store(Retention("compliance", 2, hold=True)), "a")
    version = vault.client.head_object(Bucket=vault.name, Key="x/a")["VersionId"]
    vault.client.put_object_legal_hold(Bucket=vault.name, Key="x/a", LegalHold={"Status": "OFF"})
    vault.refuses("delete_object", "a", VersionId=version, BypassGovernanceRetention=True)


def test_latest_follows_the_next_incident_whatever_is_locked(vault: Vault) -> None:
    store = vault.store(ASKED)
    put(store, "a", b"1")
    put(store, "b", b"2")
    store.copy("a", "latest/m", sha(b"1"), replace=True)
    store.copy("b", "latest/m", sha(b"2"), replace=True)
    assert seen(store, "latest/m").sha256 == sha(b"2")


def test_what_an_earlier_run_left_without_a_lock_gets_one_and_nothing_is_shortened(vault: Vault) -> None:
    plain, store, longer = vault.store(NOTHING), vault.store(ASKED), Retention("compliance", 300)
    for key in ("a", "copy"):
        assert lacking(ASKED, put(plain, key)) != ""
    put(store, "a")
    store.copy("a", "copy", sha(b"x"))
    for key in ("a", "copy"):
        assert lacking(ASKED, seen(store, key)) == ""
    before = put(vault.store(longer), "b")
    assert put(vault.store(Retention("governance", 1)), "b") == before
    assert lacking(longer, before) == ""


def test_the_same_run_again_changes_nothing_and_never_weakens_a_lock(vault: Vault) -> None:
    store = vault.store(ASKED)
    before = put(store, "a")
    assert put(store, "a") == before
    longer = Retention("governance", 60, hold=True)
    assert lacking(longer, put(vault.store(longer), "a")) == ""
    stronger = Retention("compliance", 60)
    told = lacking(stronger, put(vault.store(stronger), "a"))
    assert told == "it is locked in governance mode, compliance was asked"


def test_other_content_is_a_conflict_and_what_is_there_stays_as_it_was(vault: Vault) -> None:
    before = put(vault.store(NOTHING), "a")
    with pytest.raises(Conflict):
        put(vault.store(ASKED), "a", b"other")
    assert seen(vault.store(ASKED), "a") == before


def test_a_bucket_without_object_lock_takes_the_evidence_and_is_told_of(vault: Vault, seaweed: SeaweedFS) -> None:
    store = vault.store(ASKED, bucket=seaweed.bucket)
    assert store.unfit() == (f"the bucket {seaweed.bucket} has no Object Lock: ObjectLockConfigurationNotFoundError")
    key = uuid4().hex
    assert (
        lacking(ASKED, put(store, key))
        == "it is not locked, or the lock is hidden without s3:GetObjectRetention; governance for 30 days was asked"
    )
    store.copy(key, f"{key}-copy", sha(b"x"))
    assert seen(store, f"{key}-copy").sha256 == sha(b"x")
    assert vault.store(NOTHING, bucket=seaweed.bucket).unfit() == ""


def mute(client: "S3Client", bucket: str) -> None:
    """The bucket no longer says whether it has Object Lock."""
    denied = '{"Effect":"Deny","Principal":"*","Action":["s3:GetBucketObjectLockConfiguration"],"Resource":'
    policy = f'{{"Version":"2012-10-17","Statement":[{denied}"arn:aws:s3:::{bucket}"}}]}}'
    client.put_bucket_policy(Bucket=bucket, Policy=policy)


def test_a_bucket_that_neither_locks_nor_says_so_takes_the_evidence_and_is_told_of(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "STREAM_ABOVE", 1000)
    plain, large = f"plain-{uuid4().hex[:8]}", tmp_path / "large"
    large.write_bytes(b"large" * 1000)
    vault.client.create_bucket(Bucket=plain)
    put(vault.store(NOTHING, bucket=plain), "earlier")
    mute(vault.client, plain)
    for asked in (ASKED, Retention(hold=True)):
        for first in ("small", "large", "copy", "earlier"):
            store = vault.store(asked, bucket=plain)
            if first == "large":
                store.create(f"{asked.hold}{asked.lock}large", large, sha(large.read_bytes()))
            elif first == "copy":
                store.copy("earlier", f"{asked.hold}{asked.lock}copy", sha(b"x"))
            else:
                assert lacking(asked, put(store, "earlier" if first == "earlier" else f"{asked.lock}small")) != ""
            assert store.unfit().startswith(f"the bucket {plain} refuses what is asked: InvalidRequest")
            assert put(store, f"{asked.lock}{first}-next").sha256 == sha(b"x")


def test_a_bucket_that_locks_and_does_not_say_so_locks(vault: Vault) -> None:
    mute(vault.client, vault.name)
    store = vault.store(ASKED)
    assert lacking(ASKED, put(store, "a")) == ""
    assert store.unfit() == ""


def test_a_hold_alone_is_possible(vault: Vault) -> None:
    asked = Retention(hold=True)
    there = put(vault.store(asked), "a")
    assert (there.lock, there.retained_until, there.held) == ("", None, True)


def test_a_bucket_that_is_missing_is_still_a_permanent_error(vault: Vault) -> None:
    store = vault.store(ASKED, bucket="no-such-bucket")
    for act in (store.unfit, lambda: put(store, "a")):
        with pytest.raises(PermanentStoreError, match="Create the bucket"):
            act()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"bucket": "evidence", "lock": "governance"}, "a lock with its days"),
        ({"bucket": "evidence", "lock_days": 30}, "a lock with its days"),
        ({"bucket": "evidence", "lock": "strict", "lock_days": 1}, "governance"),
        ({"bucket": "evidence", "lock": "governance", "lock_days": -1}, "greater than"),
        ({"bucket": "evidence", "lock": "governance", "lock_days": 36_501}, "less than"),
        ({"folder": "/srv/x", "lock": "governance", "lock_days": 1}, "retention of a bucket only"),
        ({"folder": "/srv/x", "legal_hold": True}, "retention of a bucket only"),
    ],
)
def test_retention_that_cannot_be_is_not_saved(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        EvidenceStore(**fields)


def test_the_block_opens_a_store_that_retains(vault: Vault, seaweed: SeaweedFS, credentials: AwsCredentials) -> None:
    fields = {"lock": "governance", "lock_days": 30, "legal_hold": True}
    block = EvidenceStore(bucket=vault.name, endpoint=seaweed.endpoint, credentials=credentials, **fields)
    assert block.retention == ASKED
    store = block.open()
    assert isinstance(store, S3Store)
    assert lacking(ASKED, put(store, "a")) == ""


def test_a_store_that_refuses_retention_is_a_permanent_error_that_says_what_to_allow(vault: Vault) -> None:
    policy = (
        '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":["s3:PutObjectRetention",'
        f'"s3:PutObjectLegalHold"],"Resource":"arn:aws:s3:::{vault.name}/*"}}]}}'
    )
    put(vault.store(NOTHING), "a")
    vault.client.put_bucket_policy(Bucket=vault.name, Policy=policy)
    with pytest.raises(PermanentStoreError, match="s3:PutObjectRetention"):
        put(vault.store(ASKED), "a")


@pytest.mark.parametrize(("lock", "found"), [("governance", "sound"), ("compliance", "loss"), ("", "sound")])
def test_a_doctors_canary_is_locked_for_a_day_and_compliance_is_called_untested(
    vault: Vault, small: SmallWorkload, lock: str, found: str
) -> None:
    keys, place = vault._credentials, {"bucket": vault.name, "endpoint": vault._seaweed.endpoint}
    saved = {**place, "credentials": keys, "lock": lock, "lock_days": 30 if lock else 0}
    for _ in range(2):
        patient = CheckTarget("small", small.block(), "store", saved)
        readiness = examine(patient, {"store": (check_canary, check_lock)})
        assert [str(each.weight) for each in readiness.findings] == ["sound", found]
    assert patient.seen
    assert patient.seen.lock == ("governance" if lock == "governance" else "")
    if until := patient.seen.retained_until:
        assert timedelta(hours=23) < until - datetime.now(UTC) <= timedelta(days=1)
        versions = vault.client.list_object_versions(Bucket=vault.name, Prefix=".evacuation-canary/")["Versions"]
        assert len({each["Key"] for each in versions}) == 1
        with pytest.raises(ClientError, match="AccessDenied"):
            vault.client.delete_object(Bucket=vault.name, Key=versions[0]["Key"], VersionId=versions[0]["VersionId"])
