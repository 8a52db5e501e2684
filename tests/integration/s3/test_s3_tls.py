"""TLS is verified by each of the three clients, and an authority that the credentials block names is believed."""

import hashlib
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters

from blocks.s3 import S3Store
from tasks.custody.errors import PermanentStoreError
from tasks.custody.evidence.parts import divide
from tasks.drill.parts import SeaweedFS

PART = 5 << 20
SHA = hashlib.sha256(b"x").hexdigest()
ACTS: dict[str, Callable[[S3Store], object]] = {
    "create": lambda store: store.create("a", b"x", SHA),
    "copy": lambda store: store.copy("a", "b", SHA),
    "head": lambda store: store.head("a"),
    "read": lambda store: store.read("a"),
}


@dataclass(frozen=True)
class Tls:
    """A door with TLS before a server, and the certificate of whoever vouches for it."""

    endpoint: str
    authority: Path


def certificates(folder: Path) -> tuple[Path, Path, Path]:
    """An authority's certificate, one of 127.0.0.1 that it vouches for, and the key of that."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("authority", "server")]
    now, address = datetime.now(UTC), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    for ours, name, key in zip(("authority", "server"), names, keys, strict=True):
        made = (
            x509.CertificateBuilder(names[0], name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .add_extension(x509.BasicConstraints(ca=ours == "authority", path_length=None), critical=True)
            .sign(keys[0], hashes.SHA256())
        )
        (folder / ours).write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "key").write_bytes(keys[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "authority", folder / "server", folder / "key"


@pytest.fixture(scope="module")
def tls(seaweed: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    authority, server, key = certificates(tmp_path_factory.mktemp("authority"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server, key)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:

        def serve(client: socket.socket) -> None:
            with (
                suppress(OSError),
                client,
                context.wrap_socket(client, server_side=True) as inside,
                socket.create_connection(("127.0.0.1", seaweed.ports["s3"])) as server,
            ):
                back = Thread(target=pass_on, args=(server, inside), daemon=True)
                back.start()
                pass_on(inside, server)
                server.shutdown(socket.SHUT_RDWR)
                back.join()

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    Thread(target=serve, args=(client,), daemon=True).start()

        Thread(target=accept, daemon=True).start()
        yield Tls(f"https://127.0.0.1:{listener.getsockname()[1]}", authority)
        listener.shutdown(socket.SHUT_RDWR)


def pass_on(origin: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := origin.recv(1 << 16):
            target.sendall(piece)


def test_an_authority_that_the_block_names_is_believed(
    tls: Tls, seaweed: SeaweedFS, credentials: AwsCredentials, tmp_path: Path
) -> None:
    trusting = credentials.model_copy(
        update={"aws_client_parameters": AwsClientParameters(verify_cert_path=tls.authority)}
    )
    store = S3Store(seaweed.bucket, "tls", credentials=trusting, endpoint=tls.endpoint)
    store.create("small", b"x", SHA)
    store.copy("small", "copy", SHA)
    assert store.ensure_present("copy", SHA)
    assert store.read("copy") == b"x"
    (tmp_path / "large").write_bytes(os.urandom(2 * PART))
    whole, parts = divide(tmp_path / "large", PART, 2 * PART)
    store.create("large", tmp_path / "large", whole, parts)
    assert store.ensure_present("large", whole, parts)


@pytest.mark.parametrize("act", ACTS)
def test_one_that_nobody_names_is_refused_whichever_client_asks(
    tls: Tls, seaweed: SeaweedFS, credentials: AwsCredentials, act: str
) -> None:
    store = S3Store(seaweed.bucket, "tls", credentials=credentials, endpoint=tls.endpoint)
    with pytest.raises(PermanentStoreError, match="trust its authority"):
        ACTS[act](store)
