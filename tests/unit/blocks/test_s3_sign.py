"""Our signature of a request is botocore's, whatever the request."""

from unittest.mock import patch
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as some

from blocks.s3.sign import sign_request

WORDS = some.text(some.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
VALUES = some.text(some.characters(min_codepoint=32, max_codepoint=126), max_size=40)
NAMES = some.sampled_from(
    ["If-None-Match", "Content-Length", "x-amz-copy-source", "x-amz-checksum-sha256", "x-amz-object-lock-mode"]
)
DIGESTS = some.binary(min_size=32, max_size=32).map(bytes.hex)


@pytest.mark.slow
@given(
    keys=some.builds(ReadOnlyCredentials, WORDS, WORDS, some.none() | WORDS),
    region=some.sampled_from(["us-east-1", "ap-northeast-1"]),
    method=some.sampled_from(["PUT", "HEAD", "GET"]),
    name=some.text(some.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    query=some.dictionaries(some.sampled_from(["a", "a-", "a-b", "A"]) | WORDS, VALUES, max_size=3),
    headers=some.dictionaries(NAMES, VALUES, max_size=5),
    body=DIGESTS,
)
def test_a_request_is_signed_as_botocore_signs_it(  # noqa: PLR0913, PLR0917  the parts of a request
    keys: ReadOnlyCredentials,
    region: str,
    method: str,
    name: str,
    query: dict[str, str],
    headers: dict[str, str],
    body: str,
) -> None:
    said = "&".join(f"{quote(key, safe='-_.~')}={quote(value, safe='-_.~')}" for key, value in query.items())
    target = f"/bucket/{quote(name, safe='/-_.~')}{'?' if said else ''}{said}"
    headers = {"Host": "127.0.0.1:9000", **headers}
    theirs = AWSRequest(method, f"http://127.0.0.1:9000{target}", headers={**headers, "X-Amz-Content-SHA256": body})
    ours = sign_request(keys, region, method, target, headers, body)
    with patch.object(S3SigV4Auth, "payload", return_value=body), patch("botocore.auth.get_current_datetime") as now:
        now.return_value.strftime.return_value = ours["x-amz-date"]
        S3SigV4Auth(keys, "s3", region).add_auth(theirs)
    assert ours == {key.lower(): value for key, value in theirs.headers.items()}
