"""What a person is told when S3 says no, and that a store that cannot answer is known soon."""

import hashlib
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from obstore.exceptions import GenericError
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.port import Store
from blocks.s3 import store as s3
from blocks.s3.errors import explain
from blocks.s3.store import S3Store
from tasks.custody.errors import BusyStoreError, Denied, PermanentStoreError, StoreError, TransientStoreError
from tasks.drill.store_and_worker import SeaweedFS
from tests.integration.s3.proxy import Proxy, Rule, refuse

Act = Callable[[Store], object]
SHA = hashlib.sha256(b"x").hexdigest()
ACTS: dict[str, Act] = {
    "create": lambda store: store.create("key", b"x", SHA),
    "copy": lambda store: store.copy("key", "other", SHA),
    "head": lambda store: store.head("key"),
    "holds": lambda store: store.ensure_present("key", SHA),
    "end": lambda store: store.end_unfinished("incidents/IR-1/"),
    "read": lambda store: store.read("key"),
    "list": lambda store: list(store.list("")),
}


@pytest.fixture(params=ACTS)
def act(request: pytest.FixtureRequest) -> Act:
    return ACTS[request.param]


@pytest.fixture(autouse=True)
def soon() -> Iterator[None]:
    """Fail a test whose store took so long to fail that an operator would wait for it."""
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < 10


def keys(access: str, secret: str) -> AwsCredentials:
    return AwsCredentials(aws_access_key_id=access, aws_secret_access_key=SecretStr(secret), region_name="us-east-1")


def test_a_wrong_secret_is_permanent(seaweed: SeaweedFS, act: Act) -> None:
    store = S3Store(seaweed.bucket, "", credentials=keys(seaweed.access_key, "wrong-secret"), endpoint=seaweed.endpoint)
    with pytest.raises(PermanentStoreError, match="secret") as raised:
        act(store)
    assert "wrong-secret" not in str(raised.value)
    assert seaweed.secret_key not in str(raised.value)


def test_an_unknown_key_is_permanent(seaweed: SeaweedFS, act: Act) -> None:
    store = S3Store(seaweed.bucket, "", credentials=keys("NOSUCHKEY", "x"), endpoint=seaweed.endpoint)
    with pytest.raises(PermanentStoreError, match="key"):
        act(store)


def test_a_missing_bucket_is_permanent(seaweed: SeaweedFS, credentials: AwsCredentials, act: Act) -> None:
    store = S3Store("no-such-bucket", "", credentials=credentials, endpoint=seaweed.endpoint)
    with pytest.raises(PermanentStoreError, match="Create the bucket"):
        act(store)


