"""`python -m benchmarks.idle`: what idle workers cost one Prefect server process, in cores.

All workers are real ones of our type, with a queue each, in one process of their own: they subscribe, prove the stream,
ask, and send heartbeats as on hosts of their own. What is measured begins when all have proven the stream. The server
is one process, with SQLite or the database of `--database`: with SQLite, Prefect's server handles at most 100 requests
at once, each open websocket is one of them, and a worker holds two.
"""

import argparse
import asyncio
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import WorkQueueStatus
from prefect.settings import PREFECT_API_URL, temporary_settings

from benchmarks.machine import Strangers, spent_by
from benchmarks.rows import RESULTS, table, under, with_strangers, write
from tasks.drill.deployment import POOL
from tasks.drill.screen import say
from tasks.prefect_side.own_server import PrefectServer
from tasks.worker.evacuation_worker import EvacuationWorker

WORKERS: Final = 100
SECONDS: Final = 180.0
_GOAL_CORES: Final = 0.2
_START_SECONDS: Final = 60.0
_PROOF_SECONDS: Final = 240.0
_POLL_SECONDS: Final = 0.5


class _Server(PrefectServer):
    def __init__(self, folder: Path, database: str) -> None:
        super().__init__(folder)
        self._database = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database} if database else {}

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), **self._database}


async def make_queues(pool: str, count: int) -> list[str]:
    """Create the pool and a queue for each worker; return the names of the queues."""
    names = [f"h{number}" for number in range(1, count + 1)]
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        for name in names:
            await client.create_work_queue(name, work_pool_name=pool)
    return names


@asynccontextmanager
async def workers_of(pool: str, queues: list[str]) -> AsyncIterator[list[EvacuationWorker]]:
    """Run a worker for each queue, started within a minute as hosts would be; yield them once all rely on the stream.

    A storm is measured with them at work: create runs, of whatever command, in their queues.
    """
    workers = [EvacuationWorker(pool, [queue], name=queue) for queue in queues]
    running = [asyncio.create_task(_started(worker, len(queues))) for worker in workers]
    try:
        async with asyncio.timeout(_START_SECONDS + _PROOF_SECONDS):
            while not all(worker.relies_on_events for worker in workers):  # noqa: ASYNC110  they tell nobody
                await asyncio.sleep(_POLL_SECONDS)
        yield workers
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _started(worker: EvacuationWorker, count: int) -> None:
    await asyncio.sleep(random.uniform(0, _START_SECONDS * min(1, count / WORKERS)))  # noqa: S311  spreads them
    await worker.start(printer=lambda *_: None)


async def _measured(server: PrefectServer, count: int, seconds: float) -> tuple[float, int, int]:
    """Return the cores that the server used, how many workers lost the stream, and how many queues are not ready."""
    queues = await make_queues(POOL, count)
    async with workers_of(POOL, queues) as workers:
        before, began = spent_by(server.pid), time.monotonic()
        await asyncio.sleep(seconds)
        cores = (spent_by(server.pid) - before) / (time.monotonic() - began)
        async with get_client() as client:
            states = [await client.read_work_queue_by_name(queue, POOL) for queue in queues]
        lost = sum(not worker.relies_on_events for worker in workers)
    return cores, lost, sum(queue.status != WorkQueueStatus.READY for queue in states)


def main() -> int:
    """Exit 0 if the goal holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--database", default="", help="postgresql+asyncpg://…, an empty one")
    given = parser.parse_args()
    folder = RESULTS / f"idle-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}"
    with (
        Strangers() as strangers,
        _Server(folder, given.database) as server,
        temporary_settings({PREFECT_API_URL: server.api}),
    ):
        cores, lost, silent = asyncio.run(_measured(server, given.workers, given.seconds))
    rows = [
        under(f"{given.workers} idle workers, cores of one server process", round(cores, 3), _GOAL_CORES),
        under("workers that have lost the stream", lost, 1),
        under("queues that the server holds for not ready", silent, 1),
    ]
    rows = with_strangers(rows, strangers)
    database = given.database.partition(":")[0] or "sqlite"
    write("idle", rows, f"{os.cpu_count()} processors, {database}, {given.seconds:g} s")
    say(table(rows))
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
