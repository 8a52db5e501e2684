"""The two clients of an S3 store, pinned to one endpoint and one region, whatever the environment says."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from botocore.config import Config
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store as Bucket

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_s3 import S3Client
    from obstore.store import ClientConfig

_CONNECT: Final = 1
_ANSWER: Final = 120
_TRIES: Final = 2


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
            max_pool_connections=32,
            ignore_configured_endpoint_urls=True,
        ),
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
