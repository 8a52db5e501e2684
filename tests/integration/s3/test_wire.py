"""What goes wrong between client and server: what passes is passed, what does not is said, nothing is lost or twice."""

import socket
import time
from collections import Counter
from collections.abc import Callable
from threading import Event

import pytest
from prefect_aws import AwsCredentials

from blocks.s3 import clients as s3_clients
from blocks.s3.store import S3Store
from tasks.custody.errors import PermanentStoreError, StoreError, TransientStoreError
from tasks.custody.evidence.part_sizes import divide
from tasks.runtime import wait_for_store
from tests.integration.s3.conftest import LARGE, MIB, PARTS
from tests.integration.s3.proxy import Act, Exchange, Proxy, Rule, cut_after, dawdle, lose_the_answer, refuse, stall
from tests.support.deliveries import proven, run_of, sent
from tests.support.workloads import SmallWorkload

pytestmark = pytest.mark.whole

Door = Callable[[], S3Store]
REQUESTS = {
    "a small object": ("PUT", "/evidence/logs/"),
    "a streamed object": ("PUT", "/evidence/models/model_streamed"),
    "a part": ("PUT", "partNumber="),
    "the beginning of an upload": ("POST", r"\?uploads"),
    "its end": ("POST", r"\?uploadId="),
    "a copy": ("PUT", "/snapshots/"),
    "a look": ("HEAD", "/evidence/"),
}
FAULTS: dict[str, Act] = {
    "500": refuse(500, "InternalError"),
    "503": refuse(503, "SlowDown"),
    "cut at once": cut_after(0),
    "cut after some bytes": cut_after(1000),
    "its answer lost": lose_the_answer,
}


@pytest.mark.sample(2)
@pytest.mark.parametrize("fault", FAULTS)
def test_what_passes_is_tried_again_request_by_request(
    laden: SmallWorkload, door: Door, proxy: Proxy, fault: str
) -> None:
    proxy.rules = [
        Rule(FAULTS[fault], method, path, times=1 if method == "POST" else 2) for method, path in REQUESTS.values()
    ]
    with run_of(laden, door()) as (context, seals):
        sent(context, seals)
        assert proven(context, seals, read_back=True).is_complete
    assert not [rule for rule in proxy.rules if rule.times]
    assert max(proxy.stored().values()) == 1
    assert len([path for path in proxy.stored() if "partNumber=" in path]) == PARTS
    assert list(door().end_unfinished("incidents/IR-1/")) == []


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("request_", "act", "kind", "word"),
    [
        ("a small object", refuse(503, "SlowDown"), TransientStoreError, "503"),
        ("a part", cut_after(MIB), TransientStoreError, "network"),
        ("a part", refuse(400, "ExpiredToken"), PermanentStoreError, "Renew the temporary credentials"),
        ("a copy", refuse(403, "AccessDenied"), PermanentStoreError, "s3:PutObject"),
        ("a small object", refuse(403, "RequestTimeTooSkewed"), PermanentStoreError, "clock"),
    ],
)
def test_what_does_not_pass_is_said_and_later_only_the_rest_is_sent(  # noqa: PLR0913, PLR0917  fixtures
    laden: SmallWorkload,
    door: Door,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    request_: str,
    act: Act,
    kind: type[StoreError],
    word: str,
) -> None:
    monkeypatch.setattr(wait_for_store, "BUSY_SECONDS", 5.0)
    asked = Counter[str]()

    def counted(exchange: Exchange) -> None:
        asked[exchange.path] += 1
        act(exchange)

    proxy.rules = [Rule(counted, *REQUESTS[request_], skip=2, times=1_000_000)]
    with run_of(laden, door()) as (context, seals), pytest.raises(kind, match=word):
        sent(context, seals)
    if kind is PermanentStoreError:
        assert set(asked.values()) == {1}, "what is permanent is not tried again"
    before = proxy.stored()
    proxy.rules = []
    with run_of(laden, door()) as (context, seals):
        sent(context, seals)
        assert proven(context, seals, read_back=True).is_complete
    assert before
    assert max(proxy.stored().values()) == 1


@pytest.mark.sample(1)
@pytest.mark.parametrize("request_", ["a small object", "a part", "its end"])
def test_a_server_that_falls_silent_is_not_waited_for_without_end(
    laden: SmallWorkload, door: Door, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, request_: str
) -> None:
    monkeypatch.setattr(s3_clients, "ANSWER_SECONDS", 1)
    woken = Event()
    proxy.rules = [Rule(stall(woken), *REQUESTS[request_], times=1)]
    began = time.monotonic()
    with run_of(laden, door()) as (context, seals):
        sent(context, seals)
        assert proven(context, seals).is_complete
    woken.set()
    assert time.monotonic() - began < 30


def test_a_store_that_accepts_connections_and_never_answers_is_known_by_its_canary(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3_clients, "_CANARY", 0.2)
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        keys = AwsCredentials(aws_access_key_id="any", aws_secret_access_key="any")
        where = f"http://127.0.0.1:{silent.getsockname()[1]}"
        store = S3Store("evidence", "house", credentials=keys, endpoint=where, region="us-east-1")
        with pytest.raises(TransientStoreError, match="no answer in time"):
            store.promises()
        with pytest.raises(TransientStoreError, match="no answer in time"):
            store.probe("ready", b"one")
    assert time.monotonic() - began < 30


def test_a_slow_line_is_no_lost_connection(laden: SmallWorkload, door: Door, proxy: Proxy) -> None:
    """Not even while a connection is new."""
    large = laden.root / LARGE
    sha256, parts = divide(large, 5 * MIB, large.stat().st_size)
    proxy.rules = [Rule(dawdle(2.5), *REQUESTS["a part"], times=PARTS)]
    store, told = door(), list[int]()
    store.create("evidence/large", large, sha256, parts, told.append)
    assert store.ensure_present("evidence/large", sha256, parts)
    assert proxy.asked["PUT"] == PARTS
