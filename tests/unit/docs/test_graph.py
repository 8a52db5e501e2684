"""The graph that Prefect records of a run's steps is the one that docs/architecture.md draws."""

from concurrent.futures import Future
from typing import Any
from unittest.mock import patch
from uuid import UUID, uuid4

import pytest
from prefect import Task
from prefect.client.schemas.objects import State
from prefect.futures import PrefectConcurrentFuture
from prefect.states import Completed, Failed
from prefect.utilities.engine import collect_task_run_inputs_sync

from flows.evacuate import carry_out
from flows.thaw import let_go
from tasks.custody.incident.verdict import Verdict, Word
from tasks.record.write import Record
from tasks.runtime.context import RunContext
from tasks.runtime.step import StepRunner
from tests.support.graph import Edge, drawn, node
from tests.support.memory_store import MemoryStore
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload

_RECORD = Record("record/001", Verdict(Word.VERIFIED, (), (), (), ""), stored=True, reason="")


class Recorder:
    """In place of Prefect: lets every step fail but the record, and notes the inputs that Prefect would record."""

    def __init__(self) -> None:
        """Begin without any."""
        self.edges, self.names = set[Edge](), dict[UUID, str]()

    def submit(self, task: Task[..., Any], **given: Any) -> PrefectConcurrentFuture[Any]:
        """Note the upstreams, and fail."""
        about, made = "show_record" if task.fn.__name__ == "show" else str(task.fn.__name__), uuid4()
        given.pop("return_state", None)
        told = node(about, given["collector"].unquote() if about == "collect" else "")
        self.names[made] = told
        for name, value in given.items():
            kind = "soft" if name == "wait_for" else "hard"
            self.edges |= {(self.names[each.id], told, kind) for each in collect_task_run_inputs_sync(value)}
        if any(isinstance(each, RunContext) for each in given.get("wait_for") or ()):
            self.edges.add(("open_incident", told, "soft"))
        inner = Future[State[Any]]()
        inner.set_result(Completed(data=_RECORD) if told == "record" else Failed(message="not run"))
        return PrefectConcurrentFuture(made, inner)


def recorded(small: SmallWorkload, *, dry_run: bool = False, called_off: bool = False, **wanted: Any) -> set[Edge]:
    recorder = Recorder()
    with (
        case_of(small.block(), MemoryStore(), dry_run=dry_run) as context,
        StepRunner(context) as steps,
        patch.object(Task, "submit", lambda task, *_, **given: recorder.submit(task, **given)),
        patch("flows.evacuate._name", lambda: "small"),
        patch("flows.evacuate.thawed_instead", let_go),
    ):
        carry_out(steps, may_ask=called_off, **wanted)
    return recorder.edges


@pytest.mark.slow
def test_each_edge_of_an_evacuation_is_drawn(small: SmallWorkload) -> None:
    edges = recorded(small, recover=True)
    assert edges - drawn() == set()
    assert {("prove_still_contained", "promote", "soft"), ("recover", "record", "soft")} < edges
    assert {one for one, other, _ in edges if other == "show_record"} == {"record"}
    assert {other for one, other, _ in edges if one == "challenge"} == {"watch"}


@pytest.mark.slow
def test_each_edge_that_is_drawn_is_one_of_an_evacuation_its_rehearsal_or_its_thaw(small: SmallWorkload) -> None:
    runs = ({"recover": True}, {"dry_run": True}, {"called_off": True})
    assert set().union(*(recorded(small, **wanted) for wanted in runs)) == drawn()
