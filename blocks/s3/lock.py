"""Apply Object Lock: lock objects as they are created, and lock existing objects that have no lock."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

from botocore.exceptions import ClientError

from blocks.port import StoredObject
from tasks.custody.store.retention import Retention

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import ObjectLockRetentionModeType
    from mypy_boto3_s3.type_defs import ObjectLockRetentionTypeDef

T = TypeVar("T")

_NO_LOCKS: Final = {"MethodNotAllowed", "NotImplemented", "ObjectLockConfigurationNotFoundError"}


class ObjectLock:
    """Retention in one bucket. Raises botocore's errors, which the store translates."""

    def __init__(self, client: "S3Client", bucket: str, retention: Retention) -> None:
        """Take what retention is asked. Sends nothing yet."""
        self._s3, self._bucket, self._retention = client, bucket, retention
        self._refusal = ""

    @property
    def unfit(self) -> str:
        """Why the bucket cannot retain as asked; empty if it can, or if it has not refused so far.

        Objects are then stored without a lock: evidence that can be deleted is better than none.
        """
        return self._refusal or ((self._configuration_problem or "") if self._retention else "")

    @cached_property
    def _configuration_problem(self) -> str | None:
        """What the bucket's configuration says, as in `unfit`; None if this identity may not read it."""
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
        """Lock arguments of a creating PUT or copy; empty if nothing is asked or the bucket cannot lock."""
        if not self._retention or self.unfit:
            return {}
        until = self._retention.until(datetime.now(UTC))
        lock = {"ObjectLockMode": self._retention.lock.upper(), "ObjectLockRetainUntilDate": until}
        hold = {"ObjectLockLegalHoldStatus": "ON"}
        return (lock if self._retention.lock else {}) | (hold if self._retention.hold else {})

    @property
    def for_a_day(self) -> dict[str, str]:
        """HTTP headers of a lock that ends tomorrow and that a person with the right may lift."""
        until = _spell(datetime.now(UTC) + timedelta(days=1))
        return {_HEADERS["ObjectLockMode"]: "GOVERNANCE", _HEADERS["ObjectLockRetainUntilDate"]: until}

    def create(self, act: Callable[..., T]) -> T:
        """Call `act` with the lock as arguments, and without if the store refuses only the lock.

        A bucket without Object Lock answers InvalidRequest, which has other meanings too: hence the second try.
        """
        try:
            return act(**self.headers)
        except ClientError as error:
            if not (self.headers and self._is_refusal(error)):
                raise
            result = act()
            self._refuse(error)
            return result

    def create_by_headers(self, act: Callable[[dict[str, str]], T]) -> T:
        """Call `act` with the lock as HTTP headers, by the rules of `create`."""
        return self.create(lambda **lock: act({_HEADERS[name]: _spell(value) for name, value in lock.items()}))

    def complete(self, name: str, there: StoredObject, since: datetime) -> None:
        """Add the missing lock or hold to an object stored at `since`. Never shortens a lock or changes its mode."""
        retention, until = self._retention, there.retained_until
        try:
            if retention.lock and (until is None or until < since + timedelta(days=retention.days)):
                is_strict = (there.lock or retention.lock) == "compliance"
                mode: ObjectLockRetentionModeType = "COMPLIANCE" if is_strict else "GOVERNANCE"
                lasting: ObjectLockRetentionTypeDef = {
                    "Mode": mode,
                    "RetainUntilDate": retention.until(datetime.now(UTC)),
                }
                self._s3.put_object_retention(Bucket=self._bucket, Key=name, Retention=lasting)
            if retention.hold and not there.held:
                self._s3.put_object_legal_hold(Bucket=self._bucket, Key=name, LegalHold={"Status": "ON"})
        except ClientError as error:
            if not self._is_refusal(error):
                raise
            self._refuse(error)

    def _is_refusal(self, error: ClientError) -> bool:
        code = error.response["Error"].get("Code")
        return self._configuration_problem is None and code in {"InvalidRequest", *_NO_LOCKS}

    def _refuse(self, error: ClientError) -> None:
        details = error.response["Error"]
        why = f"{details['Code']}: {details.get('Message', '')}"
        self._refusal = f"the bucket {self._bucket} refuses what is asked: {why}"


_HEADERS: Final = {
    "ObjectLockMode": "x-amz-object-lock-mode",
    "ObjectLockRetainUntilDate": "x-amz-object-lock-retain-until-date",
    "ObjectLockLegalHoldStatus": "x-amz-object-lock-legal-hold",
}


def _spell(value: Any) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else str(value)
