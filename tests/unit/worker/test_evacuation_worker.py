"""How often the worker asks, and what its health check and Prefect's registry see."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.settings import PREFECT_WORKER_QUERY_SECONDS, temporary_settings
from prefect.workers.base import BaseWorker
from prefect.workers.process import ProcessWorker

from tasks.worker import evacuation_worker
from tasks.worker.evacuation_worker import EvacuationWorker
from tasks.worker.repeat_until import repeat_until


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The questions so far; each fails while the list holds "down"."""
    questions: list[str] = []

    async def ask(_: Any) -> list[Any]:
        if "down" in questions:
            raise ConnectionError
        questions.append("poll")
        return []

    monkeypatch.setattr(ProcessWorker, "get_and_submit_flow_runs", ask)
    return questions


async def turn(worker: EvacuationWorker) -> None:
    worker._last_polled_time = datetime.now(UTC) - timedelta(days=1)
    await worker.get_and_submit_flow_runs()


def polls(worker: EvacuationWorker) -> bool:
    return worker.is_worker_still_polling(query_interval_seconds=1)


@pytest.mark.slow
def test_prefect_finds_it_by_name_and_knows_it_as_a_process_worker() -> None:
    assert BaseWorker.get_worker_class_from_type("evacuation") is EvacuationWorker
    assert BaseWorker.get_worker_class_from_type("process") is ProcessWorker
    assert EvacuationWorker.type == "process", "no warning for a pool of that type"


def test_it_asks_at_each_turn_until_the_stream_is_proven_and_rarely_afterwards(asked: list[str]) -> None:
    worker = EvacuationWorker("p")
    for _ in range(3):
        asyncio.run(turn(worker))
    assert asked == ["poll"] * 3
    worker._hints.proven = True
    asyncio.run(turn(worker))
    assert (len(asked), polls(worker)) == (3, True)
    worker._ask_soon()
    asyncio.run(turn(worker))
    asyncio.run(turn(worker))
    assert len(asked) == 4
    worker._hints.proven = False
    asyncio.run(turn(worker))
    assert len(asked) == 5


def test_a_server_that_answers_no_question_is_not_taken_for_health(asked: list[str]) -> None:
    worker = EvacuationWorker("p")
    worker._hints.proven = True
    asked.append("down")
    for _ in range(2):
        with pytest.raises(ConnectionError):
            asyncio.run(turn(worker))
    assert not polls(worker)


def test_a_slow_server_is_spared_for_some_seconds(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 2.0, 4.0, 7.0, 7.1, 8.0, 8.1])
    monkeypatch.setattr(evacuation_worker, "time", SimpleNamespace(monotonic=lambda: next(times)))
    worker = EvacuationWorker("p")
    seen = []
    for _ in range(5):
        worker._last_polled_time = datetime.now(UTC)
        asyncio.run(worker.get_and_submit_flow_runs())
        seen.append(len(asked))
    assert seen == [1, 1, 1, 2, 3], "asked at 0 (answered at 1), spared at 2 and 4, asked at 7 and, answered soon, at 8"


def test_a_hint_is_asked_about_at_once_however_slow_the_server_is(asked: list[str]) -> None:
    async def hinted() -> None:
        worker = EvacuationWorker("p")
        worker._note_hint(uuid4())
        worker._spared = time.monotonic() + 60
        answering = asyncio.create_task(worker._answer_hints())
        for _ in range(3):  # turns of the loop, none of which waits
            await asyncio.sleep(0)
        answering.cancel()

    asyncio.run(hinted())
    assert asked == ["poll"]


@pytest.mark.parametrize("chosen", [True, False])
def test_who_says_how_often_to_ask_is_obeyed(
    asked: list[str],
    monkeypatch: pytest.MonkeyPatch,
    chosen: bool,  # noqa: FBT001
) -> None:
    loops: list[float] = []

    async def start(worker: EvacuationWorker, *_: Any, **__: Any) -> None:
        worker._hints.proven = True
        loops.append(PREFECT_WORKER_QUERY_SECONDS.value())
        await turn(worker)
        await turn(worker)

    monkeypatch.setattr(ProcessWorker, "start", start)
    with temporary_settings({PREFECT_WORKER_QUERY_SECONDS: 5} if chosen else {}):
        asyncio.run(EvacuationWorker("p").start())
    assert loops == [5 if chosen else 1]
    assert len(asked) == (2 if chosen else 1)


def test_many_hints_are_one_question_and_each_run_is_asked_for_twice_at_most(asked: list[str]) -> None:
    async def scene() -> None:
        worker = EvacuationWorker("p")
        worker._hints.proven = True
        for _ in range(50):
            worker._note_hint(uuid4())
        answering = asyncio.create_task(repeat_until(worker._answer_hints, lambda: 0))
        for _ in range(50):
            await asyncio.sleep(0)
        answering.cancel()

    asyncio.run(scene())
    assert len(asked) == 2
