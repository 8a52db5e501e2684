"""The bench runs, measures what it says, and its runbook hits nothing but the workload that it was started for."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks.contain import Bench, Clocks, Size, conditions, main, rows
from benchmarks.rows import table
from benchmarks.runbook import typed
from benchmarks.trees import seconds_to_freeze
from benchmarks.watched import Watched, watch
from tasks.drill.sample_workload import SampleWorkload, end_all_in, find_living
from tests.support.workloads import SmallWorkload, wait_until

NOTHING: Any = None
PROJECT = Path(__file__).parents[3]
BUSY = "while True:\n    pass\n"
IDLE = "import time\nopen('ready', 'w').close()\ntime.sleep(600)\n"


def test_the_runbook_as_it_stands_hits_only_the_sessions_that_it_is_given(small: SmallWorkload) -> None:
    api, training, other = small.start(small.api_command), small.start(WORKERS="0"), small.start(WORKERS="0")
    wait_until(small.healthy, what="the API")
    wait_until(lambda: len(small.living()) == 3, what="both trainings")
    script = typed([api.pid, training.pid], small.root.parent / "a lock")
    subprocess.run(["bash", "-c", script], cwd=small.root, capture_output=True, check=True)
    assert api.wait(10) == training.wait(10) == -signal.SIGTERM
    assert other.poll() is None
    assert (small.root.parent / "a lock").exists()


def test_the_runbook_is_told_as_it_stands() -> None:
    script = typed([1, 2], Path("/srv/train.lock"))
    assert 'pkill() { command pkill -s 1,2 "$@"; }' in script
    assert "exec 9>/srv/train.lock; flock -n 9 || true" in script
    assert 'pkill -f "python -u src/train.py .* --mode full" || true' in script


@pytest.mark.parametrize("idle_is_rest", [True, False])
def test_what_computes_is_not_at_rest_until_it_is_frozen(small: SmallWorkload, *, idle_is_rest: bool) -> None:
    (small.root / "src/train.py").write_text(BUSY)
    training = small.start()
    seen = Watched(training.pid, idle_is_rest=idle_is_rest)
    watch([seen], time.monotonic() + 1.3)
    assert seen.rest is None
    before = time.monotonic()
    os.kill(training.pid, signal.SIGSTOP)
    watch([seen], time.monotonic() + 5)
    assert seen.rest is not None
    assert seen.rest >= before
    assert list(seen.living()) == [training.pid]


def test_what_only_waits_is_at_rest_where_that_counts(small: SmallWorkload) -> None:
    (small.root / "src/train.py").write_text(IDLE)
    training = small.start()
    wait_until((small.root / "ready").exists, what="the training")
    training_seen, api_seen = (Watched(training.pid, idle_is_rest=idle) for idle in (True, False))
    watch([training_seen], time.monotonic() + 5)
    api_seen.look()
    assert training_seen.rest is not None
    assert api_seen.rest is None
    training.kill()
    training.wait()
    api_seen.look()
    assert api_seen.rest is not None
    assert api_seen.living() == {}


@pytest.mark.parametrize("shape", ["wide", "deep"])
def test_a_tree_is_frozen_whole_and_ended(shape: str, tmp_path: Path) -> None:
    assert 0 < seconds_to_freeze(tmp_path / "tree", 30, shape) < 5
    wait_until(lambda: find_living(tmp_path) == [], what="the tree's end")


def test_it_is_said_whether_the_runbooks_imports_were_compiled(tmp_path: Path) -> None:
    assert conditions(tmp_path).endswith("environment: no")
    cached = tmp_path / "venv/lib/python3.11/site-packages/sklearn/__pycache__"
    cached.mkdir(parents=True)
    (cached / "base.cpython-311.pyc").touch()
    assert conditions(tmp_path).endswith("environment: yes")


def test_goals_are_judged_by_medians_and_our_worst_survivors() -> None:
    ours = [Clocks(1.0, 2.0, 0, 0.2), Clocks(9.0, 9.0, 0, 0.9), Clocks(1.5, 2.0, 0, 0.3)]
    peer = [Clocks(6.0, 8.0, 3), Clocks(6.0, 8.0, 4), Clocks(1.0, 1.0, 9)]
    typed_run = [Clocks(0.1, 0.1, 0, stopped=3.0, ended=9.0), Clocks(0.1, 0.1, 0, stopped=9.0, ended=99.0)]
    by_hand = [*typed_run, typed_run[0]]
    api, training, frozen, stopped, verdict, left = rows(ours, peer, by_hand)
    assert (api.ours, api.peer, api.ratio, api.holds) == (1.5, 6.0, 4.0, True)
    assert (training.ours, training.peer, training.holds) == (2.0, 8.0, True)
    assert (frozen.ours, frozen.peer, frozen.ratio, frozen.holds) == (0.3, None, None, True)
    assert (left.ours, left.peer, left.ratio, left.holds) == (0, 4, None, True)
    assert (stopped.ours, stopped.peer, stopped.holds) == (3.0, 8.0, True)
    assert (verdict.ours, verdict.ratio, verdict.holds) == (9.0, None, True)
    assert not rows(ours, peer, [Clocks(0.1, 0.1, 1, stopped=3.0, ended=9.0)])[-1].holds
    one_left = rows([*ours, Clocks(1.0, 1.0, 1, 0.2)], peer, by_hand)[-1]
    assert not one_left.holds
    assert "NO" in table([one_left])
    assert not rows(ours, [Clocks(5.9, 7.9, 1)], by_hand)[0].holds


class Sample:
    """The small workload in place of the drill's, which takes half a minute to build."""

    def __init__(self, small: SmallWorkload) -> None:
        """Take its places."""
        self.small, self.root, self.lock, self.block = small, small.root, small.block().lock, small.block

    @property
    def sessions(self) -> tuple[int, ...]:
        """Of the API and the training."""
        return tuple(process.pid for process in self.small.started[-2:])

    def start(self) -> None:
        """Start both."""
        self.small.start_all(1)

    def end(self) -> None:
        """End both."""
        end_all_in(self.root)


