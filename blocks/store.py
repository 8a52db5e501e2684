"""Define the evidence store block: where evidence goes, and with which credentials."""

from collections.abc import Mapping
from typing import Any, ClassVar

from prefect.blocks.core import Block
from prefect_aws import AwsCredentials, MinIOCredentials
from pydantic import Field, HttpUrl, ValidationError, field_validator

from blocks.described import wrong_value
from blocks.form import FormMade, logo
from blocks.quick_save import QuickSave
from blocks.signing_key import SigningKey
from blocks.store_fields import StoreFields


def _aws_first(schema: dict[str, Any]) -> None:
    """Put AWS first in the form, whatever the order in which saved credentials are tried."""
    schema["anyOf"][:2] = schema["anyOf"][1::-1]


class EvidenceStore(QuickSave, FormMade, Block, StoreFields):
    """Where evidence is kept: a bucket of S3 or of anything that speaks S3, or a folder on another disk."""

    _block_type_name: ClassVar[str] = "Evidence Store"
    _block_type_slug: ClassVar[str] = "evidence-store"
    _description: ClassVar[str] = "Where evidence is kept: a bucket that speaks S3, or a folder on another disk."
    _logo_url: ClassVar[HttpUrl | None] = logo("1f5c4")
    _code_example: ClassVar[str] = (
        "from blocks import EvidenceStore\nfrom prefect_aws import AwsCredentials\n\n"
        'keys = AwsCredentials.load("evacuation")\n'
        'EvidenceStore(bucket="s3://evidence/portfolio", region="ap-northeast-1", credentials=keys).save("evidence")'
    )

    # AwsCredentials has no field that must be given: first, it would take MinIO's
    credentials: MinIOCredentials | AwsCredentials | None = Field(  # type: ignore[assignment]
        default=None, union_mode="left_to_right", json_schema_extra=_aws_first
    )
    """Whose credentials to use; the usual AWS chain of the worker's host if empty."""
    promoter: MinIOCredentials | AwsCredentials | None = Field(  # type: ignore[assignment]
        default=None, union_mode="left_to_right", json_schema_extra=_aws_first
    )
    """Who changes latest/, where the credentials above may only create evidence (examples/policies). If empty they
    change it too, as far as the store lets them; where it doesn't, that is reported as skipped."""
    signing: SigningKey | None = Field(default=None, title="Signing")
    """Who signs manifests and closings; they are unsigned, and it is said, if empty."""

    @field_validator("credentials", mode="before")
    @classmethod
    def _no_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            got = f"{value[:80]!r}, the name of a block that no Prefect server was there to give"
            cure = "Start it, or leave credentials out, for the usual AWS chain of this host"
            raise wrong_value("credentials", got, cure)
        return value


def with_usable_key(saved: Mapping[str, Any]) -> tuple[EvidenceStore, str]:
    """Return the block and "", or the block without its signing key and the reason, if only the key is unusable.

    The reason contains no part of the key. Raises the validation error if other fields are invalid.
    """
    try:
        store = EvidenceStore.model_validate(saved)
        if store.signing:
            store.signing.open()
    except Exception as error:
        if saved.get("signing") is None:
            raise
        store = EvidenceStore.model_validate({**saved, "signing": None})
        return store, f"the key in the store block cannot be used: {_what_is_wrong(error)}"
    return store, ""


def _what_is_wrong(error: Exception) -> str:
    if isinstance(error, ValidationError):
        reasons = [each["msg"].removeprefix("Value error, ") for each in error.errors()]
    else:
        reasons = [str(error) if type(error) is ValueError else type(error).__name__]
    return "; ".join(reasons).replace("Nothing was saved. ", "")
