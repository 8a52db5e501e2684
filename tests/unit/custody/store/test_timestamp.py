"""A time stamp is taken for what `openssl ts -verify` takes it for, and for nothing else."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.x509 import Certificate
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.custody.errors import BadSignature, Refused
from tasks.custody.store.timestamp import TOKEN_LIMIT, prove, read_roots, request_for, stamped_at
from tests.support.examples import scaled
from tests.support.time_authority import TimeAuthority

CLOSING = b'{"closed": "for ever"}\n'
NOW = datetime.now(UTC).replace(microsecond=0)
THEN = NOW - timedelta(days=500)
Answer = Callable[[TimeAuthority], bytes]


@pytest.fixture(scope="module")
def roots(time_authority: TimeAuthority) -> tuple[Certificate, ...]:
    return read_roots(time_authority.roots)


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(BadSignature) as refused:
        act()
    return refused.value.got


def proves(answer: bytes, roots: tuple[Certificate, ...]) -> bool:
    try:
        stamped_at(answer, CLOSING)
        prove(answer, CLOSING, roots)
    except BadSignature:
        return False
    return True


def test_the_answer_of_a_real_authority_states_its_time_and_proves_it(
    time_authority: TimeAuthority, roots: tuple[Certificate, ...]
) -> None:
    request = request_for(CLOSING)
    answer = time_authority.reply(request.as_bytes())
    assert abs(stamped_at(answer, CLOSING, request) - datetime.now(UTC)) < timedelta(seconds=10)
    prove(answer, CLOSING, roots)
    assert time_authority.holds(answer, CLOSING, NOW)
    assert "its nonce differs" in refusal(lambda: stamped_at(answer, CLOSING, request_for(CLOSING)))
    assert request_for(CLOSING).nonce != request.nonce


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda it: it.stamp(CLOSING, signer="expired"), "certificate has expired"),
        (lambda it: it.stamp(CLOSING, THEN), "certificate is not yet valid"),
        (lambda it: it.stamp(CLOSING, signer="web"), "unsuitable certificate purpose"),
        (lambda it: it.stamp(CLOSING, signer="stranger"), "unable to get local issuer certificate"),
        (lambda it: it.stamp(CLOSING + b" "), "Mismatch between messages"),
        (lambda it: it.stamp(CLOSING)[:-1], "ShortData"),
        (lambda it: it.stamp(CLOSING) + b"\0", "ExtraData"),  # openssl reads no further than to the end
        (lambda it: it.stamp(CLOSING)[:-1] + b"\0", "Unable to verify pkcs7 signature"),
        (lambda _: bytes.fromhex("30053003020100"), "Missing SignedData"),
        (lambda _: bytes.fromhex("30053003020102"), "a refusal, status 2: no reason given"),
        (lambda it: it.reply(b"no query"), "a refusal, status 2"),
        (lambda _: b"", "ShortData"),
        (lambda _: bytes(TOKEN_LIMIT + 1), "more than 65536 bytes"),
    ],
)
def test_what_openssl_does_not_take_is_not_taken_and_why_is_said(
    time_authority: TimeAuthority, roots: tuple[Certificate, ...], make: Answer, words: str
) -> None:
    answer = make(time_authority)
    assert words in refusal(lambda: prove(answer, CLOSING, roots))
    assert time_authority.holds(answer, CLOSING, THEN if "yet" in words else NOW) == (words == "ExtraData")


def test_a_certificate_counts_at_the_time_that_is_stated(
    time_authority: TimeAuthority, roots: tuple[Certificate, ...]
) -> None:
    then = NOW - timedelta(days=100)
    answer = time_authority.stamp(CLOSING, then, "expired")
    assert stamped_at(answer, CLOSING) == then
    prove(answer, CLOSING, roots)
    assert time_authority.holds(answer, CLOSING, then)
    assert not time_authority.holds(answer, CLOSING, NOW)


def test_the_digest_is_compared_without_roots_as_well(time_authority: TimeAuthority) -> None:
    answer = time_authority.stamp(CLOSING)
    assert refusal(lambda: stamped_at(answer, b"another closing")) == "a time stamp over other data"
    assert "at least one root" in refusal(lambda: prove(answer, CLOSING, ()))


@pytest.mark.parametrize("examples", [scaled(40), pytest.param(4000, marks=pytest.mark.soak)])
def test_a_changed_time_stamp_never_proves_what_openssl_would_not(
    time_authority: TimeAuthority, roots: tuple[Certificate, ...], examples: int
) -> None:
    whole = time_authority.stamp(CLOSING, NOW)

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(at=st.integers(0, len(whole) - 1), changed=st.binary(max_size=3), width=st.integers(0, 3))
    def each(at: int, changed: bytes, width: int) -> None:
        answer = whole[:at] + changed + whole[at + width :]
        if proves(answer, roots):
            assert time_authority.holds(answer, CLOSING, NOW)
            assert stamped_at(answer, CLOSING) == NOW

    each()


@pytest.mark.parametrize("text", ["", "roots", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_without_certificates_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="root certificates of time-stamp authorities in PEM"):
        read_roots(text)
