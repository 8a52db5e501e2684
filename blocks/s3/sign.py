"""Sign requests with AWS Signature Version 4 (Amazon S3 API reference, "Authenticating requests").

botocore builds a mail message for each request, which costs more than the rest of a small request. A property test
compares this signature with botocore's.
"""

import hmac
import time
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

_ALGORITHM: Final = "AWS4-HMAC-SHA256"


def sign_request(  # noqa: PLR0913, PLR0917  the parts of a request
    keys: "ReadOnlyCredentials", region: str, method: str, target: str, headers: Mapping[str, str], body_sha256: str
) -> dict[str, str]:
    """Return the headers in lower case, including those of the signature.

    `target` is the path and query, quoted exactly as they are sent; `body_sha256` is hexadecimal.
    """
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    signed_headers = {name.lower(): value for name, value in headers.items()}
    signed_headers |= {"x-amz-content-sha256": body_sha256, "x-amz-date": moment}
    if keys.token:
        signed_headers["x-amz-security-token"] = keys.token
    path, _, query = target.partition("?")
    names = sorted(signed_headers)
    lines = [f"{name}:{' '.join(signed_headers[name].split())}" for name in names]
    listed, arguments = ";".join(names), "&".join(sorted(query.split("&"), key=lambda each: each.partition("=")))
    request = "\n".join([method, path, arguments, *lines, "", listed, body_sha256])
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    text = f"{_ALGORITHM}\n{moment}\n{scope}\n{sha256(request.encode()).hexdigest()}"
    signature = _mac(_key(keys.secret_key, moment[:8], region), text).hex()
    proof = f"Credential={keys.access_key}/{scope}, SignedHeaders={listed}, Signature={signature}"
    return {**signed_headers, "authorization": f"{_ALGORITHM} {proof}"}


@lru_cache(maxsize=4)
def _key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for each in (day, region, "s3", "aws4_request"):
        key = _mac(key, each)
    return key


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
