"""Collectors that hang, crash, or fail once: a fake `df` stands first on the PATH, everything else is real."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
from prefect import flow
from prefect.client.schemas.objects import State

from tasks.collectors import discover
from tasks.custody.evidence.acquisition import Evidence, Loss, Outcome, StoredFile
from tasks.evidence import collect as module
from tasks.evidence.collect import collect, sum_up
from tasks.runtime.context import RunContext
from tasks.runtime.step import StepRunner, result_of
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload, wait_until

Fake = Callable[[str], None]
FILE = StoredFile("a", "a", 3, "0" * 64)
EMPTY = replace(FILE, size=0)


@pytest.fixture
def context(small: SmallWorkload) -> Iterator[RunContext]:
    with case_of(small.block()) as opened:
        yield opened


@pytest.fixture
def fake_df(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a script in the place of `df`; the collector runs `df -h` first, then `df -i`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def put(script: str) -> None:
        (folder / "df").write_text(f"#!/bin/sh\ncd {tmp_path.as_posix()!r}\n{script}\n")
        (folder / "df").chmod(0o755)

    return put


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give `df` a deadline that a test can wait for, and that its start fits in on a busy machine."""
    known = discover()
    hasty = known | {"disk": replace(known["disk"], deadline=5.0)}
    monkeypatch.setattr(module, "discover", lambda: hasty)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def made_by(state: State[Evidence]) -> Evidence:
    assert isinstance(state.data, Evidence)
    return state.data


HANGS = """
case "$1" in -h) echo "what was known"; exit;; esac
sleep 600 &
echo $! > grandchild
echo $$ > child
sleep 600
"""


@pytest.mark.usefixtures("short")
def test_a_collector_that_hangs_is_ended_with_all_its_children_and_keeps_what_it_had(
    context: RunContext, fake_df: Fake, tmp_path: Path
) -> None:
    fake_df(HANGS)
    began = time.monotonic()
    state = collect.fn(context, "disk")
    assert time.monotonic() - began < 60
    evidence = made_by(state)
    assert state.is_failed()
    assert evidence.outcome is Outcome.TIMED_OUT
    assert evidence.reason == "disk: not done after 5 s"
    assert [file.stored for file in evidence.files] == ["df.txt"]
    assert (context.directory.evidence_dir(1) / "df.txt").read_text() == "what was known\n"
    for name in ("child", "grandchild"):
        pid = int((tmp_path / name).read_text())
        wait_until(partial(gone, pid), what=f"the end of the {name}")
    assert list((context.directory.path / "staging").iterdir()) == []
    assert context.log.entries()[-1]["action"] == "step incomplete"


def test_a_collector_that_leaves_a_child_behind_is_done_all_the_same_and_the_child_is_ended(
    context: RunContext, fake_df: Fake, tmp_path: Path
) -> None:
    fake_df("echo free\nsleep 600 > /dev/null 2>&1 &\necho $! >> left")
    evidence = made_by(collect.fn(context, "disk"))
    assert evidence.outcome is Outcome.COLLECTED
    pids = [int(line) for line in (tmp_path / "left").read_text().split()]
    assert len(pids) == 2
    wait_until(lambda: all(map(gone, pids)), what="the end of the children")


def test_a_collector_that_is_killed_has_failed_and_keeps_what_it_had(context: RunContext, fake_df: Fake) -> None:
    fake_df('case "$1" in -h) echo "what was known"; exit;; esac\nkill -9 $PPID')
    state = collect.fn(context, "disk")
    evidence = made_by(state)
    assert state.is_failed()
    assert evidence.outcome is Outcome.FAILED
    assert "ended with -9" in evidence.reason
    assert [file.stored for file in evidence.files] == ["df.txt"]


def test_a_program_that_is_denied_is_denied(context: RunContext, fake_df: Fake) -> None:
    fake_df('echo "df: read kernel buffer failed: Operation not permitted" >&2; exit 1')
    evidence = made_by(collect.fn(context, "disk"))
    assert evidence.outcome is Outcome.DENIED
    assert "Operation not permitted" in evidence.reason


def test_a_program_that_says_nothing_is_empty_and_complete(context: RunContext, fake_df: Fake) -> None:
    fake_df("exit 0")
    state = collect.fn(context, "disk")
    assert state.is_completed()
    assert made_by(state).outcome is Outcome.EMPTY
    assert len(made_by(state).files) == 2


FAILS_ONCE = """
echo >> tries
test $(wc -l < tries) -gt 1 || { echo "not yet" >&2; exit 1; }
echo free
"""


def test_a_second_attempt_takes_the_place_of_a_failed_one(context: RunContext, fake_df: Fake) -> None:
    fake_df(FAILS_ONCE)
    first, second = collect.fn(context, "disk"), collect.fn(context, "disk")
    assert (first.is_failed(), made_by(first).outcome) == (True, Outcome.FAILED)
    assert (second.is_completed(), made_by(second).outcome) == (True, Outcome.COLLECTED)
    assert (context.directory.evidence_dir(1) / "df.txt").read_text() == "free\n"


@pytest.mark.usefixtures("prefect")
def test_prefect_tries_again_what_failed_and_never_keeps_a_failure(
    small: SmallWorkload, fake_df: Fake, tmp_path: Path
) -> None:
    def run() -> State[Evidence]:
        with case_of(small.block()) as context, StepRunner(context):

            @flow(persist_result=False)
            def only_disk() -> None:
                future = collect.submit("disk")
                future.wait()
                states.append(future.state)
                assert result_of(future, Evidence) is not None

            states: list[State[Evidence]] = []
            only_disk()
            return states[0]

    def tries() -> int:
        return (tmp_path / "tries").read_text().count("\n")

    fake_df("echo >> tries; exit 1")
    state = run()
    assert (state.type.value, tries()) == ("FAILED", 4)
    (tmp_path / "tries").unlink()
    fake_df(FAILS_ONCE)
    state = run()
    assert (state.name, tries()) == ("Completed", 4)
    fake_df("echo >> tries; exit 1")
    state = run()
    assert (state.name, tries()) == ("Cached", 4)


@pytest.mark.parametrize(
    ("files", "losses", "outcome"),
    [
        ([], [], Outcome.EMPTY),
        ([FILE], [], Outcome.COLLECTED),
        ([EMPTY], [], Outcome.EMPTY),
        ([EMPTY, FILE], [], Outcome.COLLECTED),
        ([], [Outcome.MISSING], Outcome.MISSING),
        ([FILE], [Outcome.MISSING], Outcome.COLLECTED),
        ([EMPTY], [Outcome.MISSING], Outcome.EMPTY),
        ([FILE], [Outcome.DENIED], Outcome.DENIED),
        ([FILE], [Outcome.DENIED, Outcome.FAILED], Outcome.FAILED),
        ([], [Outcome.MISSING, Outcome.DENIED], Outcome.DENIED),
        ([FILE], [Outcome.FAILED, Outcome.TIMED_OUT, Outcome.DENIED], Outcome.TIMED_OUT),
    ],
)
def test_one_outcome_for_a_whole_attempt(files: list[StoredFile], losses: list[Outcome], outcome: Outcome) -> None:
    assert sum_up(files, [Loss("x", each, "why") for each in losses]) is outcome