class WithoutServer(Bench):
    """The flow as `evacuation run` starts it."""

    def environment(self) -> dict[str, str]:
        """Ours."""
        return {**os.environ}

    def warm_up(self) -> None:
        """Nothing here is a figure."""

    def flow(self) -> Clocks:
        """As it is typed."""
        return self.typed()


@pytest.mark.soak
def test_the_bench_in_its_smallest_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.rows.RESULTS", tmp_path)
    monkeypatch.setattr("benchmarks.watched._IDLE_SECONDS", 30.0)  # one that waits for the processor is not at rest

    @contextmanager
    def stage(folder: Path, size: Size) -> Iterator[Bench]:
        (folder / "store").mkdir()
        with SmallWorkload(folder / "work load") as small:
            yield WithoutServer(folder, NOTHING, cast("SampleWorkload", Sample(small)), size)

    monkeypatch.setattr("benchmarks.contain.stage", stage)
    judge_smallest(main(["--small"]), tmp_path)


def judge_smallest(code: int, folder: Path) -> None:
    """Whether the goals hold is a question for a machine at rest."""
    assert code in {0, 1}
    api, training, frozen, stopped, verdict, left, wide, deep = json.loads((folder / "contain.json").read_text())[
        "rows"
    ]
    assert 0 < api["ours"] < 5
    assert 0 < training["ours"] < 5
    assert frozen["ours"] > 0
    assert 0 < stopped["ours"] < verdict["ours"]
    assert 0 < wide["ours"] < 5
    assert 0 < deep["ours"] < 5
    assert left["ours"] == 0
    wait_until(lambda: not find_living(folder), what="the end of what the bench has started")


@pytest.mark.soak
def test_the_small_form_with_a_server_and_the_drills_workload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.rows.RESULTS", tmp_path)
    monkeypatch.setattr("benchmarks.watched._IDLE_SECONDS", 30.0)  # one that waits for the processor is not at rest
    judge_smallest(main(["--small"]), tmp_path)
    _, training, _, _, _, left, *_ = json.loads((tmp_path / "contain.json").read_text())["rows"]
    assert (training["peer"], left["peer"] > 0) == (5, True)
