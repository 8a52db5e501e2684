"""Listings of a bucket: every page is asked for, and an answer that is none never counts as an empty one."""

from datetime import UTC, datetime
from typing import Any

import pytest
from urllib3.exceptions import ProtocolError

from blocks.port import StoredObject
from blocks.s3.line import S3Response
from blocks.s3.list import pages

SPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
AT = datetime(2026, 11, 26, 15, tzinfo=UTC)


def listing(*parts: str, following: str = "", quoted: bool = True, space: str = SPACE) -> bytes:
    goes_on = f"<NextContinuationToken>{following}</NextContinuationToken>" if following else ""
    return (
        f"<ListBucketResult {space}><IsTruncated>{'true' if following else 'false'}</IsTruncated>{goes_on}"
        f"{'<EncodingType>url</EncodingType>' if quoted else ''}{''.join(parts)}</ListBucketResult>"
    ).encode()


def found(key: str, size: int = 1) -> str:
    return f"<Contents><Key>{key}</Key><LastModified>{AT.isoformat()}</LastModified><Size>{size}</Size></Contents>"


class Answers:
    """A wire that gives these answers, one after another."""

    def __init__(self, *bodies: bytes) -> None:
        """Count the questions."""
        self._bodies, self.asked = list(bodies), list[str]()

    def ask(self, _method: str, _name: str, _headers: object, *, query: str) -> S3Response:
        """The next one."""
        self.asked.append(query)
        return S3Response(200, {}, self._bodies.pop(0))


def read(*bodies: bytes, delimiter: str = "") -> list[Any]:
    return list(pages(Answers(*bodies), "team/", "a b/", delimiter))  # type: ignore[arg-type]


def test_every_page_is_asked_for_by_the_token_of_the_one_before() -> None:
    wire = Answers(listing(found("team/a"), following="x/+="), listing(found("team/b")))
    keys = [each.key for page in pages(wire, "team/", "a b/") for each in page.objects]  # type: ignore[arg-type]
    assert keys == ["a", "b"]
    assert wire.asked == [
        "?encoding-type=url&list-type=2&prefix=team%2Fa%20b%2F",
        "?continuation-token=x%2F%2B%3D&encoding-type=url&list-type=2&prefix=team%2Fa%20b%2F",
    ]


@pytest.mark.parametrize("space", [SPACE, ""])
def test_objects_and_folders_are_told_relative_to_the_root(space: str) -> None:
    folder = "<CommonPrefixes><Prefix>team/a+b%2F%1B/</Prefix></CommonPrefixes>"
    (page,) = read(listing(found("team/a+b%2Bc%252F%2Fx", 7), folder, space=space), delimiter="/")
    assert page.objects == [StoredObject("a b+c%2F/x", 7, None)]
    assert page.objects[0].modified == AT
    assert page.folders == ["a b/\x1b/"]


def test_keys_are_taken_as_they_are_from_a_server_that_does_not_quote() -> None:
    (page,) = read(listing(found("team/a+b%20&amp;"), quoted=False))
    assert page.objects[0].key == "a+b%20&"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html/>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        listing("<Contents><Size>1</Size></Contents>"),
        listing(found("a").replace("<Size>1", "<Size>x")),
    ],
)
def test_an_answer_that_is_no_whole_listing_is_an_error(answer: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(answer)


def test_a_listing_that_names_the_same_page_again_ends() -> None:
    with pytest.raises(ProtocolError):
        read(listing(following="x"), listing(following="x"))
