"""A door with TLS before a real server, whose certificate a private authority vouches for."""

import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

NAME: Final = "store.evacuation.invalid"
"""What the certificate is for beside 127.0.0.1; no resolver knows it."""


@dataclass(frozen=True)
class Tls:
    """A door with TLS before a server, and the certificate of whoever vouches for it."""

    port: int
    authority: Path

    @property
    def endpoint(self) -> str:
        """By its address."""
        return f"https://127.0.0.1:{self.port}"


def certificates(folder: Path) -> tuple[Path, Path, Path]:
    """An authority's certificate, one of 127.0.0.1 and NAME that it vouches for, and the key of that."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("authority", "server")]
    now = datetime.now(UTC)
    places = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName(NAME)]
    for ours, name, key in zip(("authority", "server"), names, keys, strict=True):
        made = (
            x509.CertificateBuilder(names[0], name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(places), critical=False)
            .add_extension(x509.BasicConstraints(ca=ours == "authority", path_length=None), critical=True)
            .sign(keys[0], hashes.SHA256())
        )
        (folder / ours).write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "key").write_bytes(keys[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "authority", folder / "server", folder / "key"


@contextmanager
def tls_before(port: int, folder: Path) -> Iterator[Tls]:
    """Serve TLS, and pass on what is inside to a port of this machine."""
    authority, server, key = certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server, key)

    def serve(client: socket.socket) -> None:
        with client, context.wrap_socket(client, server_side=True) as inside:
            join(inside, socket.create_connection(("127.0.0.1", port)))

    with serving(serve) as taken:
        yield Tls(taken, authority)


@contextmanager
def serving(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """Serve each connection in a thread; yield the port."""

    def quietly(client: socket.socket) -> None:
        with suppress(OSError):
            serve(client)

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                Thread(target=quietly, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        Thread(target=accept, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def join(client: socket.socket, server: socket.socket) -> None:
    """Pass everything on in both directions until one side ends."""
    with client, server:
        back = Thread(target=_pass_on, args=(server, client), daemon=True)
        back.start()
        _pass_on(client, server)
        back.join()


def _pass_on(origin: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := origin.recv(1 << 16):
            target.sendall(piece)
    for each in (origin, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
