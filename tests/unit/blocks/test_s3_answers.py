"""A store that does not answer is known by its requests: since when, how many, and until when the last is tried."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from threading import Event, Thread

import pytest
from botocore.exceptions import ClientError
from prefect_aws import AwsCredentials
from urllib3.exceptions import ProtocolError

from blocks.s3.answers import Answers
from blocks.s3.store import S3Store
from tasks.custody.errors import TransientStoreError
from tasks.custody.store.retention import NOTHING, Retention

AT = "s3://evidence"


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        """Begin at a second that is not 0."""
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell it."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def refusal(status: int) -> ClientError:
    response = {"Error": {"Code": str(status), "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "PUT")  # type: ignore[arg-type]


def test_a_request_that_waits_is_known_before_it_is_given_up(clock: Clock) -> None:
    answers = Answers(clock)
    with answers.await_answer(62):
        assert answers.find_silence(AT) is None, "an answer may take a while"
        clock.now += 20
        found = answers.find_silence(AT)
        assert found
        assert (found.since, found.until, found.tries) == (1000, 1062, 0)
        answers.hear()
        assert answers.find_silence(AT) is None, "another thread's request was answered"
    clock.now += 1000
    assert answers.find_silence(AT) is None, "nobody asks anything"


def test_what_was_lost_counts_from_the_first_request_without_an_answer(clock: Clock) -> None:
    answers = Answers(clock)
    for _ in range(3):
        with answers.await_answer(62):
            clock.now += 15
            answers.judge(ProtocolError("the connection was lost"))
    found = answers.find_silence(AT)
    assert found
    assert (found.since, found.until, found.tries) == (1000, 0, 3)
    assert "3 requests failed, the last by ProtocolError: the connection was lost; check its endpoint" in (
        found.tell_tried()
    )
    answers.judge(refusal(403))
    assert answers.find_silence(AT) is None, "a refusal is an answer"


def test_a_store_that_answers_that_it_cannot_is_not_called_silent(clock: Clock) -> None:
    answers = Answers(clock)
    answers.judge(refusal(503))
    clock.now += 20
    found = answers.find_silence(AT)
    assert found
    assert found.tell_waiting(2, 1) == f"the store answers that it cannot 保全先は処理不可 since 00:16:40Z: {AT}"
    assert "does not answer" not in found.tell_tried()


@pytest.fixture
def silent() -> Iterator[str]:
    """A port that takes each connection and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def store_at(endpoint: str, retention: Retention = NOTHING) -> S3Store:
    keys = AwsCredentials(aws_access_key_id="A", aws_secret_access_key="secret", region_name="us-east-1")
    return S3Store("evidence", "lab", credentials=keys, endpoint=endpoint, retention=retention)


@pytest.mark.slow
@pytest.mark.parametrize("ask", ["promises", "unfit", "head"])
def test_every_client_tells_of_a_store_that_takes_connections_and_is_silent(
    ask: str, silent: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, begun = store_at(silent, Retention(hold=True)), Event()
    begin = store._answers.begin

    def note(seconds: float) -> None:
        begin(seconds)
        begun.set()

    monkeypatch.setattr(store._answers, "now", clock)
    monkeypatch.setattr(store._answers, "begin", note)
    acts: dict[str, Callable[[], object]] = {
        "promises": store.promises,
        "unfit": store.unfit,
        "head": partial(store.head, "incidents/x"),
    }

    def run() -> None:
        with suppress(Exception):
            acts[ask]()

    Thread(target=run, daemon=True).start()
    assert begun.wait(20)
    clock.now += 20
    found = store.find_silence()
    assert found
    assert (found.place, found.since) == ("s3://evidence/lab", 1000)
    assert found.until > clock.now


@pytest.mark.slow
def test_a_closed_port_is_told_shortly(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
    store = store_at(endpoint)
    monkeypatch.setattr(store._answers, "now", clock)
    with pytest.raises(TransientStoreError) as failed:
        store.promises()
    assert len(str(failed.value)) < 400, str(failed.value)
    assert "_Patient" not in str(failed.value)
    clock.now += 20
    found = store.find_silence()
    assert found
    assert found.tries == 4
