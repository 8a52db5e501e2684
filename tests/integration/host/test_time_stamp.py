"""An authority of whatever kind costs a record ten seconds at the most, and never its place in the store."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from blocks.credentials import Keys
from blocks.store_fields import StoreFields
from blocks.workload import Workload
from tasks.custody.incident.readiness import Finding, Weight
from tasks.custody.store.timestamp import prove, read_roots, request_for
from tasks.evidence.time_stamp import time_stamp
from tasks.readiness import store as doctor
from tasks.readiness.check_target import CheckTarget
from tests.integration.s3.tls import tls_before
from tests.support.time_authority import Act, TimeAuthority, answer_with

DATA = b"a closing"
PIECE = bytes(1 << 14)


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def place(url: str, **fields: Any) -> StoreFields:
    return StoreFields(folder=Path("/srv/evidence"), timestamp_url=url, **fields)


def reason(url: str, seconds: float = 5.0, **fields: Any) -> str:
    answer = time_stamp(place(url, **fields), DATA, seconds)
    assert isinstance(answer, str), "a time stamp"
    assert answer.startswith(url)
    return answer


def test_a_real_authority_is_asked_and_its_answer_kept_as_it_came(time_authority: TimeAuthority) -> None:
    with time_authority.serving() as url:
        answer = time_stamp(place(url), DATA)
    assert isinstance(answer, bytes)
    prove(answer, DATA, read_roots(time_authority.roots))


def endless(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    answer_with(handler, b"")
    while True:
        handler.wfile.write(PIECE)


def dripping(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    answer_with(handler, b"")
    while True:
        handler.wfile.write(b"0")
        time.sleep(0.02)  # the pace of the server, not a guess


def silent(*_: object) -> None:
    Event().wait(30)


def replying(change: Callable[[TimeAuthority, bytes], bytes]) -> Callable[[TimeAuthority], Act]:
    return lambda it: lambda handler, query: answer_with(handler, change(it, query))


@pytest.mark.short(1)
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (replying(lambda it, query: it.reply(query)[:-7]), "ShortData"),
        (replying(lambda it, _: it.reply(request_for(b"another closing").as_bytes())), "a time stamp over other data"),
        (replying(lambda it, _: it.reply(request_for(DATA).as_bytes())), "its nonce differs"),
        (replying(lambda it, _: it.stamp(DATA)), "its nonce differs"),
        (replying(lambda *_: b"<html>sign in</html>"), "ASN.1 parse error"),
        (replying(lambda *_: b""), "ASN.1 parse error"),
        (replying(lambda it, _: it.reply(b"no query")), "a refusal, status 2"),
        (lambda _: lambda handler, _: answer_with(handler, b"closed", 503), "Server error '503"),
        (lambda _: endless, "more than 65536 bytes"),
        (lambda _: dripping, "no answer within 0.5 s|ReadTimeout"),
        (lambda _: silent, "no answer within 0.5 s|ReadTimeout"),
    ],
)
def test_what_is_no_answer_to_the_question_is_refused_and_why_is_said(
    time_authority: TimeAuthority, make: Callable[[TimeAuthority], Act], words: str
) -> None:
    with time_authority.serving(make(time_authority)) as url:
        began = time.monotonic()
        assert re.search(words, reason(url, 0.5 if "0.5" in words else 30.0))
        assert time.monotonic() - began < 20


def test_a_redirect_is_not_followed(time_authority: TimeAuthority) -> None:
    with (
        time_authority.serving() as url,
        time_authority.serving(lambda handler, _: answer_with(handler, b"", 307, Location=url)) as moved,
    ):
        assert "Redirect response '307" in reason(moved)


def test_nobody_at_the_address_is_said(time_authority: TimeAuthority) -> None:
    with time_authority.serving() as url:
        pass
    assert "ConnectError" in reason(url)
    assert "ConnectError" in reason("http://tsa.evacuation.invalid/tsr")


def test_a_proxy_of_the_environment_is_used(time_authority: TimeAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()

    def relay(handler: BaseHTTPRequestHandler, query: bytes) -> None:
        asked.append(handler.path)
        answer_with(handler, time_authority.reply(query))

    with time_authority.serving(relay) as url:
        monkeypatch.setenv("http_proxy", url.removesuffix("/tsr"))
        assert isinstance(time_stamp(place("http://tsa.evacuation.invalid/tsr"), DATA), bytes)
    assert asked == ["http://tsa.evacuation.invalid/tsr"]


def test_an_authority_behind_a_private_ca_is_trusted_as_the_store_is(
    time_authority: TimeAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with time_authority.serving() as plain, tls_before(int(plain.split(":")[2].split("/")[0]), tmp_path) as tls:
        url = f"{tls.endpoint}/tsr"
        assert "CERTIFICATE_VERIFY_FAILED" in reason(url)
        keys = Keys.model_validate({"aws_client_parameters": {"verify_cert_path": str(tls.authority)}})
        assert isinstance(time_stamp(place(url, credentials=keys), DATA), bytes)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tls.authority))
        assert isinstance(time_stamp(place(url), DATA), bytes)


def test_a_doctor_asks_the_authority_and_compares_its_clock(
    time_authority: TimeAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = Workload(root=tmp_path)

    def looked(url: str) -> Finding:
        saved = {"folder": tmp_path, "timestamp_url": url}
        return doctor.check_time_stamp(CheckTarget("small", workload, "store", saved))

    with time_authority.serving() as url:
        assert (looked(url).weight, looked("").weight) == (Weight.SOUND, Weight.SOUND)
        began = datetime.now(UTC)
        then = began - timedelta(minutes=2)
        monkeypatch.setattr(doctor, "ask_authority", lambda _, text: time_authority.stamp(text, then))
        found = looked(url)
    assert found.weight is Weight.LOSS
    (behind,) = re.findall(r"its clock is -(\d+) s from this host's", found.found)
    assert 120 <= int(behind) <= 121 + (datetime.now(UTC) - began).total_seconds()
