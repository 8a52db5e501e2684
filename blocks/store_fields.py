"""Define the fields of an evidence store, with their rules, without Prefect: an auditor has a file and no server."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import SplitResult, quote, urlsplit

from pydantic import ConfigDict, Field, field_validator, model_validator

from blocks.credentials import Credentials, Keys
from blocks.described import Described, wrong_value
from blocks.workload_fields import AbsolutePath
from tasks.custody.store.latest import LatestPolicy
from tasks.custody.store.retention import Lock, Retention

if TYPE_CHECKING:
    from blocks.port import Store

_BUCKET = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SEGMENT = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9!_.*'()+=@:,-]+")


class StoreFields(Described):
    """Where evidence is kept: a bucket of S3 or of anything that speaks S3, or a folder on another disk."""

    model_config = ConfigDict(hide_input_in_errors=True)

    bucket: str | None = None
    """The bucket's name, or the runbook's s3://bucket/prefix. Empty if a folder is given."""
    prefix: str = ""
    """Put before every key, without slashes at its ends."""
    folder: AbsolutePath | None = None
    """An existing folder instead of a bucket, best on another disk than the workload's. No other account may be able to
    change it or what is above it, and it may not lie in the workload's root: otherwise nothing in it is proven."""
    folder_owner: str = Field(default="", pattern=r"^([a-z_][a-z0-9_.-]{0,31}\$?|[0-9]{1,10})?$")
    """The account, by name or number, that owns the folder or what is above it where that cannot be root, as on a
    network mount. It is trusted like root; never one of the workload's."""
    region: str | None = Field(default=None, pattern=r"^[a-z0-9-]+$")
    """The bucket's region; that of the credentials or the AWS configuration if empty."""
    endpoint: str | None = None
    """URL of a store that is not AWS, as in https://minio.example:9000."""
    credentials: Keys | None = None
    promoter: Keys | None = None
    lock: Lock = ""
    """Object Lock for what an incident leaves in the bucket: governance can be lifted by whoever has that right,
    compliance by nobody before its time, the account's owner included. No lock if empty."""
    lock_days: int = Field(default=0, ge=0, le=36_500)
    """How many days a lock lasts, counted from when an object is stored."""
    legal_hold: bool = False
    """Whether what is stored is put under legal hold too, until somebody takes that off."""
    timestamp_url: str = ""
    """URL of a time-stamp authority (RFC 3161) that vouches for when each record was closed, as in
    https://tsa.example/tsr. It is asked once the record is stored, for 10 s at most. Nobody is asked if empty."""
    allowed_signers: str = ""
    """Lines of the allowed_signers file of those who audit (ssh-keygen(1)). `evacuation doctor` compares the signing
    key with them; an audit is given its own."""
    latest: LatestPolicy = "guarded"
    """What latest/ gets of a verified incident: nothing (never), what is sound, with nothing deleted (guarded), or the
    same and, once a person has approved it, what the workload no longer has goes (mirror)."""

    @model_validator(mode="before")
    @classmethod
    def _take_url_apart(cls, value: Any) -> Any:
        """Split the runbook's s3://bucket/prefix. Raises ValueError if a prefix beside it differs."""
        if not isinstance(value, Mapping):
            return value
        bucket, prefix = value.get("bucket"), value.get("prefix", "")
        if not isinstance(bucket, str) or not isinstance(prefix, str):
            return dict(value)
        in_url = bucket.startswith("s3://")
        bucket, _, inside = bucket.removeprefix("s3://").partition("/") if in_url else (bucket, "", "")
        inside, prefix = inside.strip("/"), prefix.strip("/")
        if inside and prefix and inside != prefix:
            got = f"{inside!r} in the bucket's URL and {prefix!r} beside it"
            raise wrong_value("one prefix", got, "Give it in one place only")
        return dict(value) | {"bucket": bucket, "prefix": inside or prefix}

    @field_validator("bucket")
    @classmethod
    def _bucket_name(cls, bucket: str | None) -> str | None:
        if bucket is not None and not _BUCKET.fullmatch(bucket):
            expected = "a bucket name of 3 to 63 lower case letters, digits, dots and dashes"
            raise wrong_value(expected, repr(bucket[:80]), "Give it as evidence or s3://evidence/prefix")
        return bucket

    @field_validator("prefix")
    @classmethod
    def _plain_prefix(cls, prefix: str) -> str:
        if prefix and not all(_SEGMENT.fullmatch(segment) for segment in prefix.split("/")):
            expected = "a prefix of plain segments divided by single slashes"
            raise wrong_value(expected, repr(prefix[:80]), "Write it like team/portfolio")
        return prefix

    @field_validator("endpoint")
    @classmethod
    def _plain_url(cls, endpoint: str | None) -> str | None:
        if endpoint is None:
            return None
        url = urlsplit(endpoint)
        if not _is_endpoint(url):
            got = "a URL with a user or password in it" if "@" in endpoint else repr(endpoint[:80])
            expected = "an http or https URL of a host, without user, path or query"
            raise wrong_value(expected, got, "Write it like https://minio.example:9000")
        return endpoint.rstrip("/")

    @field_validator("timestamp_url")
    @classmethod
    def _plain_authority(cls, address: str) -> str:
        url = urlsplit(address)
        if address and not _is_endpoint(url._replace(path="")):
            got = "one with a user or query in it" if {"@", "?"} & {*address} else repr(address[:80])
            expected = "an http or https URL without user or query, as it becomes part of the evidence"
            raise wrong_value(expected, got, "Write it like https://tsa.example/tsr")
        return address

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.bucket is None) == (self.folder is None):
            got = "neither" if self.bucket is None else "both"
            raise wrong_value("either a bucket or a folder", got, "Give bucket= for S3, or folder= for another disk")
        if self.folder and self.prefix:
            cure = f"Give folder={str(self.folder / self.prefix)!r} if that is meant"
            raise wrong_value("no prefix beside a folder", repr(self.prefix), cure)
        if self.folder_owner and not self.folder:
            raise wrong_value("folder_owner beside a folder only", "a bucket", "Take folder_owner out")
        return self

    @model_validator(mode="after")
    def _retention_that_can_be(self) -> Self:
        if bool(self.lock) != bool(self.lock_days):
            got = f"lock={self.lock!r} and lock_days={self.lock_days}"
            cure = "Give lock= governance or compliance, and lock_days= how long"
            raise wrong_value("a lock with its days, or neither", got, cure)
        if self.folder and self.retention:
            cure = "Take lock and legal_hold out, or give a bucket with Object Lock"
            raise wrong_value("retention of a bucket only", "a folder, where every writer may delete", cure)
        return self

    @model_validator(mode="after")
    def _one_endpoint(self) -> Self:
        for credentials in (each for each in (self.credentials, self.promoter) if each):
            if getattr(credentials, "minio_root_user", None) and not self.endpoint:
                cure = "Give endpoint= the URL of the MinIO server"
                raise wrong_value("an endpoint with MinIO credentials", "none", cure)
            if credentials.aws_client_parameters.endpoint_url not in {None, self.endpoint}:
                got = "another one in the credentials' client parameters"
                cure = "Give it as endpoint= here, and take it out there"
                raise wrong_value("the endpoint in the store block", got, cure)
        return self

    @property
    def place(self) -> str:
        """The location for people: s3://bucket/prefix or the folder."""
        return str(self.folder) if self.bucket is None else f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def address(self, key: str) -> str:
        """Return the URL of an object, or of a folder that ends in a slash, for a browser with its own access rights.

        It leads to the AWS console, or to another store's endpoint. Empty for a folder of this host.
        """
        if self.bucket is None:
            return ""
        inside = quote(f"{self.prefix}/{key}".lstrip("/"))
        if self.endpoint:
            return f"{self.endpoint}/{self.bucket}/{inside}"
        kind = "buckets" if key.endswith("/") else "object"
        return f"https://console.aws.amazon.com/s3/{kind}/{self.bucket}?prefix={inside}"

    @property
    def retention(self) -> Retention:
        """The retention asked for objects of an incident."""
        return Retention(self.lock, self.lock_days, self.legal_hold)

    def open(self) -> "Store":
        """Open the store. Imports its client libraries only now."""
        return self._open(self.credentials)

    def open_latest(self) -> "Store":
        """Open the store with the credentials that may change latest/."""
        return self._open(self.promoter or self.credentials)

    def _open(self, credentials: "Credentials | None") -> "Store":
        if self.folder is not None:
            from blocks.directory import DirectoryStore

            return DirectoryStore(self.folder)
        from blocks.s3.store import S3Store

        return S3Store(
            str(self.bucket),
            self.prefix,
            credentials=credentials,
            endpoint=self.endpoint,
            region=self.region,
            retention=self.retention,
        )


def _is_endpoint(url: SplitResult) -> bool:
    try:
        plain = url.port is None or url.port > 0
    except ValueError:
        return False
    rest = url.path.strip("/") or url.query or url.fragment
    return plain and url.scheme in {"http", "https"} and bool(url.hostname) and "@" not in url.netloc and not rest
