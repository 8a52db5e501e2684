"""A store that says for a while that it is busy is waited for, a minute in all; nothing else is waited for so."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tasks.custody.errors import BusyStoreError, StoreError, TransientStoreError
from tasks.custody.store.promises import Promises
from tasks.custody.store.silence import StoreSilence
from tasks.evidence.collect import collect
from tasks.record.final_state import final_state
from tasks.record.findings import content_of, verdict_of
from tasks.record.write import record
from tasks.runtime.wait_for_store import BUSY_SECONDS
from tasks.storage.offload import claim_store
from tasks.system.cancellation import Cancellation, RunCancelled
from tests.support.memory_store import MemoryStore
from tests.support.report_factory import NOW
from tests.support.run_context import case_of, made
from tests.support.sealed_runs import NAMES, contained_findings, recorded_run
from tests.support.workloads import SmallWorkload

FIRST = {
    "offload": ("create", "/evidence/logs/"),
    "verify": ("head", "/evidence/"),
    "promote": ("list", "promotions/"),
    "record": ("create", "/record/001/"),
}
"""In each step that needs the store the first request of a kind that only it makes."""


class Busy(MemoryStore):
    """Answers nothing for so many seconds after the first of these requests."""

    def __init__(self, method: str, key: str, seconds: float, error: type[StoreError] = BusyStoreError) -> None:
        """Begin well."""
        super().__init__()
        self.first, self.seconds, self.error = (method, key), seconds, error
        self.now, self.until, self.pauses = 0.0, 0.0, list[float]()

    def pause(self, seconds: float) -> None:
        """Let the time pass that a run waits."""
        self.pauses.append(seconds)
        self.now += seconds

    def __getattribute__(self, name: str) -> Any:
        """Answer each request, or none."""
        found = super().__getattribute__(name)
        if name not in {"create", "head", "list", "copy", "read", "ensure_present"}:
            return found

        def asked(key: str, *rest: Any, **more: Any) -> Any:
            if not self.until and name == self.first[0] and self.first[1] in key:
                self.until = self.now + self.seconds
            if self.now < self.until:
                raise self.error("an answer", "503: SlowDown", "The store did not do it.", "Run this again.")
            return found(key, *rest, **more)

        return asked


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Busy], str]]:
    """Run an incident against a store; return the name of the state that it ends in."""
    with SmallWorkload(tmp_path / "work load") as small:

        def run(store: Busy) -> str:
            monkeypatch.setattr(Cancellation, "pause", lambda _, seconds: store.pause(seconds))
            with case_of(small.block(needed=["logs"]), store) as context:
                recorded = recorded_run(context, [made(collect.fn(context, name)) for name in NAMES])
                return str(final_state(context, recorded.verdict, recorded, None).name)

        yield run


@pytest.mark.slow
@pytest.mark.parametrize("step", FIRST)
def test_an_outage_of_a_minute_is_waited_out_in_whatever_step_it_comes(ended: Callable[[Busy], str], step: str) -> None:
    store = Busy(*FIRST[step], seconds=BUSY_SECONDS)
    assert ended(store) == "Verified"
    assert store.pauses
    assert sum(store.pauses) <= BUSY_SECONDS == 60


@pytest.mark.slow
@pytest.mark.parametrize("step", ["offload", "record"])
def test_a_longer_one_costs_a_minute_in_all_and_no_more(ended: Callable[[Busy], str], step: str) -> None:
    store = Busy(*FIRST[step], seconds=10_000)
    with suppress(BusyStoreError):  # the promotion of a run without a flow
        assert ended(store) == "Unverified"
    assert sum(store.pauses) == BUSY_SECONDS


@pytest.mark.slow
@pytest.mark.parametrize("error", [TransientStoreError, StoreError])
def test_other_errors_of_a_store_are_not_waited_for(ended: Callable[[Busy], str], error: type[StoreError]) -> None:
    store = Busy(*FIRST["record"], seconds=10_000, error=error)
    assert ended(store) == "Unverified"
    assert store.pauses == []


@pytest.mark.slow
def test_a_store_that_is_never_busy_is_not_waited_for(ended: Callable[[Busy], str]) -> None:
    store = Busy("none", "", 0)
    assert ended(store) == "Verified"
    assert store.pauses == []


def test_the_claim_which_is_made_while_the_workload_is_contained_waits_for_nothing(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Busy("create", "/claim.json", seconds=10)
    monkeypatch.setattr(Cancellation, "pause", lambda _, seconds: store.pause(seconds))
    with case_of(small.block(), store) as context, pytest.raises(BusyStoreError):
        claim_store.fn(context)
    assert store.pauses == []


def test_a_run_that_is_cancelled_waits_no_longer() -> None:
    cancelled = Cancellation()
    cancelled.order(15)
    with pytest.raises(RunCancelled):
        cancelled.pause(1000)


class Silent(MemoryStore):
    """Takes no object and says since when it has been silent, as one behind a network does."""

    has_answered = True

    def find_silence(self) -> StoreSilence:
        """Say so."""
        return StoreSilence("s3://evidence", 0.0, 4, "ReadTimeoutError: no answer in time")

    def promises(self) -> Promises:
        """Fail."""
        raise TransientStoreError(
            "what it does", "ReadTimeoutError: no answer", "It did not do it.", "Check the network."
        )

    def create(self, *_: object, **__: object) -> None:
        """Fail."""
        self.promises()


def test_a_run_that_is_cancelled_names_the_store_that_is_silent_and_what_was_tried(small: SmallWorkload) -> None:
    with case_of(small.block(needed=["logs"]), Silent()) as context:
        context.cancelled.order(15)
        context.cancelled.results = ("contained", "not stored")
        said = verdict_of(context, contained_findings(NOW)).message
    tried = "4 requests failed, the last by ReadTimeoutError: no answer in time; check its endpoint and the network"
    assert f"s3://evidence does not answer 保全先の応答なし since 00:00:00Z: {tried}" in said
    assert "as is said there" in said


def test_a_run_that_is_cancelled_while_its_store_answers_is_told_to_carry_on(small: SmallWorkload) -> None:
    with case_of(small.block(needed=["logs"]), MemoryStore()) as context:
        context.cancelled.order(15)
        context.cancelled.results = ("contained", "not stored")
        said = verdict_of(context, contained_findings(NOW)).message
    assert "as is said there" not in said
    assert "Next: to carry on 続行 (finished steps are not repeated): " in said


@pytest.mark.slow
def test_what_a_store_fails_by_is_told_once(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Cancellation, "pause", lambda *_: None)
    with case_of(small.block(needed=["logs"]), Silent()) as context:
        recorded = recorded_run(context, [made(collect.fn(context, name)) for name in NAMES])
        record.fn(context, content_of(context.log, recorded.verdict, contained_findings(NOW)))
        said = str(final_state(context, recorded.verdict, recorded, None).message)
    assert said.count("ReadTimeoutError: no answer") == 1
    assert "But the record is not in the store, for the same reason as the evidence" in said
    assert sum("The record is on disk only" in each.getMessage() for each in caplog.records) == 1
