"""What the worker has frozen passes to the process of the run, with a lock that is never free in between."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from tasks.custody.containment.identity import Identity
from tasks.host.process.table import start_of
from tasks.incident.run_lock import at_work, owner, take_ownership
from tasks.prestart.hand_over import VARIABLE, HandOver, receive
from tasks.prestart.journal import (
    EarlyFreeze,
    keep,
    not_taken_over,
    note_unkept,
    read_early,
    rows_lost,
    take_over,
    thaw_again,
    thaw_left,
    unkept,
    write_rows,
)

AT = datetime(2026, 1, 2, tzinfo=UTC)
RUN = """
import os, sys
from pathlib import Path
from tasks.prestart.hand_over import receive
from tasks.incident.run_lock import at_work, owner, take_ownership
facts, early = receive(os.environ)
print(facts, early and early.path.name, "EVACUATION_HAND_OVER" in os.environ, flush=True)
sys.stdin.readline()
print(early and take_ownership(early.path.parent) is not None, flush=True)
sys.stdin.readline()
"""


@contextmanager
def run_that_fetches(name: str) -> Iterator["subprocess.Popen[str]"]:
    environment = {**os.environ, VARIABLE: name}
    with subprocess.Popen(
        [sys.executable, "-c", RUN], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        yield run
        run.kill()


def line(run: "subprocess.Popen[str]") -> str:
    assert run.stdout
    return run.stdout.readline().strip()


def answer(run: "subprocess.Popen[str]") -> str:
    assert run.stdin
    run.stdin.write("\n")
    run.stdin.flush()
    return line(run)


@pytest.fixture
def early(tmp_path: Path) -> EarlyFreeze:
    lock = take_ownership(tmp_path)
    assert lock is not None
    made = EarlyFreeze(tmp_path / "early.json", (Identity(10**7, 5),), ("/a/group",), lock)
    write_rows(made, [{"pid": 10**7, "start": 5, "at": AT.isoformat()}, {"group": "/a/group"}])
    return made


@pytest.mark.slow
def test_the_run_gets_everything_and_the_lock_is_its_own_and_never_free(early: EarlyFreeze) -> None:
    evidence, facts = early.path.parent, {"run": {"parameters": {"reason": "x" * 300_000}}}
    hand_over = HandOver(facts, early)
    with run_that_fetches(hand_over.name) as run:
        told = line(run)
        assert told.endswith("} early.json False")
        assert len(told) > 300_000
        left = hand_over.close()
        assert left == replace(early, lock=None)
        assert take_ownership(evidence) is None, "another run cannot get in between"
        assert owner(evidence) == "evacuation"
        assert json.loads((evidence / ".owner").read_text())["pid"] == run.pid
        assert at_work(evidence), "a guard knows by the kernel that the run works"
        assert answer(run) == "True", "the run's own opening finds the lock"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(early.lock or 0)
    free = take_ownership(evidence)
    assert free is not None
    os.close(free)


def test_what_a_start_has_detached_is_told_by_the_run_whose_freeze_takes_over(tmp_path: Path) -> None:
    """It was in the log of the worker that had frozen for the run, and in no record."""
    path, first, second = tmp_path / "early.json", "a file system was detached", "another one was"
    died, next_ = (EarlyFreeze(path, (), losses=(loss,)) for loss in (first, second))
    for start in (died, next_, next_):
        write_rows(start, rows_lost(start.losses))
    assert read_early(path).losses == [first, second]
    assert (read_early(path).frozen, read_early(path).groups) == ({}, [])
    take_over(path)
    assert read_early(path).losses == []


@pytest.mark.slow
def test_facts_alone_are_handed_to_a_run_that_nothing_was_frozen_for() -> None:
    hand_over = HandOver({"flow": "evacuate"}, None)
    with run_that_fetches(hand_over.name) as run:
        assert line(run) == "{'flow': 'evacuate'} None False"
    assert hand_over.close() is None


def test_a_run_that_dies_before_it_has_answered_leaves_everything_to_the_worker(early: EarlyFreeze) -> None:
    hand_over = HandOver({}, early)
    quits = "import os, socket, sys; s = socket.socket(socket.AF_UNIX); s.connect('\\0' + sys.argv[1]); s.recv(9)"
    subprocess.run([sys.executable, "-c", quits, hand_over.name], check=True)
    left = hand_over.close()
    assert left == replace(early, lock=None)
    assert owner(early.path.parent) == ""
    assert (read_early(left.path).frozen, read_early(left.path).groups) == ({early.frozen[0]: AT}, ["/a/group"])


def test_without_a_worker_there_is_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert receive({}) == ({}, None)
    assert capfd.readouterr().err == ""
    hand_over = HandOver({}, None)
    hand_over.close()
    environment = {VARIABLE: hand_over.name}
    assert receive(environment) == ({}, None)
    assert environment == {}
    assert "nothing was handed over by the worker" in capfd.readouterr().err


@contextmanager
def stopped() -> Iterator[tuple[Identity, "subprocess.Popen[bytes]"]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        os.kill(process.pid, 19)
        os.waitpid(process.pid, os.WUNTRACED)
        try:
            yield Identity(process.pid, start_of(process.pid)), process
        finally:
            process.kill()


def state(who: Identity) -> str:
    return Path(f"/proc/{who.pid}/stat").read_text().rpartition(")")[2].split()[0]


def row(who: Identity) -> dict[str, Any]:
    return {"pid": who.pid, "start": who.start, "at": datetime.now(UTC).isoformat()}


@pytest.mark.slow
@pytest.mark.parametrize("lock", ["still here", "handed over", "another run's"])
def test_what_a_run_has_not_taken_over_is_thawed_unless_another_run_is_at_work(tmp_path: Path, lock: str) -> None:
    with stopped() as (left, _), stopped() as (taken, _):
        held = None if lock == "handed over" else take_ownership(tmp_path)
        path = tmp_path / "early.json"
        path.write_text(json.dumps([row(left)]))
        path.chmod(0o600)
        thaw_left(EarlyFreeze(path, (left, taken), lock=held if lock == "still here" else None), lambda: True)
        assert (state(left) == "T") is (lock == "another run's")
        assert state(taken) == "T", "an incident has it"
        assert path.exists() is (lock == "another run's")
        assert (owner(tmp_path) == "") is (lock != "another run's")
        if lock == "another run's":
            os.close(held or 0)


@pytest.mark.parametrize("disk", ["takes it", "takes nothing"])
def test_what_a_freeze_leaves_stays_written_down_and_the_rest_is_forgotten(
    tmp_path: Path, disk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, taken = Identity(10**7, 5), Identity(10**7 + 1, 6)
    early = EarlyFreeze(tmp_path / "early.json", (left, taken), ("/a/group",))
    write_rows(early, [*({**row(who), "at": AT.isoformat()} for who in early.frozen), {"group": "/a/group"}])
    if disk == "takes nothing":
        monkeypatch.setattr("tasks.prestart.journal.write_whole", Mock(side_effect=OSError))
    take_over(early.path, {left})
    assert not_taken_over(early) == replace(early, frozen=(), groups=()), "a person decides"
    assert early.path.exists() is (disk == "takes it")
    assert read_early(early.path).frozen == {left: AT}
    take_over(early.path)
    assert read_early(early.path).frozen == {}


@contextmanager
def another_run(folder: Path, purpose: str) -> Iterator[None]:
    """A run of another process, which has the lock until the block ends."""
    works = (
        "import sys; from pathlib import Path; from tasks.incident.run_lock import take_ownership;"
        "print(take_ownership(Path(sys.argv[1]), sys.argv[2]) is not None, flush=True); sys.stdin.readline()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", works, folder, purpose], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert line(run) == "True"
        yield
        run.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("lock", ["kept", "taken and not released", "released", "evacuation", "recovery"])
def test_a_run_that_is_over_thaws_what_it_has_frozen_unless_another_run_is_at_work(tmp_path: Path, lock: str) -> None:
    """A refused run thawed everything, seconds after another one had begun to rely on it."""
    with stopped() as (left, _), ExitStack() as others:
        early = keep(EarlyFreeze(tmp_path / "early.json", (left,), lock=take_ownership(tmp_path)))
        write_rows(early, [row(left)])
        if lock != "kept":
            taken = take_ownership(tmp_path)
            assert taken is not None
            if lock == "taken and not released":
                others.callback(os.close, taken)
            else:
                os.close(taken)
        if lock in {"evacuation", "recovery"}:
            others.enter_context(another_run(tmp_path, lock))
        thaw_again(early)
        assert (state(left) == "T") is (lock == "evacuation"), "which takes it over"
        assert (left in read_early(early.path).frozen) is (lock == "evacuation")
        others.close()
        assert not owner(tmp_path)


def test_what_is_left_of_a_run_that_is_not_over_stays_frozen_written_down_and_without_a_lock(tmp_path: Path) -> None:
    with stopped() as (left, _):
        path = tmp_path / "early.json"
        path.write_text(json.dumps([row(left)]))
        path.chmod(0o600)
        thaw_left(EarlyFreeze(path, (left,), lock=take_ownership(tmp_path)), lambda: False)
        assert state(left) == "T"
        assert left in read_early(path).frozen
        assert not owner(tmp_path)


@pytest.mark.slow
def test_what_no_disk_takes_is_told_to_the_run_and_forgotten_by_the_worker(tmp_path: Path) -> None:
    who, at = Identity(10**7, 5), datetime.now(UTC)
    early = EarlyFreeze(tmp_path / "early.json", (who,))
    note_unkept({who: at})
    hand_over = HandOver({}, early)
    tells = (
        "import os; from tasks.prestart.hand_over import receive; from tasks.prestart.journal import read_early;"
        "print(read_early(receive(os.environ)[1].path).frozen)"
    )
    environment = {**os.environ, VARIABLE: hand_over.name}
    done = subprocess.run([sys.executable, "-c", tells], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == repr({who: at})
    hand_over.close()
    assert (unkept(early), read_early(early.path).frozen, not_taken_over(early).frozen) == ({}, {}, ())
