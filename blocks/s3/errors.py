"""Translate errors of the S3 clients to those of `tasks.custody.errors`: transient or not, and what to do."""

import re
from collections.abc import Callable
from typing import Final

from botocore.exceptions import ClientError
from obstore.exceptions import BaseError

from tasks.custody.errors import BusyStoreError, Denied, PermanentStoreError, StoreError, TransientStoreError

_ACCESS: Final = (
    "Allow this identity s3:PutObject, s3:GetObject and s3:ListBucket there, and check its key and secret; where the "
    "store block asks for retention also s3:PutObjectRetention, s3:PutObjectLegalHold, s3:GetObjectRetention, "
    "s3:GetObjectLegalHold and s3:GetBucketObjectLockConfiguration."
)
_KEYS: Final = "Correct the access key and secret in the store's credentials block."
_EXPIRED: Final = "Renew the temporary credentials, then run this again."
_SOURCE: Final = "Give the store block complete credentials, or this host a role or a profile."
_REGION: Final = "Set the bucket's own region in the store block."
_WAIT: Final = (
    "Check the endpoint, the network, a proxy that HTTPS_PROXY or HTTP_PROXY names, and that the store has room; then "
    "run this again."
)
_BUSY: Final = (
    "The store, or a proxy before it, answers and cannot do it now: look at its load and its log, and for a write also "
    "that the store has room. Then run this again. What an incident has sealed stays on its host."
)
_BROKEN: Final = "The bucket is there, so this store does not do such a request as S3 does: ask who runs it."
_CHANGED: Final = "The source changed after it was hashed, or was damaged on the way: compare it with its manifest."
_DENIED: Final = ("AccessDenied", "AllAccessDisabled", "403")
_REMEDIES: Final = {
    **dict.fromkeys(_DENIED, _ACCESS),
    **dict.fromkeys(("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidHeader"), _KEYS),
    **dict.fromkeys(("InvalidToken", "ExpiredToken"), _EXPIRED),
    "NoSuchBucket": "Create the bucket, or correct its name in the store block.",
    "NoSuchKey": "List the place, and check the incident id.",
    **dict.fromkeys(("PermanentRedirect", "AuthorizationHeaderMalformed", "301"), _REGION),
    "IllegalLocationConstraintException": _REGION,
    "407": _WAIT,
    "400": f"{_REGION} If it is right: {_EXPIRED}",
    "RequestTimeTooSkewed": "Set this host's clock, then run the evacuation again.",
    **dict.fromkeys(("BadDigest", "XAmzContentSHA256Mismatch"), _CHANGED),
    "EntityTooLarge": "The store takes at most 5 GiB in one piece, and this file was sealed undivided: move it by hand "
    "and record its digest.",
    "EntityTooSmall": "The store wants larger parts than this incident was sealed with: move this file by hand.",
    "InvalidRequest": "If retention is asked, give a bucket with Object Lock; otherwise read what the store says.",
    **dict.fromkeys(("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"), _SOURCE),
    "ProfileNotFound": _SOURCE,
    "SSLError": "Correct the endpoint, or trust its authority: set verify_cert_path in the credentials block.",
}
_LATER: Final = {"429", "503", "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests"}
_TRANSIENT: Final = {"ConditionalRequestConflict", "InternalError", "OperationAborted", *_LATER}
_UNREACHABLE: Final = {
    "ConnectionClosedError", "ConnectionError", "ConnectTimeoutError", "EndpointConnectionError", "HTTPClientError",
    "IncompleteReadError", "NameResolutionError", "NewConnectionError", "ProtocolError", "ProxyConnectionError",
    "ProxyError", "ReadTimeoutError", "RequestTimeout", "ResponseStreamingError",
}  # fmt: skip


def explain(error: Exception, expected: str, has_bucket: Callable[[], bool] = lambda: False) -> StoreError:
    """Return a StoreError for an error of any client: its words, and the remedy. `has_bucket` looks for the bucket."""
    code, message = _code_and_words(error)
    transient = _passes(code)
    kind: type[StoreError] = Denied if code in _DENIED else PermanentStoreError
    remedy = _REMEDIES.get(code, "Read what the store says; the evidence stays on this host.")
    if transient:
        kind = BusyStoreError if code in _LATER else TransientStoreError
        remedy = _WAIT if code in _UNREACHABLE else _BUSY
    elif code == "NoSuchBucket" and has_bucket():
        remedy = _BROKEN
    return kind(expected, f"{code}: {message.rstrip('. ')}" if message else code, "The store did not do it.", remedy)


def is_denial(error: Exception) -> bool:
    """Return whether the error means that this identity lacks a permission."""
    return _code_and_words(error)[0] in _DENIED


def is_transient(error: Exception) -> bool:
    """Return whether a retry may succeed."""
    return _passes(_code_and_words(error)[0])


def _passes(code: str) -> bool:
    return code in _TRANSIENT or code in _UNREACHABLE or _is_fault(code)


def _is_fault(status: str) -> bool:
    """Return whether a status is a temporary server fault. 501 (not implemented) is not temporary."""
    return status.startswith("5") and status != "501"


def _code_and_words(error: Exception) -> tuple[str, str]:
    if isinstance(error, ClientError):
        status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
        code = error.response["Error"].get("Code", status)
        return (status if _is_fault(status) else code), error.response["Error"].get("Message", "")
    text = str(error)
    if not isinstance(error, BaseError | FileNotFoundError):
        return type(error).__name__, text
    head = text.split("\n\nDebug source", 1)[0]  # obstore quotes XML; without that, the connection failed
    stated = re.search(r"status code: (\d{3})", head)
    named = re.search(r"<Code>(\w+)</Code>", head)
    if stated and (_is_fault(stated[1]) or not named):
        return stated[1], head[:300]
    if named:
        message = re.search(r"<Message>([^<]*)</Message>", head)
        return named[1], message[1] if message else ""
    untrusted = re.search(r"invalid peer certificate|InvalidCertificate\(", text)
    return ("SSLError" if untrusted else "ConnectionError"), head[:300]