@pytest.mark.short(1)
@pytest.mark.sample(3)
def test_an_unreachable_endpoint_is_transient(credentials: AwsCredentials, act: Act) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        store = S3Store("evidence", "", credentials=credentials, endpoint=f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(TransientStoreError, match="network"):
            act(store)


@pytest.mark.whole
def test_an_endpoint_that_swallows_packets_is_transient(credentials: AwsCredentials) -> None:
    """For each operation; side by side, as each waits for seconds."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        endpoint = f"http://127.0.0.1:{full.getsockname()[1]}"

        def tried(act: Act) -> object:
            return act(S3Store("evidence", "", credentials=credentials, endpoint=endpoint))

        with ThreadPoolExecutor(len(ACTS)) as pool:
            for trial in [pool.submit(tried, act) for act in ACTS.values()]:
                assert isinstance(trial.exception(), TransientStoreError)


def test_a_large_file_fails_alike(seaweed: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "STREAM_ABOVE", 1)
    source = tmp_path / "large"
    source.write_bytes(b"large")
    store = S3Store(seaweed.bucket, "", credentials=keys(seaweed.access_key, "wrong"), endpoint=seaweed.endpoint)
    with pytest.raises(PermanentStoreError, match="secret"):
        store.create("large", source, hashlib.sha256(b"large").hexdigest())


def test_the_environment_cannot_send_evidence_elsewhere(
    seaweed: SeaweedFS, credentials: AwsCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_REGION", "mars-north-1")
    for act in list(ACTS.values()):
        act(S3Store(seaweed.bucket, "elsewhere", credentials=credentials, endpoint=seaweed.endpoint))


def test_no_credentials_at_all_is_permanent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(PermanentStoreError, match="credentials"):
        S3Store("evidence", "")


def answer(status: int, code: str) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "PutObject")


def quoted(status: int, code: str) -> GenericError:
    return GenericError(f"Server returned non-2xx status code: {status} X: <Error><Code>{code}</Code></Error>")


@pytest.mark.parametrize(
    ("error", "kind", "remedy"),
    [
        (answer(403, "AccessDenied"), Denied, "s3:PutObject"),
        (answer(403, "403"), Denied, "s3:PutObject"),
        (answer(400, "ExpiredToken"), PermanentStoreError, "Renew"),
        (answer(403, "SignatureDoesNotMatch"), PermanentStoreError, "secret"),
        (answer(301, "PermanentRedirect"), PermanentStoreError, "region"),
        (answer(400, "AuthorizationHeaderMalformed"), PermanentStoreError, "region"),
        (answer(403, "RequestTimeTooSkewed"), PermanentStoreError, "clock"),
        (answer(400, "EntityTooLarge"), PermanentStoreError, "5 GiB"),
        (answer(418, "NeverHeardOf"), PermanentStoreError, "what the store says"),
        (answer(503, "SlowDown"), BusyStoreError, "again"),
        (answer(500, "InternalError"), TransientStoreError, "again"),
        (answer(501, "NotImplemented"), PermanentStoreError, "what the store says"),
        (answer(502, "BadGateway"), TransientStoreError, "again"),
        (answer(409, "ConditionalRequestConflict"), TransientStoreError, "again"),
        (answer(503, "SlowDown"), BusyStoreError, "its load"),
        (answer(429, "TooManyRequests"), BusyStoreError, "its load"),
        (answer(400, "RequestTimeout"), TransientStoreError, "network"),
        (EndpointConnectionError(endpoint_url="http://x"), TransientStoreError, "network"),
        (ConnectTimeoutError(endpoint_url="http://x"), TransientStoreError, "network"),
        (ReadTimeoutError(endpoint_url="http://x"), TransientStoreError, "network"),
        (SSLError(endpoint_url="http://x", error=OSError("bad")), PermanentStoreError, "authority"),
        (NoCredentialsError(), PermanentStoreError, "credentials"),
        (quoted(503, "SlowDown"), BusyStoreError, "again"),
        (quoted(403, "ExpiredToken"), PermanentStoreError, "Renew"),
        (quoted(403, "RequestTimeTooSkewed"), PermanentStoreError, "clock"),
        (GenericError("error sending request: operation timed out"), TransientStoreError, "network"),
        (GenericError("error sending request: invalid peer certificate"), PermanentStoreError, "authority"),
    ],
)
def test_each_answer_has_its_remedy(error: Exception, kind: type[StoreError], remedy: str) -> None:
    told = explain(error, "something")
    assert type(told) is kind
    assert remedy in told.remedy


@pytest.mark.parametrize("status", [500, 502, 503, 504, 507, 599])
@pytest.mark.parametrize("make", [answer, quoted])
def test_of_a_store_that_answers_nobody_is_sent_to_look_for_its_endpoint(
    make: Callable[[int, str], Exception], status: int
) -> None:
    told = explain(make(status, "SlowDown"), "something")
    assert isinstance(told, TransientStoreError)
    assert "endpoint" not in told.remedy


def test_of_a_bucket_that_is_there_nobody_is_told_to_create_it(seaweed: SeaweedFS, credentials: AwsCredentials) -> None:
    """A store whose copy is broken says that there is no bucket."""
    with Proxy(seaweed.endpoint, [Rule(refuse(404, "NoSuchBucket"), path="latest/a")]) as door:
        store = S3Store(seaweed.bucket, uuid4().hex, credentials=credentials, endpoint=door.endpoint)
        store.create("incidents/a", b"x", SHA)
        with pytest.raises(PermanentStoreError, match="The bucket is there") as raised:
            store.copy("incidents/a", "latest/a", SHA, replace=True)
        assert "Create" not in raised.value.remedy
