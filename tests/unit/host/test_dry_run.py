"""A rehearsal on hosts that nobody thought of: it would touch members of the workload and nobody else."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.containment.containment_check import prove_contained, prove_still_contained
from tasks.containment.cordon import cordon
from tasks.containment.cordon_trial import challenge
from tasks.containment.freeze import freeze
from tasks.containment.members import description_of
from tasks.containment.stop import stop
from tasks.containment.watch import watch
from tasks.custody.containment.identity import Identity
from tasks.host.process.membership import Exceptions, Members
from tasks.host.process.process import Process
from tasks.host.rehearsal import RehearsalHost
from tasks.record.dry_run_plan import plan
from tests.support.examples import scaled
from tests.support.paper_host import FIRST, PaperHost
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload, wait_until


@st.composite
def hosts(draw: st.DrawFn) -> list[tuple[int, int, bool]]:
    """Pid, parent, and whether it is a training: two roots of the tree as a kernel has them, and what hangs below."""
    found = [(1, 0, False), (2, 0, False)]
    for number in range(draw(st.integers(0, 12))):
        parent = draw(st.sampled_from([0, *(pid for pid, _, _ in found)]))
        found.append((FIRST + number, parent, draw(st.booleans())))
    return found


@pytest.mark.whole
@pytest.mark.slow
@settings(max_examples=scaled(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hosts())
def test_on_any_host_the_signals_of_a_rehearsal_are_for_members_alone(
    small: SmallWorkload, host: list[tuple[int, int, bool]]
) -> None:
    evidence = tempfile.mkdtemp(dir=small.root.parent)  # each host is an incident of its own
    block = small.block(training_command=small.training_command, watch_seconds=0, evidence_dir=evidence)
    command = {True: tuple(small.training_command), False: ("/sbin/other", "--serve")}
    everybody = (
        Process(Identity(pid, 1), parent, "S", command[trains], cwd=str(small.root) if trains else "/")
        for pid, parent, trains in host
    )
    paper = PaperHost(*everybody, root=small.root)
    asked = Members.of(paper.snapshot(), description_of(block), Exceptions())
    with case_of(block, dry_run=True) as context:
        context.adapters.host = RehearsalHost(paper, context.log)
        for verb in (cordon, freeze, stop, prove_contained, challenge, watch, prove_still_contained):
            verb.fn(context)
        would = [entry for entry in context.log.entries() if entry["action"] == "would"]
    signalled = {entry["object"] for entry in would if entry["act"].startswith("SIG")}
    assert signalled == {str(who.pid) for who in asked}


FORKS = """
import os, time
print("training", flush=True)
while True:
    if os.fork() == 0:
        time.sleep(0.2)
        os._exit(0)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
    time.sleep(0.02)
"""


@pytest.mark.slow
def test_nothing_of_a_workload_that_goes_on_is_said_to_come_back(small: SmallWorkload) -> None:
    """Its training forks all the time."""
    (small.root / "src/train.py").write_text(FORKS)
    small.start()
    wait_until(lambda: len(small.living()) > 3, what="the training's children")
    with case_of(small.block(watch_seconds=0.5), dry_run=True) as context:
        for verb in (cordon, freeze, stop, prove_contained):
            verb.fn(context)
        watched = made(watch.fn(context))
        contained = made(prove_still_contained.fn(context))
        rows = plan(context.log.entries())
    assert watched.returned == ()
    assert contained.is_contained
    assert [row for row in rows if row["act"] == "would SIGKILL"] == []


@pytest.mark.slow
def test_a_rehearsal_plans_the_launch_and_tells_of_none(small: SmallWorkload) -> None:
    small.start_all()
    command = [*small.training_command, "--api-key", "hunter22"]
    with case_of(small.block(training_command=command), dry_run=True) as context:
        held = made(cordon.fn(context))
        freeze.fn(context)
        tried = made(challenge.fn(context))
        (row,) = [row for row in plan(context.log.entries()) if row["act"] == "would launch"]
    assert held.summary == f"{context.workload.lock} would be held by a guard"
    assert not tried.caught
    assert tried.is_complete
    assert tried.summary.startswith("no launch was tried: this is a rehearsal")
    assert row["on"].startswith("venv/bin/python -u src/train.py")
    assert "hunter22" not in row["on"]
    assert row["why"] == "a real run expects it refused, or caught by the guard"
    assert len(small.living()) == 4
    assert not Path(context.directory.path / "challenge.log").exists()
