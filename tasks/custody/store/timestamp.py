"""Ask for and prove time stamps by RFC 3161, which say that an authority has seen a digest at a time.

See docs/adr/0034.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeAlias

from cryptography.x509 import Certificate, load_pem_x509_certificates
from cryptography.x509.oid import ObjectIdentifier
from rfc3161_client import (
    HashAlgorithm,
    PKIStatus,
    TimestampRequestBuilder,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from tasks.custody.errors import BadSignature, Refused

if TYPE_CHECKING:
    from rfc3161_client import TimeStampRequest, TimeStampResponse

Roots: TypeAlias = tuple[Certificate, ...] | None
"""Certificates of the authorities that an auditor trusts; None if none were given."""
TOKEN_LIMIT: Final = 64 << 10
"""Maximum bytes of an authority's answer: usual ones have 1 to 8 KiB, most of it certificates."""

_SHA256: Final = ObjectIdentifier("2.16.840.1.101.3.4.2.1")


def request_for(data: bytes) -> "TimeStampRequest":
    """Return a request for a time stamp over the SHA-256 of `data`, with a new nonce, for the certificates as well."""
    return TimestampRequestBuilder(data, HashAlgorithm.SHA256).build()


def stamped_at(answer: bytes, data: bytes, request: "TimeStampRequest | None" = None) -> datetime:
    """Return the time that an authority's answer states for exactly this data. Does not decide on trust.

    With `request` the answer has to be the one to that request. Raises BadSignature.
    """
    with _explaining():
        stated = _read(answer).tst_info
        imprint = stated.message_imprint
        if (imprint.hash_algorithm, imprint.message) != (_SHA256, hashlib.sha256(data).digest()):
            raise ValueError("a time stamp over other data")
        if request and stated.nonce != request.nonce:
            raise ValueError("the answer to another request: its nonce differs")
        return stated.gen_time


def prove(answer: bytes, data: bytes, roots: Iterable[Certificate]) -> None:
    """Raise BadSignature unless a certificate that leads to one of `roots`, and may stamp, has signed the time stamp.

    The certificates have to be valid at the stated time, not now. Revocation is not looked up.
    """
    with _explaining():
        VerifierBuilder(roots=[*roots]).build().verify_message(_read(answer), data)


def read_roots(pem: str) -> tuple[Certificate, ...]:
    """Parse the certificates of the authorities that an auditor trusts, in PEM. Raises Refused."""
    try:
        return tuple(load_pem_x509_certificates(pem.encode()))
    except ValueError as error:
        got = "another text, or none"
        raise Refused("root certificates of time-stamp authorities in PEM", got, "Get them from these.") from error


def _read(answer: bytes) -> "TimeStampResponse":
    """Parse an answer that grants a time stamp."""
    if len(answer) > TOKEN_LIMIT:
        raise ValueError(f"more than {TOKEN_LIMIT} bytes")
    found = decode_timestamp_response(answer)
    if found.status != PKIStatus.GRANTED:
        raise ValueError(f"a refusal, status {found.status}: {' '.join(found.status_string) or 'no reason given'}")
    return found


@contextmanager
def _explaining() -> Iterator[None]:
    try:
        yield
    except (ValueError, VerificationError) as error:
        reason = re.search(r"Verify error:\s*([A-Za-z0-9 ,'-]+)", str(error))
        got = reason[1].strip() if reason else str(error).rpartition("certificates: ")[2].partition(": ErrorStack")[0]
        cure = "Ask the authority what it signs; keep what it answered."
        raise BadSignature("a time stamp over this data (RFC 3161)", got, "It vouches for no time.", cure) from error
