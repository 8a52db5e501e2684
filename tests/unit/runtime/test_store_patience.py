"""A store that takes connections and never answers costs a run one time in all, whichever of its steps ask it."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

import pytest

from blocks.s3 import answers, clients
from tasks.custody.errors import BusyStoreError, SilentStoreError, StoreError, TransientStoreError
from tasks.custody.store.silence import StoreSilence
from tasks.evidence.collect import collect
from tasks.evidence.seal import check_seal
from tasks.record import write as writing
from tasks.record.final_state import final_state
from tasks.record.findings import content_of, verdict_of
from tasks.record.write import record
from tasks.runtime import store_patience
from tasks.runtime.context import RunContext
from tasks.runtime.retry import may_pass
from tasks.runtime.store_access import StoreAccess
from tasks.runtime.store_patience import PatientStore
from tasks.storage.offload import claim_store, offload
from tests.support.run_context import case_of, made
from tests.support.sealed_runs import NAMES, contained_findings, seal_volumes
from tests.support.workloads import SmallWorkload, wait_until

BUSY = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n"


class Server:
    """Takes connections on loopback, gives to each the `answer` that stands then, and is else silent.

    With `drips` it sends one letter after the other of an answer that has no end.
    """

    def __init__(self, listener: socket.socket) -> None:
        """On this port."""
        self.listener, self.answer, self.asked = listener, b"", 0
        self.held, self.over = list[socket.socket](), Event()
        self.drips = False

    @property
    def endpoint(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        """Take them until it is over."""
        while not self.over.is_set():
            with suppress(TimeoutError):
                taken, _ = self.listener.accept()
                self.asked += 1
                self.held.append(taken)
                Thread(target=self._talk, args=(taken,), daemon=True).start()

    def _talk(self, taken: socket.socket) -> None:
        with suppress(OSError):
            while taken.recv(1 << 16) and self.answer:
                taken.sendall(self.answer)
            while self.drips and not self.over.wait(0.05):
                taken.sendall(b"H")


@contextmanager
def served(answer: bytes = b"") -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        listener.settimeout(0.05)
        server = Server(listener)
        server.answer = answer
        thread = Thread(target=server.serve)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            thread.join()
            for each in server.held:
                each.close()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> float:
    """Shorten each patience; return the whole time for a silent store."""
    monkeypatch.setattr(clients, "_CANARY", 0.25)
    monkeypatch.setattr(clients, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(answers, "_SOON", 0.1)
    monkeypatch.setattr(store_patience, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(store_patience, "ONCE_SECONDS", 0.2)
    return 1.0


def saved_at(endpoint: str, **more: Any) -> dict[str, Any]:
    keys = {"aws_access_key_id": "A", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    return {"bucket": "evidence", "endpoint": endpoint, "credentials": keys, **more}


@dataclass
class Ended:
    """How a run ended: its message, what failed its steps, and how often each was tried."""

    message: str = ""
    errors: list[StoreError] = field(default_factory=list)
    tries: dict[str, int] = field(default_factory=dict)


def run_all(context: RunContext) -> Ended:
    """Let each step of a run that asks the store do so, as often as it would be tried."""
    ended, now = Ended(), context.incident.opened_at

    def attempt(step: Any, *given: Any) -> Any:
        for number in range(1, step.retries + 2):
            ended.tries[step.step_id] = number
            try:
                result = made(step.fn(context, *given))
            except StoreError as error:
                ended.errors.append(error)
                result = error
            if not may_pass(result):
                break
        return result

    attempt(claim_store)
    evidence = [made(collect.fn(context, name)) for name in NAMES]
    seals = seal_volumes(context, evidence)
    intact = made(check_seal.fn(context, seals))
    why = attempt(offload, seals, intact)
    found = contained_findings(now, evidence=tuple(evidence), seals=tuple(seals), trouble=(f"§5 offload: {why}",))
    content = content_of(context.log, verdict_of(context, found), found)
    ended.message = str(final_state(context, content.verdict, attempt(record, content), None).message)
    return ended


RETAINED = {"lock": "governance", "lock_days": 1}


@pytest.mark.whole
@pytest.mark.slow
@pytest.mark.parametrize(("more", "drips"), [({}, False), (RETAINED, False), ({}, True)])
def test_a_silent_store_costs_one_time_in_all(
    small: SmallWorkload, short: float, more: dict[str, Any], *, drips: bool
) -> None:
    with served() as server, case_of(small.block(needed=["logs"]), saved=saved_at(server.endpoint, **more)) as context:
        server.drips = drips
        began = time.monotonic()
        ended = run_all(context)
        took = time.monotonic() - began
    assert short <= took < short + 8, "what was collected and written is among it"
    assert (ended.tries["offload"], ended.tries["record"]) == (1, 1)
    assert isinstance(ended.errors[-1], SilentStoreError)
    assert "got none to any request of this run since" in ended.message
    assert "the record is not in the store, for the same reason as the evidence" in ended.message
    assert server.asked <= 8


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_the_end_that_is_told_while_it_waits_is_the_end_of_the_run(small: SmallWorkload) -> None:
    told = list[float]()
    with served() as server, case_of(small.block(needed=["logs"]), saved=saved_at(server.endpoint)) as context:
        access, over = context.store, Event()

        def look() -> None:
            while not over.wait(0.05):
                if found := access.find_silence():
                    told.append(found.until)
                    assert "at the latest, in the whole run" in found.tell_waiting(3, 60.0) or not found.until

        watch = Thread(target=look)
        watch.start()
        run_all(context)
        over.set()
        watch.join()
        left = time.time()
    ends = [each for each in told if each]
    assert ends
    assert max(ends) - min(ends) < 0.5, "one end, whichever step waits"
    assert left - max(ends) < 8


@pytest.mark.slow
def test_a_cancel_ends_a_record_that_waits_for_the_store(small: SmallWorkload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_patience, "SILENT_SECONDS", 600.0)
    monkeypatch.setattr(clients, "_CANARY", 100.0)
    monkeypatch.setattr(writing, "PATIENCE_SECONDS", 0.1)
    with served() as server, case_of(small.block(), saved=saved_at(server.endpoint)) as context:

        def cancel() -> None:
            wait_until(lambda: server.asked, what="a request")
            context.cancelled.order(2)

        thread = Thread(target=cancel)
        thread.start()
        found, began = contained_findings(context.incident.opened_at), time.monotonic()
        recorded = made(record.fn(context, content_of(context.log, verdict_of(context, found), found)))
        thread.join()
    assert time.monotonic() - began < 10
    assert "the run was cancelled" in recorded.reason
    assert not recorded.lost


@pytest.mark.whole
@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_a_store_that_says_it_is_busy_keeps_its_patience(small: SmallWorkload) -> None:
    with served(BUSY) as server, case_of(small.block(), saved=saved_at(server.endpoint)) as context:
        errors = [asked(context.store) for _ in range(4)]
        assert {type(each) for each in errors} == {BusyStoreError}
        assert server.asked >= 1
        server.answer = b""
        began = time.monotonic()
        error = asked(context.store)
        assert not isinstance(error, SilentStoreError)
        assert isinstance(error, TransientStoreError)
        assert time.monotonic() - began > 0.9, "as long as its requests are tried"


def asked(access: StoreAccess) -> Exception | None:
    try:
        access.evidence.promises()
    except StoreError as error:
        return error
    return None


def test_time_in_which_nothing_is_asked_is_not_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    store, clock = Refusing(), Clock()
    monkeypatch.setattr(store_patience, "monotonic", clock)
    patient = PatientStore(store)  # type: ignore[arg-type]
    for _ in range(50):
        clock.now += 600
        with pytest.raises(TransientStoreError) as failed:
            patient.head("x")
        assert not isinstance(failed.value, SilentStoreError), "it is refused at once, and costs nothing"
    assert store.asked == 50


def test_a_store_that_was_given_up_is_asked_once_more_by_a_step_a_while_later(monkeypatch: pytest.MonkeyPatch) -> None:
    store, clock = Refusing(), Clock()
    monkeypatch.setattr(store_patience, "monotonic", clock)
    store.act = lambda: clock.pass_by(130)
    patient = PatientStore(store)  # type: ignore[arg-type]
    with pytest.raises(TransientStoreError):
        patient.head("x")
    for _ in range(3):
        clock.now += 5
        with pytest.raises(SilentStoreError):
            patient.head("x")
    assert store.asked == 1
    clock.now += 600
    store.has_answered = True
    store.act = lambda: None
    with pytest.raises(TransientStoreError):
        patient.head("x")
    assert store.asked == 2


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        """Begin somewhere."""
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell it."""
        return self.now

    def pass_by(self, seconds: float) -> None:
        """Let it pass."""
        self.now += seconds


class Refusing:
    """A store whose connections are refused."""

    place = "s3://evidence"

    def __init__(self) -> None:
        """Begin without an answer."""
        self.asked, self.has_answered = 0, False
        self.act: Callable[[], object] = lambda: None

    def find_silence(self) -> StoreSilence | None:
        """Tell nothing."""
        return None

    def head(self, key: str) -> None:
        """Fail."""
        self.asked += 1
        self.act()
        raise TransientStoreError(key, "refused", "Nothing.", "Later.")
