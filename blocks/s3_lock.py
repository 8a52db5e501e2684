"""S3 Object Lock: what is created is locked as it is created, and what is there without a lock gets one."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from tasks.custody.retention import Retention

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import ObjectLockModeType

_NO_LOCKS: Final = {"MethodNotAllowed", "NotImplemented", "ObjectLockConfigurationNotFoundError"}


class ObjectLock:
    """Retention in one bucket. Errors are botocore's own: the store explains them."""

    def __init__(self, client: "S3Client", bucket: str, asked: Retention) -> None:
        """Nothing is sent yet."""
        self._s3, self._bucket, self._asked = client, bucket, asked

    @cached_property
    def unfit(self) -> str:
        """Why the bucket cannot do what is asked; empty if it can, or if it does not say.

        Objects are then stored without a lock: evidence that can be deleted is worth more than none.
        """
        if not self._asked:
            return ""
        try:
            found = self._s3.get_object_lock_configuration(Bucket=self._bucket)
        except ClientError as error:
            code = error.response["Error"].get("Code", "")
            if code in _NO_LOCKS:
                return f"the bucket {self._bucket} has no Object Lock: {code}"
            if code == "AccessDenied":
                return ""
            raise
        enabled = found["ObjectLockConfiguration"].get("ObjectLockEnabled") == "Enabled"
        return "" if enabled else f"the bucket {self._bucket} has Object Lock switched off"

    @property
    def headers(self) -> dict[str, Any]:
        """Arguments of a PUT or a copy that creates; none if nothing is asked, or the bucket can't."""
        if not self._asked or self.unfit:
            return {}
        lock = {"ObjectLockMode": self._asked.lock.upper(), "ObjectLockRetainUntilDate": self._asked.until(_now())}
        hold = {"ObjectLockLegalHoldStatus": "ON"}
        return (lock if self._asked.lock else {}) | (hold if self._asked.hold else {})

    def complete(self, name: str, found: Mapping[str, Any]) -> None:
        """Give an object what it lacks of what is asked. Never shortens, and leaves the mode of a lock as it is."""
        asked, until = self._asked, found.get("ObjectLockRetainUntilDate")
        if asked.lock and (until is None or until < found["LastModified"] + timedelta(days=asked.days)):
            mode: ObjectLockModeType = "COMPLIANCE" if asked.lock == "compliance" else "GOVERNANCE"
            self._s3.put_object_retention(
                Bucket=self._bucket,
                Key=name,
                Retention={"Mode": found.get("ObjectLockMode", mode), "RetainUntilDate": asked.until(_now())},
            )
        if asked.hold and found.get("ObjectLockLegalHoldStatus") != "ON":
            self._s3.put_object_legal_hold(Bucket=self._bucket, Key=name, LegalHold={"Status": "ON"})


def _now() -> datetime:
    return datetime.now(UTC)
