"""A worker of ours in a thread, behind a proxy that counts and fails, with a deployment of a scene's workload."""

import asyncio
import contextvars
import gc
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any
from unittest.mock import patch
from uuid import UUID

import psutil
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from tasks.worker.evacuation_worker import EvacuationWorker
from tests.support.counting_proxy import CountingProxy
from tests.support.scenes import Scene
from tests.support.workloads import wait_until

ENGINE = f"{shlex.quote(sys.executable)} -m flows.engine"
UUIDS = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
IDLE = ("heartbeat", "/events", "/logs", "/csrf-token", "/workers")
"""What a worker asks and sends beside."""


class Played:
    """A pool with one queue, a worker behind a proxy, and a deployment of the scene's workload."""

    def __init__(self, scene: Scene, proxy: CountingProxy, worker: EvacuationWorker, deployment: UUID) -> None:
        """Keep them."""
        self.scene, self.proxy, self.worker, self.deployment = scene, proxy, worker, deployment

    def trigger(self, **how: Any) -> FlowRun:
        """Create a run, past the proxy."""
        with get_client(sync_client=True) as client:
            return client.create_flow_run_from_deployment(self.deployment, **how)

    def asked(self) -> list[str]:
        """What has been asked through the proxy, without ids and without what an idle worker asks."""
        asked = [UUIDS.sub("ID", each.replace(self.scene.name, "NAME")) for each in self.proxy.asked]
        return [each for each in asked if not any(word in each for word in IDLE)]

    def await_proof(self) -> None:
        """Wait until the worker relies on the event stream, and its own questions have ended."""
        wait_until(lambda: self.worker._hints.proven and not self.worker._hinted.is_set(), what="the proof")
        wait_until(lambda: self.worker._due > time.monotonic() + 1, what="the question after the proof")

    def stands(self) -> bool:
        """Whether the whole workload is stopped."""
        return {process.status() for process in self.scene.small.living()} == {psutil.STATUS_STOPPED}

    def ended(self, run: FlowRun) -> str:
        """Name and message of the state that the run ends in."""
        with get_client(sync_client=True) as client:
            wait_until(lambda: (state := client.read_flow_run(run.id).state) and state.is_final(), what="the end")
            state = client.read_flow_run(run.id).state
        return f"{state.name} {state.message}" if state else ""


@contextmanager
def at_work(worker: EvacuationWorker, api: str) -> Iterator[None]:
    """Run a worker in a thread, with this thread's settings and that server, until the block ends."""
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []

    async def start() -> None:
        task = asyncio.create_task(worker.start(printer=lambda *_: None))
        loops.append((asyncio.get_running_loop(), task))
        with suppress(asyncio.CancelledError):
            await task

    def run() -> None:
        with temporary_settings({PREFECT_API_URL: api, PREFECT_LOGGING_TO_API_ENABLED: False}):
            asyncio.run(start())

    thread = Thread(target=contextvars.copy_context().run, args=(run,))
    thread.start()
    wait_until(lambda: loops, what="the worker")
    try:
        yield
    finally:
        loop, task = loops[0]
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        gc.collect()


@contextmanager
def play(scene: Scene, command: str = ENGINE, *, websockets: bool = True) -> Iterator[Played]:
    """Deploy the workload of the scene, and have the worker at work until the block ends."""
    with get_client(sync_client=True) as client:
        pool = client.create_work_pool(WorkPoolCreate(name=f"p{scene.name}", type="process"))
        client.create_work_queue("here", work_pool_name=pool.name)
        client.create_work_queue("elsewhere", work_pool_name=pool.name)
        deployment = client.create_deployment(
            client.create_flow_from_name("evacuate"),
            scene.name,
            entrypoint="flows.evacuate.evacuate",
            work_pool_name=pool.name,
            work_queue_name="here",
            parameters={"workload": scene.name, "store": scene.name},
            job_variables={"command": command},
        )
    with CountingProxy(str(PREFECT_API_URL.value())) as proxy:
        proxy.websockets = websockets
        worker = EvacuationWorker(pool.name, ["here", "a queue that nobody has made"])
        with patch.dict(os.environ), at_work(worker, proxy.api):
            yield Played(scene, proxy, worker, deployment)
    EventsWorker.drain_all(timeout=10)  # one that the worker has begun sends to the proxy, which is gone
