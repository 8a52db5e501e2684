"""The evidence store block: what it refuses to save, and that it never shows or stores a secret."""

from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect_aws import AwsCredentials, MinIOCredentials
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr, ValidationError

from blocks.directory import DirectoryStore
from blocks.s3.store import S3Store
from blocks.store import EvidenceStore
from tasks.drill.store_and_worker import SeaweedFS

SECRET = "only-the-credentials-block-knows-this"


def load(name: str) -> EvidenceStore:
    block = EvidenceStore.load(name)
    assert isinstance(block, EvidenceStore)
    return block


def minio() -> MinIOCredentials:
    return MinIOCredentials(minio_root_user="root", minio_root_password=SecretStr(SECRET))


@pytest.mark.parametrize(
    ("bucket", "prefix", "place"),
    [
        ("evidence", "", "s3://evidence"),
        ("evidence", "/team/a/", "s3://evidence/team/a"),
        ("s3://evidence", "", "s3://evidence"),
        ("s3://evidence/", "team", "s3://evidence/team"),
        ("s3://evidence/team/a/", "", "s3://evidence/team/a"),
        ("s3://my.evidence-1/team", "team/", "s3://my.evidence-1/team"),
    ],
)
def test_bucket_and_prefix_end_up_apart(bucket: str, prefix: str, place: str) -> None:
    block = EvidenceStore(bucket=bucket, prefix=prefix)
    assert block.place == place
    assert "/" not in str(block.bucket)
    assert EvidenceStore(**block.model_dump()).place == place


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "neither"),
        ({"bucket": "evidence", "folder": "/srv/evidence"}, "both"),
        ({"bucket": ""}, "3 to 63"),
        ({"bucket": "s3://"}, "3 to 63"),
        ({"bucket": "s3:///prefix"}, "3 to 63"),
        ({"bucket": "ab"}, "3 to 63"),
        ({"bucket": "a" * 64}, "3 to 63"),
        ({"bucket": "Evidence"}, "3 to 63"),
        ({"bucket": "my_evidence"}, "3 to 63"),
        ({"bucket": "evidence-"}, "3 to 63"),
        ({"bucket": "evi..dence"}, "3 to 63"),
        ({"bucket": "192.168.1.1"}, "3 to 63"),
        ({"bucket": "evidence/prefix"}, "3 to 63"),
        ({"bucket": "https://evidence"}, "3 to 63"),
        ({"bucket": "s3://evidence/one", "prefix": "two"}, "one place only"),
        ({"bucket": "evidence", "prefix": "a//b"}, "plain segments"),
        ({"bucket": "evidence", "prefix": "a/../b"}, "plain segments"),
        ({"bucket": "evidence", "prefix": "a b\n"}, "plain segments"),
        ({"bucket": "evidence", "endpoint": "minio:9000"}, "http or https"),
        ({"bucket": "evidence", "endpoint": ""}, "http or https"),
        ({"bucket": "evidence", "endpoint": "ftp://minio"}, "http or https"),
        ({"bucket": "evidence", "endpoint": "http://"}, "http or https"),
        ({"bucket": "evidence", "endpoint": "http://minio:99999"}, "http or https"),
        ({"bucket": "evidence", "endpoint": "http://minio/evidence"}, "http or https"),
        ({"bucket": "evidence", "timestamp_url": "tsa.example/tsr"}, "without user or query"),
        ({"bucket": "evidence", "timestamp_url": "file:///etc/tsr"}, "without user or query"),
        ({"bucket": "evidence", "timestamp_url": "https://tsa.example:x/"}, "without user or query"),
        ({"bucket": "evidence", "credentials": minio()}, "endpoint"),
        (
            {
                "bucket": "evidence",
                "credentials": AwsCredentials(
                    aws_client_parameters=AwsClientParameters(endpoint_url="http://minio:9000")
                ),
            },
            "client parameters",
        ),
        ({"bucket": "evidence", "promoter": minio()}, "endpoint"),
        ({"folder": "evidence"}, "absolute path"),
    ],
)
def test_what_cannot_work_is_refused_with_all_four_parts(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as raised:
        EvidenceStore(**fields)
    message = str(raised.value)
    assert told in message
    assert message.count("expected") == 1
    assert "; got " in message
    assert "Nothing was saved." in message


@pytest.mark.parametrize(
    "fields",
    [
        {"endpoint": f"http://root:{SECRET}@minio:9000"},
        {"timestamp_url": f"http://root:{SECRET}@tsa.example/tsr"},
        {"timestamp_url": f"http://tsa.example/tsr?key={SECRET}"},
        {"credentials": {"block_type_slug": "minio-credentials", "minio_root_password": SECRET}},
        {"credentials": {"minio_root_user": "root", "minio_root_password": SECRET}, "prefix": ".."},
        {"credentials": {"aws_access_key_id": ["no"], "aws_secret_access_key": SECRET}},
        {"credentials": minio()},
    ],
)
def test_no_message_shows_a_secret(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as raised:
        EvidenceStore(bucket="evidence", **fields)
    assert SECRET not in str(raised.value)
    assert SECRET not in repr(raised.value)


def test_no_repr_shows_a_secret() -> None:
    block = EvidenceStore(bucket="evidence", endpoint="http://minio:9000", credentials=minio())
    assert SECRET not in repr(block)
    assert SECRET not in str(block)
    assert SECRET not in block.model_dump_json()
    assert SECRET not in repr(block.open())


def test_a_folder_opens_as_a_folder(tmp_path: Path) -> None:
    block = EvidenceStore(folder=tmp_path)
    assert isinstance(block.open(), DirectoryStore)
    assert block.open().place == block.place == str(tmp_path)


def test_a_bucket_opens_as_a_bucket(s3_block: EvidenceStore) -> None:
    store = s3_block.open()
    assert isinstance(store, S3Store)
    assert store.place == s3_block.place
    assert store.head("nothing") is None


@pytest.mark.usefixtures("prefect")
@pytest.mark.parametrize("kind", ["aws", "minio"])
def test_saved_credentials_stay_a_reference(kind: str, seaweed: SeaweedFS) -> None:
    secret = SecretStr(seaweed.secret_key)
    keys: AwsCredentials | MinIOCredentials = (
        AwsCredentials(aws_access_key_id=seaweed.access_key, aws_secret_access_key=secret)
        if kind == "aws"
        else MinIOCredentials(minio_root_user=seaweed.access_key, minio_root_password=secret)
    )
    keys.save(f"keys-{kind}")
    saved = type(keys).load(f"keys-{kind}")
    EvidenceStore(bucket=f"s3://{seaweed.bucket}/{kind}", endpoint=seaweed.endpoint, credentials=saved).save(kind)

    loaded = load(kind)
    assert type(loaded.credentials) is type(keys)
    assert loaded.place == f"s3://{seaweed.bucket}/{kind}"
    assert loaded.open().head("nothing") is None

    keys.region_name = "mars-north-1"
    keys.save(f"keys-{kind}", overwrite=True)
    renewed = load(kind).credentials
    assert renewed is not None
    assert renewed.region_name == "mars-north-1"

    with get_client(sync_client=True) as client:
        document = client.read_block_document_by_name(kind, "evidence-store", include_secrets=False)
    assert document.block_document_references["credentials"]["block_document"]["name"] == f"keys-{kind}"
    assert seaweed.secret_key not in document.model_dump_json()
