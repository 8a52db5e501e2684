"""S3 Object Lock: what is created is locked as it is created, and what is there without a lock gets one."""

from collections.abc import Callable, Mapping
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
        self._refusal = ""

    @property
    def unfit(self) -> str:
        """Why the bucket cannot do what is asked; empty if it can, or if nothing of it is known yet.

        Objects are then stored without a lock: evidence that can be deleted is worth more than none.
        """
        return self._refusal or ((self._told or "") if self._asked else "")

    @cached_property
    def _told(self) -> str | None:
        """What the bucket says of itself, as `unfit`; None if this identity may not ask."""
        try:
            found = self._s3.get_object_lock_configuration(Bucket=self._bucket)
        except ClientError as error:
            code = error.response["Error"].get("Code", "")
            if code in _NO_LOCKS:
                return f"the bucket {self._bucket} has no Object Lock: {code}"
            if code == "AccessDenied":
                return None
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

    def create(self, act: Callable[..., object]) -> None:
        """Call with the lock as arguments; without it where the store refuses that, and takes the same unlocked.

        A bucket without Object Lock answers InvalidRequest, which may mean anything else as well.
        """
        try:
            act(**self.headers)
        except ClientError as error:
            if not (self.headers and self._is_refusal(error)):
                raise
            act()
            self._refuse(error)

    def complete(self, name: str, found: Mapping[str, Any]) -> None:
        """Give an object what it lacks of what is asked. Never shortens, and leaves the mode of a lock as it is."""
        try:
            self._complete(name, found)
        except ClientError as error:
            if not self._is_refusal(error):
                raise
            self._refuse(error)

    def _is_refusal(self, error: ClientError) -> bool:
        return self._told is None and error.response["Error"].get("Code") in {"InvalidRequest", *_NO_LOCKS}

    def _refuse(self, error: ClientError) -> None:
        said = error.response["Error"]
        self._refusal = f"the bucket {self._bucket} refuses what is asked: {said['Code']}: {said.get('Message', '')}"

    def _complete(self, name: str, found: Mapping[str, Any]) -> None:
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
