"""The two clients of an S3 store, pinned to one endpoint and one region, whatever the environment says."""

import os
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import urllib3
from botocore.config import Config
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store as Bucket

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_s3 import S3Client
    from obstore.store import ClientConfig

_CONNECT: Final = 1
_ANSWER: Final = 120
_CONNECTIONS: Final = 32
_TRIES: Final = 2


def trusted(authority: Path | None) -> Path | None:
    """Whose certificates count: those of the credentials block, else AWS_CA_BUNDLE's, else the usual ones (None)."""
    return authority or (Path(bundle) if (bundle := os.environ.get("AWS_CA_BUNDLE")) else None)


def boto3_client(session: "boto3.Session", endpoint: str | None, region: str, authority: Path | None) -> "S3Client":
    """TLS is always verified. No managed transfer is used: its CRT variety would ignore the endpoint."""
    return session.client(
        "s3",
        region_name=region,
        endpoint_url=endpoint,
        verify=str(authority) if authority else None,
        config=Config(  # type: ignore[call-arg]  # the stubs are older
            connect_timeout=_CONNECT,
            read_timeout=_ANSWER,
            retries={"mode": "standard", "total_max_attempts": _TRIES},
            s3={"addressing_style": "path"},
            signature_version="s3v4",
            max_pool_connections=_CONNECTIONS,
            ignore_configured_endpoint_urls=True,
        ),
    )


def signed_pool(endpoint: str, authority: Path | None) -> urllib3.PoolManager:
    """Connections for requests that we sign: TLS verified and proxies found as boto3 does."""
    proxy = get_environ_proxies(endpoint).get(endpoint.partition("://")[0])
    make = partial(urllib3.ProxyManager, proxy) if proxy else urllib3.PoolManager
    return make(
        maxsize=_CONNECTIONS,
        block=True,
        cert_reqs="CERT_REQUIRED",
        ca_certs=str(authority or get_cert_path(verify=True)),
        timeout=urllib3.Timeout(connect=_CONNECT, read=_ANSWER),
    )


def obstore_client(session: "boto3.Session", bucket: str, endpoint: str, region: str, authority: Path | None) -> Bucket:
    """Every setting that obstore would otherwise take from the environment is given."""
    options: ClientConfig = {
        "allow_http": endpoint.startswith("http://"),
        "allow_invalid_certificates": False,
        "connect_timeout": timedelta(seconds=_CONNECT),
        "timeout": timedelta(seconds=_ANSWER),
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
        retry_config={
            "max_retries": _TRIES,
            "retry_timeout": timedelta(seconds=5),
            "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=1), "base": 2},
        },
    )
