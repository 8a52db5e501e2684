"""A time-stamp authority of our own: openssl behind a small HTTP server, and time stamps of any time and signer."""

import hashlib
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Act = Callable[[BaseHTTPRequestHandler, bytes], None]

_CONFIG: Final = """[tsa]
default_tsa = this
[this]
serial = {folder}/serial
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
"""
_STAMPING: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
_TST_INFO: Final = "1.2.840.113549.1.9.16.1.4"


class TimeAuthority:
    """A root certificate, `roots` in PEM, and signers that it vouches for: good, expired, web and stranger's."""

    def __init__(self, folder: Path, now: datetime | None = None) -> None:
        """Make keys and certificates, by what the clock says or by `now`."""
        self._folder, self._lock, self._now = folder, Lock(), now or datetime.now(UTC)
        (folder / "tsa.cnf").write_text(_CONFIG.format(folder=folder))
        (folder / "serial").write_text("01")
        web = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        root, other = (self._make(name, None, None) for name in ("root", "other"))
        self._make("good", root, _STAMPING)
        self._make("expired", root, _STAMPING, days=-1)
        self._make("web", root, web)
        self._make("stranger", other, _STAMPING)
        self.root = folder / "root.pem"

    @property
    def roots(self) -> str:
        """What an auditor trusts."""
        return self.root.read_text()

    def _make(
        self,
        name: str,
        issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None,
        usage: x509.ExtendedKeyUsage | None,
        days: int = 30,
    ) -> tuple[x509.Name, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"time authority, {name}")])
        by, signing = issuer or (own, key)
        made = (
            x509.CertificateBuilder(by, own, key.public_key(), x509.random_serial_number())
            .not_valid_before(self._now - timedelta(days=400))
            .not_valid_after(self._now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        )
        made = made.add_extension(usage, critical=True) if usage else made
        certificate = made.sign(signing, hashes.SHA256())
        (self._folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self._folder / f"{name}.key").write_bytes(private)
        return own, key

    def reply(self, query: bytes, signer: str = "good") -> bytes:
        """What openssl answers to a query, now."""
        by = ["-signer", f"{signer}.pem", "-inkey", f"{signer}.key"]
        with self._lock:  # openssl keeps the serial number in a file
            (self._folder / "query").write_bytes(query)
            return self._openssl("ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query", *by)

    def stamp(self, data: bytes, at: datetime | None = None, signer: str = "good") -> bytes:
        """A time stamp over `data`, as an authority would make it that has this signer, or this clock."""
        with self._lock:
            (self._folder / "stated").write_bytes(_stated(data, at or datetime.now(UTC)))
            by = ["-signer", f"{signer}.pem", "-inkey", f"{signer}.key", "-econtent_type", _TST_INFO]
            token = self._openssl(
                "cms", "-sign", "-binary", "-nodetach", "-cades", "-outform", "DER", "-in", "stated", *by
            )
        return _der(0x30, _der(0x30, b"\x02\x01\x00") + token)

    def holds(self, answer: bytes, data: bytes, at: datetime) -> bool:
        """What `openssl ts -verify` makes of it, if that is the time of the certificates."""
        with self._lock:
            (self._folder / "answer").write_bytes(answer)
            (self._folder / "data").write_bytes(data)
            command = ["openssl", "ts", "-verify", "-in", "answer", "-data", "data", "-CAfile", "root.pem"]
            command += ["-attime", f"{at.timestamp():.0f}"]
            done = subprocess.run(command, cwd=self._folder, capture_output=True, check=False)
        return done.returncode == 0

    def _openssl(self, *arguments: str) -> bytes:
        return subprocess.run(["openssl", *arguments], cwd=self._folder, capture_output=True, check=True).stdout

    @contextmanager
    def serving(self, act: Act | None = None) -> Iterator[str]:
        """Serve on loopback, as an authority or as `act` does; yield the URL."""
        serve = act or (lambda handler, query: answer_with(handler, self.reply(query)))

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                with suppress(OSError):  # a client that has had enough
                    serve(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.block_on_close = False
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/tsr"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def answer_with(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    """Answer a request."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def _stated(data: bytes, at: datetime) -> bytes:
    """TSTInfo (RFC 3161 §2.4.2): version, policy, imprint, serial number, time."""
    algorithm = _der(0x30, bytes.fromhex("0609608648016503040201") + b"\x05\x00")
    imprint = _der(0x30, algorithm + _der(0x04, hashlib.sha256(data).digest()))
    time = _der(0x18, f"{at.astimezone(UTC):%Y%m%d%H%M%SZ}".encode())
    return _der(0x30, b"\x02\x01\x01" + bytes.fromhex("06042a030401") + imprint + b"\x02\x01\x07" + time)


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    width = (size.bit_length() + 7) // 8
    length = bytes([size]) if size < 0x80 else bytes([0x80 | width]) + size.to_bytes(width, "big")
    return bytes([tag]) + length + content
