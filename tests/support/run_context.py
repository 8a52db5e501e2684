"""A run's context without a Prefect server: steps are then called as plain functions, by `.fn`."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from prefect.client.schemas.objects import State

from blocks.port import Store
from blocks.workload import Workload
from tasks.custody.containment.answer import Answer
from tasks.custody.containment.identity import Identity
from tasks.custody.incident.incident import Incident
from tasks.host.process.table import boot_id, start_of
from tasks.incident.run_lock import take_ownership
from tasks.prefect_side.saved_blocks import SavedStore
from tasks.runtime.context import RunContext, RunInfo, open_context
from tasks.runtime.step import Step

INCIDENT = "IR-20260102T030405Z"


@contextmanager
def case_of(
    workload: Workload,
    store: Store | None = None,
    *,
    incident: str = INCIDENT,
    dry_run: bool = False,
    saved: Mapping[str, Any] | None = None,
) -> Iterator[RunContext]:
    """Open a run's context for a workload block, as a run of that incident would."""
    workload.evidence.mkdir(parents=True, exist_ok=True)
    ownership = take_ownership(workload.evidence)
    assert ownership is not None
    now = datetime.now(UTC)
    about = Incident(incident, "test", socket.gethostname(), boot_id(), now, now, "a test", "the tests")
    run, store_block = RunInfo("run-1", dry_run), SavedStore("unused", saved or {"folder": workload.root.parent})
    context = open_context(about, workload, run, store_block, ownership)
    if store:
        context.store.evidence = store
    try:
        yield context
    finally:
        context.adapters.host.release(context.cordon_files.marker)
        context.close()


def answer_bystander(context: RunContext, pid: int) -> None:
    """Have it on record that a person has answered that a process is a bystander, and nothing else of answers."""
    answer = Answer(Identity(pid, start_of(pid)), "a loop", "bystander", "ana (1000)", datetime.now(UTC), "")
    context.state.answers.write([answer])


def key_of(step: Step[..., Any], context: RunContext, **given: Any) -> str:
    """What a step's result is cached under in its incident, for these arguments."""
    assert step.key
    return step.key(None, {"context": context, **given})


def made(state: State[Any]) -> Any:
    """What a step made, called without a server."""
    return state.data
