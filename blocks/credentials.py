"""Define the credentials of a store, as a file holds them or a block of prefect-aws."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict, SecretStr

if TYPE_CHECKING:
    import boto3


class Credentials(Protocol):
    """What a store needs of credentials: those of a file, or a block of prefect-aws."""

    aws_client_parameters: Any

    def get_boto3_session(self) -> "boto3.Session":
        """Return a session of this identity."""


def find_ca_file(credentials: Credentials | None) -> Path | None:
    """Return the CA file to trust: that of the credentials, else AWS_CA_BUNDLE; None for the system's default."""
    bundle_of_credentials = credentials.aws_client_parameters.verify_cert_path if credentials else None
    return bundle_of_credentials or (Path(bundle) if (bundle := os.environ.get("AWS_CA_BUNDLE")) else None)


class _ClientParameters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    verify_cert_path: Path | None = None
    endpoint_url: str | None = None


class Keys(BaseModel):
    """Credentials that a file holds as a table, by the names of the fields of prefect-aws."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    aws_access_key_id: str | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_session_token: str | None = None
    minio_root_user: str | None = None
    minio_root_password: SecretStr | None = None
    profile_name: str | None = None
    region_name: str | None = None
    aws_client_parameters: _ClientParameters = _ClientParameters()

    def get_boto3_session(self) -> "boto3.Session":
        """Return a session of this identity."""
        import boto3

        secret = self.aws_secret_access_key or self.minio_root_password
        return boto3.Session(
            aws_access_key_id=self.aws_access_key_id or self.minio_root_user,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            aws_session_token=self.aws_session_token,
            profile_name=self.profile_name,
            region_name=self.region_name,
        )
