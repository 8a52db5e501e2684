"""What a run says it knows while it waits for its store: containment, the seal, and that one may leave it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tasks.custody.evidence.keys import MANIFEST
from tasks.custody.incident.log import CustodyLog
from tasks.custody.incident.steps import StepId
from tasks.runtime.context import RunContext
from tasks.runtime.so_far import describe_so_far
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload


@pytest.fixture
def run(small: SmallWorkload) -> Iterator[RunContext]:
    with case_of(small.block()) as context:
        yield context


def end(run: RunContext, step_id: StepId, action: str, result: str = "") -> None:
    run.log.write(action, step_id, step_id=step_id, result=result)


def seal(run: RunContext, volume: int) -> None:
    folder = run.directory.evidence_dir(volume)
    folder.mkdir(parents=True)
    (folder / MANIFEST).touch()


def test_before_the_check_it_says_only_how_to_leave(run: RunContext) -> None:
    said = describe_so_far(run, "claim_store")
    assert said.startswith("Ctrl-C ends this run safely, and the incident can be carried on")


def test_the_last_check_of_this_run_counts(run: RunContext) -> None:
    end(run, "prove_contained", "step incomplete", "not contained: 4510: timeout 2")
    assert describe_so_far(run, "claim_store").startswith("not contained")
    run.log = CustodyLog(run.log.path, {})
    assert describe_so_far(run, "claim_store").startswith("Ctrl-C")
    end(run, "prove_contained", "step done", "contained: nothing of the workload runs")
    seal(run, run.run.volume)
    assert describe_so_far(run, "claim_store").startswith("contained 封じ込め済み; the evidence is sealed here")
    end(run, "prove_still_contained", "step incomplete", f"not contained: 4510: timeout 2{'x' * 900}")
    said = describe_so_far(run, "record")
    assert said.startswith("not contained: 4510: timeout 2x")
    assert "; `evacuation status` names what lives" in said
    assert len(said) < 450
    end(
        run,
        "prove_still_contained",
        "step incomplete",
        "everything that is known of the workload is stopped; 1 process",
    )
    assert "what is known is stopped, `evacuation status` names what is not known" in describe_so_far(run, "record")
    end(run, "recover", "step done")
    assert describe_so_far(run, "record").startswith("the evidence is sealed here"), "the API was let go since"


@pytest.mark.parametrize(("step", "is_said"), [("claim_store", False), ("offload", True), ("record", True)])
def test_a_run_that_carries_on_says_sealed_once_it_is(run: RunContext, step: StepId, *, is_said: bool) -> None:
    seal(run, 1)
    run.run = replace(run.run, volume=2)
    assert ("sealed here" in describe_so_far(run, step)) == is_said
    end(run, "seal", "step failed")
    assert "sealed here" not in describe_so_far(run, step)


def test_a_rehearsal_and_a_cancelled_run_say_nothing(run: RunContext) -> None:
    run.run = replace(run.run, dry_run=True)
    assert describe_so_far(run, "offload") == ""
    run.run = replace(run.run, dry_run=False)
    run.cancelled.order(15)
    assert describe_so_far(run, "offload") == ""
