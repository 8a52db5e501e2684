"""Prepare a run between the worker's claim and the start of its process: learn, freeze, and offer both to it."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from prefect.client.schemas.objects import FlowRun
from prefect.logging import get_logger
from prefect.settings import get_current_settings
from prefect.workers.base import BaseWorkerResult

from tasks.prestart.freeze import FLOW, freeze_for
from tasks.prestart.hand_over import HandOver
from tasks.prestart.join import would_join
from tasks.prestart.journal import EarlyFreeze, close_lock, thaw_left
from tasks.prestart.known_run import is_over, known_run
from tasks.system.time_limit import before_the_freeze

logger = get_logger(__name__)

_BY_HAND: Final = "Without the server: evacuation run FILE."


@dataclass
class Prepared:
    """What the worker knows of a run, and has frozen for it."""

    flow_id: UUID
    environment: Mapping[str, str]
    facts: dict[str, Any]
    early: EarlyFreeze | None = None
    claimed: bool = False
    started: bool = False
    has_process: bool = False
    time: Callable[[], datetime] | None = None
    """Tells the server's time; without it the server is asked."""
    _hand_over: HandOver | None = None
    _over: bool = False

    @property
    def flow(self) -> dict[UUID, str]:
        """The name of the flow, by id, if it has been asked for."""
        return {self.flow_id: str(self.facts["flow"])} if "flow" in self.facts else {}

    @property
    def due(self) -> bool:
        """Whether the run is to start now: a worker prepares it some seconds before."""
        with known_run(self.environment, self.facts, self.time) as run:
            return run.due

    def learn(self) -> None:
        """Ask for what the freeze needs; it asks again for what the server does not say now. Never raises."""
        with known_run(self.environment, self.facts) as run, suppress(Exception):
            if not run.parameters.get("dry_run") and run.flow == FLOW:
                self.facts["fields"] = run.fields

    def freeze(self) -> None:
        """Freeze the workload of a claimed run, if its process would do so first thing. Never raises.

        What the process has to decide is left to it: joining an incident, and whatever is wrong.
        """
        with known_run(self.environment, self.facts, self.time) as run, before_the_freeze():
            try:
                self.early = None if would_join(run) else freeze_for(run)
            except Exception as reason:  # noqa: BLE001  the run freezes, or tells what is wrong
                logger.debug("not frozen by the worker: %s: %s", type(reason).__name__, reason)

    def offer(self, command: str) -> str:
        """Return where the process of this command finds it all; empty if it cannot fetch it.

        Such a process takes the lock itself, and its run's own freeze takes the journal over.
        """
        self._close()  # an earlier process could not be started
        if "flows.engine" in command:
            try:
                self._hand_over = HandOver(self.facts, self.early)
            except (OSError, TypeError) as error:
                logger.warning("nothing can be handed over to the run: %s", error)
            else:
                return self._hand_over.name
        self.early = self.early and close_lock(self.early)
        return ""

    def release(self, run: str) -> None:
        """Release the lock while the server lets the run not begin: an evacuation by hand may take over meanwhile."""
        self._close()
        if self.early and self.early.lock is not None:
            logger.warning("%s does not begin: its workload stays frozen, and it is tried again. %s", run, _BY_HAND)
            self.early = close_lock(self.early)

    def _close(self) -> None:
        if self._hand_over:
            self.early = self._hand_over.close()
            self._hand_over = None

    def is_over(self, result: BaseWorkerResult | Exception) -> bool:
        """Return whether nothing was frozen for the run, its process has ended well, or the server says it is over."""
        ended_well = not isinstance(result, Exception) and not result.status_code
        self._over = not self.early or ended_well or is_over(self.environment)
        return self._over

    def end(self) -> None:
        """Thaw what a run that is over has not taken over, now that it has no process. Never raises."""
        try:
            self._close()
            if self.early:
                thaw_left(self.early, lambda: self._over or is_over(self.environment))
        except Exception:
            logger.exception("what was frozen for a run may still be frozen: ask `evacuation status`")


def prepared_for(
    flow_run: FlowRun, flow: str | None, environment: Mapping[str, str], time: Callable[[], datetime] | None = None
) -> Prepared:
    """Return what the server's answer to the worker tells of a run, whose flow may be known by name.

    `environment` leads to the server, and `time` tells its time.
    """
    fields = {"parameters": flow_run.parameters, "flow_id": str(flow_run.flow_id)}
    times = {"created": flow_run.created, "expected_start_time": flow_run.expected_start_time}
    facts: dict[str, Any] = {"run": {**fields, **{name: at and at.isoformat() for name, at in times.items()}}}
    own = {**environment, "PREFECT__FLOW_RUN_ID": str(flow_run.id)}
    return Prepared(flow_run.flow_id, own, {**facts, "flow": flow} if flow else facts, time=time)


def environment_of_worker() -> dict[str, str]:
    """Return the environment that leads to the worker's server, wherever its settings come from.

    It takes 25 ms of processor: what has to be quick asks for it beforehand.
    """
    return {**os.environ, **get_current_settings().to_environment_variables(exclude_unset=True)}
