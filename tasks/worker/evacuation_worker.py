"""Prefect's process worker, which hears of runs by events and freezes the workload before it starts the process.

See docs/adr/0031.
"""

import asyncio
import os
import random
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import anyio
import httpx
from anyio import to_thread
from anyio.abc import TaskStatus
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.responses import WorkerFlowRunResponse
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_logger
from prefect.settings import PREFECT_API_URL, PREFECT_WORKER_QUERY_SECONDS, get_current_settings, temporary_settings
from prefect.types._datetime import now
from prefect.workers.base import BaseWorkerResult
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult

from tasks.custody.fleet.frame import resource_of
from tasks.prefect_side.clock import ServerClock
from tasks.prestart.freeze import FLOW
from tasks.prestart.hand_over import VARIABLE
from tasks.prestart.prefect_http import answers
from tasks.system.installation import FLEET_KEY, FLEET_SIGNERS, WORKER_VERSION, fingerprint
from tasks.worker.early import Prepared, environment_of_worker, prepared_for
from tasks.worker.frames import Frames
from tasks.worker.hints import Hints
from tasks.worker.known_runs import OwnRunConfiguration
from tasks.worker.repeat_until import repeat_until

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from tasks.fleet.frame import PreparedFrame

logger = get_logger(__name__)

TYPE: Final = "evacuation"
_FLEET: Final = "fleet"
_SECONDS: Final = 1.0
"""Between two questions to the server, unless the event stream is proven."""
PATIENCE_SECONDS: Final = 28.0
"""Longest time between two polls while the event stream is proven. Two of them fit into the 60 s after which the server
marks a queue as abandoned."""
_SLOW_SECONDS: Final = 0.5
_SPARED_SECONDS: Final = 5.0
_SPACING_SECONDS: Final = 0.2
_AGAIN_SECONDS: Final = 2.0
_CLOSE_SECONDS: Final = 2.0
_PUT: Final = timedelta(seconds=5)
"""A smaller correction of the server's clock needs no second request: runs are asked for some seconds ahead."""
_TRIES: Final = 2
"""How often the server is asked for a hinted run: its event may be sent before the run can be read."""


@dataclass
class _Started:
    """Passes on that the process of a run has started, and notes it."""

    prepared: Prepared | None
    status: TaskStatus[int] | None

    def started(self, value: int) -> None:
        if self.prepared:
            self.prepared.has_process = True
        if self.status:
            self.status.started(value)


def _leave_dead_server() -> None:
    """End this process, which was told to end, if its server is gone: Prefect would offer it the last events for long.

    Each event is offered eleven times, and each time a connection is tried eleven times. A worker that is not all of
    its process leaves the process alone.
    """
    if threading.current_thread() is threading.main_thread() and not answers(environment_of_worker()):
        logger.warning("The Prefect server does not answer: what it did not hear of this worker is lost to it")
        sys.stdout.flush()
        os._exit(0)


