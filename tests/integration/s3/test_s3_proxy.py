"""Between us and the store stand an HTTP proxy that may want a password, and a private authority."""

import hashlib
import os
import socket
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import obstore
import pytest
from obstore.exceptions import BaseError
from prefect_aws import AwsCredentials

from blocks.s3.clients import obstore_client
from blocks.s3.errors import explain
from blocks.s3.store import S3Store
from blocks.store_fields import StoreFields
from tasks.custody.errors import StoreError, TransientStoreError
from tasks.custody.evidence.part_sizes import divide
from tasks.drill.store_and_worker import SeaweedFS
from tasks.evidence.time_stamp import time_stamp
from tests.integration.s3.tls import NAME, Tls, join, serving, tls_before
from tests.support.time_authority import TimeAuthority

pytestmark = pytest.mark.whole

PART = 5 << 20
SHA = hashlib.sha256(b"x").hexdigest()
SECRET = "p%40ss"
GIVEN = "Basic " + b64encode(b"us:p@ss").decode()


@pytest.fixture(scope="module")
def tls(seaweed: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    with tls_before(seaweed.ports["s3"], tmp_path_factory.mktemp("authority")) as door:
        yield door


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@contextmanager
def http_proxy(asked: list[str], password: str = "", refusal: str = "") -> Iterator[int]:
    """A proxy that knows where NAME is. `asked` gets the first line of each request, and what came for a password."""

    def serve(client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1 << 16)
        first, *fields = head.partition(b"\r\n\r\n")[0].decode().split("\r\n")
        given = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        asked.append(first)
        if refusal or (password and given.get("proxy-authorization") != password):
            client.sendall(f"HTTP/1.1 {refusal or '407 Password'}\r\nContent-Length: 0\r\n\r\n".encode())
            client.close()
            return
        method, target, _ = first.split()
        if method == "CONNECT":
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            join(client, socket.create_connection(("127.0.0.1", int(target.rpartition(":")[2]))))
        else:
            there = urlsplit(target)
            server = socket.create_connection(("127.0.0.1", there.port or 80))
            line = f"{method} {there.path}{'?' if there.query else ''}{there.query} HTTP/1.1"
            kept = [field for field in fields if not field.lower().startswith(("proxy-", "connection:"))]
            server.sendall("\r\n".join([line, *kept, "Connection: close", "", ""]).encode())
            server.sendall(head.partition(b"\r\n\r\n")[2])
            join(client, server)

    with serving(serve) as port:
        yield port


def use_everything(store: S3Store, tmp_path: Path) -> None:
    """Every client, by what each is for: small and large objects, copies, digests, lists."""
    store.create("small", b"x", SHA)
    store.copy("small", "copy", SHA)
    assert store.ensure_present("copy", SHA)
    assert store.read("copy") == b"x"
    (tmp_path / "streamed").write_bytes(os.urandom(PART))
    sha = hashlib.sha256((tmp_path / "streamed").read_bytes()).hexdigest()
    store.create("streamed", tmp_path / "streamed", sha)
    (tmp_path / "large").write_bytes(os.urandom(2 * PART))
    whole, parts = divide(tmp_path / "large", PART, 2 * PART)
    store.create("large", tmp_path / "large", whole, parts)
    assert store.ensure_present("large", whole, parts)
    assert {each.key for each in store.list("")} == {"small", "copy", "streamed", "large"}


@pytest.fixture(params=["", GIVEN], ids=["open", "with a password"])
def asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is asked of a proxy that the environment names."""
    lines = list[str]()
    with http_proxy(lines, request.param) as port:
        for name in ("HTTPS_PROXY", "HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, f"http://{f'us:{SECRET}@' if request.param else ''}127.0.0.1:{port}")
        yield lines


def test_a_store_that_only_the_proxy_finds_and_a_private_authority_vouches_for(
    tls: Tls, asked: list[str], credentials: AwsCredentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tls.authority))
    endpoint = f"https://{NAME}:{tls.port}"
    use_everything(S3Store("evidence", tmp_path.name, credentials=credentials, endpoint=endpoint), tmp_path)
    assert {line.rpartition(" ")[0] for line in asked} == {f"CONNECT {NAME}:{tls.port}"}


def test_a_time_stamp_authority_is_found_in_the_same_way(
    asked: list[str], time_authority: TimeAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with time_authority.serving() as plain, tls_before(urlsplit(plain).port or 0, tmp_path) as door:
        url = f"https://{NAME}:{door.port}/tsr"
        place = StoreFields(folder=tmp_path, timestamp_url=url)
        assert "CERTIFICATE_VERIFY_FAILED" in str(time_stamp(place, b"x"))
        monkeypatch.setenv("AWS_CA_BUNDLE", str(door.authority))
        assert isinstance(time_stamp(place, b"x"), bytes)
    assert {line.rpartition(" ")[0] for line in asked} == {f"CONNECT {NAME}:{door.port}"}


def test_a_store_without_tls_behind_a_proxy(
    seaweed: SeaweedFS, asked: list[str], credentials: AwsCredentials, tmp_path: Path
) -> None:
    endpoint = f"http://{NAME}:{seaweed.ports['s3']}"
    use_everything(S3Store("evidence", tmp_path.name, credentials=credentials, endpoint=endpoint), tmp_path)
    assert {line.split()[1].partition("/evidence")[0] for line in asked} == {endpoint}


def test_what_needs_no_proxy_goes_past_it(
    seaweed: SeaweedFS, credentials: AwsCredentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    use_everything(S3Store(seaweed.bucket, tmp_path.name, credentials=credentials, endpoint=seaweed.endpoint), tmp_path)


@pytest.mark.parametrize("refusal", ["403 Forbidden", "407 Password", ""], ids=["refused", "password", "down"])
def test_a_proxy_in_the_way_is_a_reason_to_look_at_and_its_password_is_not_told(
    tls: Tls, credentials: AwsCredentials, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    """By each of the three clients."""
    with http_proxy([], refusal=refusal) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://us:{SECRET}@127.0.0.1:{port if refusal else 9}")
        endpoint = f"https://{NAME}:{tls.port}"
        store = S3Store("evidence", "", credentials=credentials, endpoint=endpoint)
        bucket = obstore_client(credentials.get_boto3_session(), "evidence", endpoint, "us-east-1", None)
        for act in (lambda: list(store.list("")), lambda: store.head("a"), lambda: obstore.put(bucket, "a", b"x")):
            with pytest.raises((StoreError, BaseError)) as told:
                act()
            error = told.value if isinstance(told.value, StoreError) else explain(told.value, "a")
            assert isinstance(error, TransientStoreError)
            assert "HTTPS_PROXY" in str(error)
            assert not [each for each in (SECRET, "p@ss") if each in str(error)]
