"""Make the clients of an S3 store, with their timeouts, connections and certificates, for one endpoint and region.

See docs/adr/0019.
"""

from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import urllib3
from botocore.config import Config
from botocore.httpsession import ProxyConfiguration, get_cert_path
from botocore.session import Session
from botocore.utils import get_environ_proxies
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store as Bucket
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool

from blocks.s3.line import S3ConnectionPool

if TYPE_CHECKING:
    import boto3
    from botocore.loaders import Loader
    from mypy_boto3_s3 import S3Client
    from obstore.store import ClientConfig

_CONNECT: Final = 1
ANSWER_SECONDS: Final = 120
_CANARY: Final = 15
"""For the answer to an object of a few bytes: a store that accepts connections and is silent is known by it."""
_CONNECTIONS: Final = 128
_TRIES: Final = 3
BOTO_SECONDS: Final = _TRIES * (_CONNECT + ANSWER_SECONDS) + 4.0
"""How long boto3 tries a request, with its pauses."""


def boto3_client(session: "boto3.Session", endpoint: str | None, region: str, authority: Path | None) -> "S3Client":
    """Make a boto3 client that always verifies TLS. Response checksums are checked only where a call asks for it.

    Managed transfers are not used: their CRT variant ignores the endpoint. Sessions share what describes the service:
    each step of a run has a session, and to read that anew takes 0.1 s of processor time.
    """
    session._session.register_component("data_loader", _loader())  # noqa: SLF001  boto3 has no public way
    return session.client(
        "s3",
        region_name=region,
        endpoint_url=endpoint,
        verify=str(authority) if authority else None,
        config=Config(  # type: ignore[call-arg]  # the stubs are older
            connect_timeout=_CONNECT,
            read_timeout=ANSWER_SECONDS,
            retries={"mode": "standard", "total_max_attempts": _TRIES},
            s3={"addressing_style": "path"},
            response_checksum_validation="when_required",
            signature_version="s3v4",
            max_pool_connections=_CONNECTIONS,
            ignore_configured_endpoint_urls=True,
        ),
    )


@cache
def _loader() -> "Loader":
    return Session().get_component("data_loader")  # type: ignore[no-any-return]  # the stubs are older


class _Patient(HTTPConnection):
    """A connection with a short timeout for connecting and a long one for sending; urllib3 has one for both."""

    def __repr__(self) -> str:
        """Name what it connects to, as urllib3's messages begin with it."""
        return f"{self.host}:{self.port}"

    __str__ = __repr__

    def connect(self) -> None:
        """Connect within the connection timeout, then set the response timeout."""
        patience, self.timeout = self.timeout, _CONNECT
        try:
            super().connect()
        finally:
            self.timeout = patience
        self.sock.settimeout(patience)


class _Secure(_Patient, HTTPSConnection):
    """Over TLS."""


class _PlainPool(S3ConnectionPool):
    ConnectionCls = _Patient


class _SecurePool(S3ConnectionPool, HTTPSConnectionPool):
    ConnectionCls = _Secure


def signed_pool(endpoint: str, authority: Path | None, *, canary: bool = False) -> urllib3.PoolManager:
    """Make a connection pool for requests that we sign, a `canary` among them. Verifies TLS; finds proxies as boto3."""
    proxies = ProxyConfiguration(get_environ_proxies(endpoint))
    proxy = proxies.proxy_url_for(endpoint)
    headers = proxies.proxy_headers_for(proxy) if proxy else {}
    make = partial(urllib3.ProxyManager, proxy, proxy_headers=headers) if proxy else urllib3.PoolManager
    pool = make(
        maxsize=_CONNECTIONS,
        block=True,
        cert_reqs="CERT_REQUIRED",
        ca_certs=str(authority or get_cert_path(verify=True)),
        timeout=_CANARY if canary else ANSWER_SECONDS,
    )
    pool.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}
    return pool


def obstore_client(session: "boto3.Session", bucket: str, endpoint: str, region: str, authority: Path | None) -> Bucket:
    """Make an obstore client. Sets every option that obstore would otherwise read from the environment."""
    options: ClientConfig = {
        "allow_http": endpoint.startswith("http://"),
        "allow_invalid_certificates": False,
        "connect_timeout": timedelta(seconds=_CONNECT),
        "timeout": timedelta(seconds=ANSWER_SECONDS),
    }
    if authority:
        options["root_certificate"] = authority.read_bytes()
    return Bucket(
        bucket,
        endpoint=endpoint,
        aws_endpoint_url_s3=endpoint,
        region=region,
        virtual_hosted_style_request=False,
        skip_signature=False,
        checksum_algorithm="SHA256",
        credential_provider=Boto3CredentialProvider(session, ttl=timedelta(minutes=5)),
        client_options=options,
        retry_config={"max_retries": 0},  # it would not repeat a conditional request whose connection was lost; we do
    )
