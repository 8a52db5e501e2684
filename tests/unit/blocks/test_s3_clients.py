"""What the clients of a store share, and what they do not."""

import boto3
import pytest
from botocore.loaders import JSONFileLoader

from blocks.s3.clients import boto3_client


@pytest.mark.slow
def test_a_second_client_reads_no_description_of_the_service_again(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = list[str]()
    load_file = JSONFileLoader.load_file

    def load(self: JSONFileLoader, path: str) -> object:
        loaded.append(path)
        return load_file(self, path)

    monkeypatch.setattr(JSONFileLoader, "load_file", load)

    def client(key: str) -> str:
        session = boto3.Session(aws_access_key_id=key, aws_secret_access_key="secret")
        made = boto3_client(session, "http://127.0.0.1:1", "us-east-1", None)
        url = made.generate_presigned_url("get_object", Params={"Bucket": "evidence", "Key": "k"})
        return url.partition("Credential=")[2].partition("%")[0]

    assert client("first") == "first"
    loaded.clear()
    assert client("other") == "other", "credentials are a session's own"
    assert loaded == []
