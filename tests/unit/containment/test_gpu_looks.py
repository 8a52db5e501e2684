"""Who of the workload holds a GPU after freeze, stop and watch, by what a driver on paper says."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tasks.containment.containment_check import prove_contained
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.containment.watch import watch
from tasks.host.process.process import Process
from tasks.runtime.context import RunContext
from tests.support.paper_host import PaperHost, process
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

TRAINING = ("venv/bin/python", "-u", "src/train.py", "--dataset", "builtin", "--mode", "full")


@pytest.fixture
def run(small: SmallWorkload) -> Iterator[RunContext]:
    with case_of(small.block(watch_seconds=0, grace_seconds=0.1)) as context:
        yield context


def training(run: RunContext) -> Process:
    """Start one on paper, that holds a GPU beside another's process."""
    one = process(1, TRAINING, cwd=str(run.directory.root))
    run.adapters.host = host = PaperHost(one, process(2), root=run.directory.root)
    host.driver = (f"{one.pid}, 8123, python\n{process(2).pid}, 5, other\n", "")
    return one


def host_of(run: RunContext) -> PaperHost:
    assert isinstance(run.adapters.host, PaperHost)
    return run.adapters.host


def alive(run: RunContext) -> list[str]:
    return [each for each in made(prove_contained.fn(run)).alive if "GPU" in each]


@pytest.mark.slow
def test_what_was_submitted_may_finish_and_what_holds_on_is_a_survivor(run: RunContext) -> None:
    one = training(run)
    line = f"process {one.pid} still holds 8123 MiB of a GPU"
    frozen = made(freeze.fn(run))
    assert frozen.gpu.held == (line,)
    assert frozen.gpu.others == (f"{process(2).pid}, 5, other",)
    assert "1 processes frozen; what was submitted to the GPU may still finish (GPU" in frozen.summary
    stopped = stop.fn(run)
    assert stopped.is_failed()
    result = made(stopped)
    assert one.pid not in host_of(run).processes
    assert (result.gpu.held, result.summary) == ((line,), f"1 killed; {line}")
    assert made(watch.fn(run)).summary == f"nothing came back; {line}"
    assert alive(run) == [line]
    logged = [(entry["object"], entry["held"]) for entry in run.log.entries() if entry["action"] == "gpu"]
    assert logged == [(moment, [line]) for moment in ("freeze", "stop", "watch", "check")]


@pytest.mark.slow
def test_what_lets_go_is_contained(run: RunContext) -> None:
    training(run)
    freeze.fn(run)
    host_of(run).driver = (f"{process(2).pid}, 5, other\n", "")
    stopped = made(stop.fn(run))
    assert stopped.is_complete
    assert stopped.gpu.held == ()
    assert made(watch.fn(run)).summary == "nothing came back"
    assert alive(run) == []


@pytest.mark.slow
def test_a_pid_that_another_has_now_is_no_survivor(run: RunContext) -> None:
    one = training(run)
    freeze.fn(run)
    stop.fn(run)
    assert len(alive(run)) == 1
    host_of(run).processes[one.pid] = replace(process(2), identity=replace(one.identity, start=10**9))
    assert alive(run) == []


@pytest.mark.slow
def test_without_nvidia_smi_nothing_is_said(run: RunContext) -> None:
    training(run)
    host_of(run).driver = None
    frozen = made(freeze.fn(run))
    assert (frozen.gpu, frozen.summary) == (None, "1 processes frozen")
    assert made(stop.fn(run)).gpu is None
    assert made(watch.fn(run)).gpu is None
    assert alive(run) == []
    assert [entry for entry in run.log.entries() if entry["action"] == "gpu"] == []


@pytest.mark.slow
def test_a_driver_that_hangs_is_a_note(run: RunContext) -> None:
    training(run)
    host_of(run).driver = ("", "nvidia-smi gave no answer within 2 s")
    assert made(freeze.fn(run)).gpu.trouble == "nvidia-smi gave no answer within 2 s"
    assert made(stop.fn(run)).is_complete
    found = made(prove_contained.fn(run))
    assert "nvidia-smi gave no answer within 2 s" in found.notes
    assert alive(run) == []


def test_a_dry_run_ends_nothing_and_finds_no_survivor(small: SmallWorkload) -> None:
    with case_of(small.block(watch_seconds=0, grace_seconds=0.1), dry_run=True) as context:
        host = context.adapters.host
        real = PaperHost(one := process(1, TRAINING, cwd=str(context.directory.root)), root=context.directory.root)
        real.driver = (f"{one.pid}, 8123, python\n", "")
        host._host = real  # type: ignore[attr-defined]
        assert made(freeze.fn(context)).gpu.held
        assert made(stop.fn(context)).gpu is None
        assert alive(context) == []