class EvacuationWorker(ProcessWorker):
    """A process worker, for pools of type process.

    Whatever fails in it of its own, the run starts as a process worker would start it; but only a run of ours.
    """

    job_configuration = OwnRunConfiguration

    _description = "Start evacuations on this host as processes, and freeze the workload before."
    _display_name = "Evacuation"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what a process worker takes."""
        super().__init__(*args, **kwargs)
        self._version = fingerprint()
        self._environment: Mapping[str, str] = os.environ
        self._clock = ServerClock()
        self._frames = self._heard_frames() if os.access(FLEET_SIGNERS, os.F_OK) else None
        framed = self._frames.hear if self._frames else None
        self._hints = Hints(self._note_hint, self._ask_soon, self._clock.now, framed)
        self._hinted = asyncio.Event()
        self._tries_left: dict[UUID, int] = {}
        self._due = self._spared = 0.0
        self._chosen = False
        self._following: list[asyncio.Task[None]] = []
        self._flows: dict[UUID, str] = {}
        self._prepared: dict[UUID, Prepared] = {}

    def _heard_frames(self) -> Frames:
        return Frames(self._work_pool_name, self._work_queues, self._clock.now, get_current_settings().home)

    @classmethod
    def __dispatch_key__(cls) -> str:
        """Return the name for `--type`. To the server it is a process worker, as its pools are."""
        return TYPE

    @property
    def relies_on_events(self) -> bool:
        """Whether the event stream is proven, so that the server is asked rarely."""
        return self._hints.proven

    async def start(self, *args: Any, **kwargs: Any) -> None:
        """Ask the server each second where the settings do not say how often.

        The server's URL goes into the environment: by it the freeze knows a server on this host, which it must spare.
        """
        if api := PREFECT_API_URL.value():
            os.environ.setdefault("PREFECT_API_URL", api)
        self._environment = environment_of_worker()
        if os.access(FLEET_KEY, os.F_OK):
            import_module("tasks.fleet.frame")  # a second that no trigger has to wait for
        self._chosen = "query_seconds" in get_current_settings().worker.model_fields_set
        often: AbstractContextManager[object] = temporary_settings({PREFECT_WORKER_QUERY_SECONDS: _SECONDS})
        with nullcontext() if self._chosen else often:
            try:
                await super().start(*args, **kwargs)
            except asyncio.CancelledError:
                _leave_dead_server()
                raise

    async def _initialize_after_sync(self) -> None:
        await super()._initialize_after_sync()
        if self._has_successfully_synced and not self._following:
            follow = self._hints.follow(self.client, self._resources)
            beside = [follow, repeat_until(self._answer_hints, lambda: _SPACING_SECONDS)]
            beside += [self._frames.obey(self.client), self._frames.watch(self.client)] if self._frames else []
            self._following = [asyncio.create_task(each) for each in beside]

    async def teardown(self, *exc_info: Any) -> None:
        """Stop listening. A server that hangs does not answer that either."""
        for task in self._following:
            task.cancel()
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*self._following, return_exceptions=True), _CLOSE_SECONDS)
        await super().teardown(*exc_info)

    async def _resources(self) -> Sequence[str]:
        """Return the resources whose events may mean work: the queues, or the pool; and those of frames for them.

        Learns the evacuation's flow.
        """
        flows = await self.client.read_flows(flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW, _FLEET])))
        self._flows.update({flow.id: flow.name for flow in flows})
        pool, names = self.work_pool, sorted(self._work_queues)
        if not names:
            return [f"prefect.work-pool.{pool.id}", resource_of(pool.name)]
        queues = [f"prefect.work-queue.{await self._queue(name)}" for name in names]
        return queues + [resource_of(pool.name, name) for name in names]

    async def _queue(self, name: str) -> UUID:
        """Return the id of a queue. Creates a missing one: a poll that names an unknown queue gets no runs at all."""
        pool = self.work_pool.name
        with suppress(ObjectNotFound):
            return (await self.client.read_work_queue_by_name(name, work_pool_name=pool)).id
        return (await self.client.create_work_queue(name, work_pool_name=pool)).id

    def _ask_soon(self) -> None:
        self._due = 0.0
        self._hinted.set()

    def _note_hint(self, run: UUID) -> None:
        self._tries_left[run] = _TRIES
        self._ask_soon()

    async def _answer_hints(self) -> None:
        """Ask the server once for all hints that have come."""
        if self._tries_left:
            self._hinted.set()
        await self._hinted.wait()
        self._hinted.clear()
        hints, self._tries_left = self._tries_left, {}
        found = set[UUID]()
        with suppress(Exception):  # the next ordinary question tells what is wrong
            self._due = self._spared = 0.0
            found = {run.id for run in await self.get_and_submit_flow_runs()}
        remaining = {run: tries - 1 for run, tries in hints.items() if run not in found and tries > 1}
        self._tries_left = {**remaining, **self._tries_left}

    async def get_and_submit_flow_runs(self) -> list["FlowRun"]:
        """Ask for runs and start them, unless it is too early to ask again.

        That is so while the event stream is proven, and for some seconds after a slow answer: many workers that ask a
        busy server each second would keep it from ever proving the stream to them.
        """
        began = time.monotonic()
        if not self._chosen and began < (self._due if self.relies_on_events else self._spared):
            self._last_polled_time = now("UTC")  # for the health check: it would hear of a run, or has just asked
            return []
        runs = await super().get_and_submit_flow_runs()
        answered, spread = time.monotonic(), random.uniform(0.8, 1)  # noqa: S311  spreads many workers, no secret
        self._due = answered + PATIENCE_SECONDS * spread
        self._spared = answered + _SPARED_SECONDS * spread if answered - began > _SLOW_SECONDS else 0.0
        return runs

    async def _get_scheduled_flow_runs(self) -> list[WorkerFlowRunResponse]:
        """Ask for what is due by the server's clock; again if its answer shows that it is another time there."""
        found, put = await self._due_runs()
        return found if abs(put) < _PUT else (await self._due_runs())[0]

    async def _due_runs(self) -> tuple[list[WorkerFlowRunResponse], timedelta]:
        """Return the runs that are due, and by how much this answer has moved our estimate of the server's clock."""
        until = self._clock.now() + timedelta(seconds=int(self._prefetch_seconds))
        query = {"work_queue_names": list(self._work_queues), "scheduled_before": until.isoformat()}
        try:
            pool = {"name": self._work_pool_name}
            answer = await self.client.request(
                "POST", "/work_pools/{name}/get_scheduled_flow_runs", path_params=pool, json=query
            )
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            return [], timedelta()  # the pool is made with the next sign of life
        return WorkerFlowRunResponse.model_validate_list(answer.json()), self._clock.note(answer.headers.get("date"))

    async def _submit_run(self, flow_run: "FlowRun") -> None:
        """Claim the run and freeze for it; what Prefect's worker asks before it starts a process comes afterwards."""
        flow = self._flows.get(flow_run.flow_id)
        prepared = self._prepared[flow_run.id] = prepared_for(flow_run, flow, self._environment, self._clock.now)
        try:
            claim = super()._propose_pending_state(flow_run)
            learn = to_thread.run_sync(self._learn, flow_run, prepared)
            prepared.claimed, frame = await asyncio.gather(claim, learn)
            if prepared.claimed:
                await to_thread.run_sync(self._freeze, flow_run, prepared, frame)
            elif frame:
                await to_thread.run_sync(frame.close)  # which waits for what is being read
            self._flows.update(prepared.flow)
            await repeat_until(lambda: self._was_submitted(flow_run, prepared), lambda: _AGAIN_SECONDS)
        finally:
            if not prepared.started:
                await self._end(flow_run)

    def _learn(self, flow_run: "FlowRun", prepared: Prepared) -> "PreparedFrame | None":
        """Ask for what the freeze needs. Returns the frame that freezes all hosts of a fleet, if this host can."""
        prepared.learn()
        if prepared.facts.get("flow") == _FLEET and os.access(FLEET_KEY, os.F_OK) and prepared.due:
            frame: PreparedFrame | None = import_module("tasks.fleet.frame").prepare(flow_run, self._clock.now)
            return frame
        return None

    def _freeze(self, flow_run: "FlowRun", prepared: Prepared, frame: "PreparedFrame | None") -> None:
        """Freeze the run's workload, or all hosts of its fleet by `frame`."""
        if frame:
            frame.send()
        prepared.freeze()
        if self._frames and prepared.early:
            prepared.early = self._frames.given_to_run(prepared.early, flow_run.parameters.get("order"))

    async def _was_submitted(self, flow_run: "FlowRun", prepared: Prepared) -> bool:
        """Return False if something is frozen for a run that the server did not let begin: it stays frozen."""
        try:
            await super()._submit_run(flow_run)
        except httpx.HTTPError:
            if not prepared.early:
                raise
            await to_thread.run_sync(prepared.release, flow_run.name)
            return False
        return True

    async def _propose_pending_state(self, flow_run: "FlowRun") -> bool:
        prepared = self._prepared.get(flow_run.id)
        return prepared.claimed if prepared else await super()._propose_pending_state(flow_run)

    async def _submit_run_and_capture_errors(
        self, flow_run: "FlowRun", task_status: TaskStatus[int | Exception] | None = None
    ) -> BaseWorkerResult | Exception:
        """Start the process, and thaw at its end what the run has not taken over.

        A server that fails in between ends no run for which something is frozen: it is started, or its crash is
        reported, once the server answers.
        """
        prepared = self._prepared[flow_run.id]
        prepared.started = True
        try:
            result = await super()._submit_run_and_capture_errors(flow_run, task_status)
            while not await to_thread.run_sync(prepared.is_over, result):
                if not prepared.has_process:
                    await to_thread.run_sync(prepared.release, flow_run.name)
                await asyncio.sleep(_AGAIN_SECONDS)
                if not prepared.has_process:
                    result = await super()._submit_run_and_capture_errors(flow_run)
                elif isinstance(result, Exception):  # of what became of the process nothing is known
                    break
                else:
                    await self._propose_crashed_state(flow_run, f"Its process ended with {result.status_code}.")
            return result
        finally:
            await self._end(flow_run)

    async def _end(self, flow_run: "FlowRun") -> None:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(self._prepared.pop(flow_run.id).end)

    async def run(
        self, flow_run: "FlowRun", configuration: ProcessJobConfiguration, task_status: TaskStatus[int] | None = None
    ) -> ProcessWorkerResult:
        """Run the process, with our version and the place of what was prepared for it in its environment."""
        configuration.env[WORKER_VERSION] = self._version
        prepared = self._prepared.get(flow_run.id)
        if prepared and (name := prepared.offer(configuration.command or "")):
            configuration.env[VARIABLE] = name
        status: Any = _Started(prepared, task_status)
        return await super().run(flow_run, configuration, status)
