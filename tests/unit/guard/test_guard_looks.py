"""One look of the guard after the other, on paper: whom it freezes, ends, leaves to others, and what it writes down."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from io import FileIO
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, Signals
from typing import Any

import pytest

from tasks.custody.containment.identity import Identity
from tasks.guard import __main__ as guard
from tasks.guard.__main__ import Guard, kept_orders
from tasks.host.guard_config import GuardConfig
from tasks.host.process.matcher import Matcher, WorkloadDescription
from tasks.host.process.process import Masks, Process
from tasks.incident.run_lock import take_ownership
from tests.support.paper_host import PaperHost, process

TRAINING = ("python", "src/train.py")
WORKLOAD = WorkloadDescription("/r", (Matcher("training", r"src/train\.py"),))


class Post:
    """A guard of a folder on a host of paper, with its journals."""

    def __init__(self, folder: Path) -> None:
        """Nobody is there yet."""
        self.folder, self.host = folder, PaperHost(root="/r")
        self.caught = folder / "caught.jsonl"
        orders = GuardConfig(
            incident="IR-x",
            reason="why",
            since="now",
            lock=str(folder / "lock"),
            marker=str(folder / "cordon.json"),
            caught=str(self.caught),
            known=(str(folder / "frozen.json"),),
            workload=WORKLOAD,
            spared=(process(7).identity,),
            started=(str(folder / "recovered.json"),),
            evidence=str(folder),
        )
        self.guard = Guard(orders, -1)
        self.guard.host = self.host
        self.guard.me = Identity(os.getpid(), 0)  # older than all on paper

    def add(self, number: int, **about: Any) -> Process:
        """A training in the root."""
        one = process(number, TRAINING, cwd="/r", **about)
        self.host.processes[one.pid] = one
        return one

    def keep(self, name: str, *rows: Process) -> None:
        """As a run writes its journals."""
        path = self.folder / name
        path.write_text(json.dumps([{"pid": each.pid, "start": each.identity.start} for each in rows]))
        path.chmod(0o600)

    def look(self) -> list[tuple[int, Signals]]:
        """What a look sends."""
        self.host.sent = []
        self.guard.watch()
        return self.host.sent

    def rows(self) -> list[dict[str, Any]]:
        """What is written down."""
        return [json.loads(line) for line in self.caught.read_text().splitlines()] if self.caught.exists() else []


@pytest.fixture
def post(tmp_path: Path) -> Post:
    return Post(tmp_path)


def test_a_newcomer_is_frozen_and_written_down_once_in_a_file_that_others_may_read(post: Post) -> None:
    keeper = process(5, ("/usr/bin/keeper",))
    post.host.processes[keeper.pid] = keeper
    one = post.add(1, parent=keeper.pid)
    assert post.look() == [(one.pid, SIGSTOP)]
    assert post.look() == []
    (row,) = post.rows()
    assert row["identity"] == {"pid": one.pid, "start": one.identity.start}
    assert (row["stood"], row["denied"], row["command"]) == (False, "", "python src/train.py")
    assert row["source"] == f"process {keeper.pid} (/usr/bin/keeper)"
    assert post.caught.stat().st_mode & 0o777 == 0o644


def test_one_that_stands_already_is_written_down_as_one_that_stood(post: Post) -> None:
    post.add(1, state="T")
    post.look()
    assert [row["stood"] for row in post.rows()] == [True]


def test_one_that_is_thawed_again_and_again_is_ended_and_stays_one_newcomer(post: Post) -> None:
    one, sent = post.add(1), list[Signals]()
    while post.host.get_process(one.identity):
        sent += [number for _, number in post.look()]
        if post.host.get_process(one.identity):
            post.host.signal(one.identity, SIGCONT)
    assert sent == [SIGSTOP] * 4 + [SIGKILL]
    caught, killed = post.rows()
    assert caught["identity"] == killed["identity"] == {"pid": one.pid, "start": one.identity.start}
    assert ("killed" in caught, killed["killed"], killed["denied"]) == (False, True, "")
    assert killed["command"] == caught["command"]


@pytest.mark.parametrize(
    "held_up",
    [{"state": "D"}, {"masks": Masks(pending=1 << SIGSTOP - 1)}],
    ids=["in uninterruptible sleep", "in a control group that is frozen"],
)
def test_one_that_a_stop_has_not_reached_was_not_thawed(
    post: Post, monkeypatch: pytest.MonkeyPatch, held_up: dict[str, Any]
) -> None:
    one, obey = post.add(1), post.host.signal

    def signal(identity: Identity, number: Signals) -> None:
        obey(identity, number)
        if number is SIGSTOP:
            post.host.processes[identity.pid] = replace(one, **held_up)

    monkeypatch.setattr(post.host, "signal", signal)
    assert [number for _ in range(6) for _, number in post.look()] == [SIGSTOP] * 6
    assert post.host.get_process(one.identity)
    assert len(post.rows()) == 1


def test_one_that_ran_before_the_guard_is_never_killed(post: Post) -> None:
    one = post.add(1)
    post.guard.me = replace(post.guard.me, start=one.identity.start)
    for _ in range(6):
        assert post.look() == [(one.pid, SIGSTOP)]
        post.host.signal(one.identity, SIGCONT)
    assert len(post.rows()) == 1


def test_one_that_outlives_its_kill_for_a_while_is_written_down_once(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    post.add(1)
    monkeypatch.setattr(post.host, "signal", lambda *_: None)
    for _ in range(8):
        post.look()
    assert [row.get("killed", False) for row in post.rows()] == [False, True]


def test_whom_a_recovery_has_started_and_who_started_the_evacuation_are_left_alone(post: Post) -> None:
    recovered, ours = post.add(1), post.add(7)
    child = post.add(2, parent=recovered.pid)
    post.keep("recovered.json", recovered)
    assert post.look() == []
    assert post.rows() == []
    assert {each.state for each in (recovered, ours, child)} == {"S"}


def test_whom_a_run_has_frozen_is_its_own_while_it_is_at_work(post: Post) -> None:
    one = post.add(1)
    post.keep("frozen.json", one)
    descriptor = take_ownership(post.folder)
    assert descriptor is not None
    try:
        assert post.look() == []
    finally:
        os.close(descriptor)
    for _ in range(6):  # no run is at work: it is stopped, and never ended
        assert post.look() == [(one.pid, SIGSTOP)]
        post.host.signal(one.identity, SIGCONT)


def test_one_that_may_not_be_stopped_is_written_down_with_the_reason(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(post.host, "signal", deny)
    post.add(1)
    post.look()
    post.look()
    assert [row["denied"] for row in post.rows()] == ["SIGSTOP denied, it belongs to user 0"]


def test_one_that_is_gone_before_it_is_stopped_is_nobody(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(post.host, "signal", gone)
    post.add(1)
    post.look()
    assert post.rows() == []


def test_a_line_that_does_not_fit_on_the_disk_is_taken_back_and_written_later(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(FileIO):
        """Takes half of what it is given."""

        def write(self, data: Any) -> int:
            """Half."""
            return super().write(data[: len(data) // 2])

    post.add(1)
    with monkeypatch.context() as full:
        full.setattr(guard, "FileIO", Full)
        post.look()
        assert post.caught.read_bytes() == b""
    post.add(2)
    post.look()
    assert len(post.rows()) == 2


@pytest.fixture
def marker(post: Post) -> Iterator[Path]:
    path = Path(post.guard.orders.marker)
    path.write_text(json.dumps(post.guard.orders.row()))
    path.chmod(0o644)
    yield path
    path.unlink()


def test_orders_are_taken_from_a_marker_that_is_where_it_says(marker: Path, post: Post) -> None:
    assert kept_orders(marker).workload == post.guard.orders.workload
    other = marker.with_name("copy.json")
    other.write_text(marker.read_text())
    with pytest.raises(ValueError, match="which the file names"):
        kept_orders(other)


def test_that_no_guard_was_started_is_an_error(
    post: Post, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["guard", "again", post.guard.orders.marker])
    with pytest.raises(SystemExit) as ended:
        guard.main()
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert "no guard was started" in told.err
    assert told.out == ""


def test_a_guard_that_was_started_later_relieves_this_one(post: Post) -> None:
    post.host.stands = replace(post.guard.me, start=post.guard.me.start + 1)
    post.guard._stay_named()
    assert post.guard.relieved
    post.host.stands = replace(post.guard.me, start=post.guard.me.start - 1)
    post.guard._stay_named()
    assert not post.guard.relieved


def test_what_is_not_known_in_the_root_is_left_alone_and_written_down_once(post: Post) -> None:
    one = process(1, ("/usr/bin/node", "/opt/agent.js"), cwd="/r", executable="/usr/bin/node")
    shell = process(2, ("bash",), cwd="/r", executable="/usr/bin/bash")
    post.host.processes |= {each.pid: each for each in (one, shell)}
    assert (post.look(), post.look()) == ([], [])
    (row,) = post.rows()
    assert (row["seen"]["pid"], row["command"]) == (one.pid, "/usr/bin/node /opt/agent.js")
    assert Identity.of(row) is None, "whoever reads what was frozen passes it over"


@pytest.mark.parametrize(
    "error", [ValueError("a"), OSError(36, "b"), KeyError("c"), RuntimeError("d"), MemoryError("e")]
)
def test_a_look_that_fails_ends_no_guard_and_is_written_down_once(
    post: Post, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    fails = 3
    looks = post.host.look_again

    def look(*about: Any) -> Any:
        nonlocal fails
        fails -= 1
        if fails >= 0:
            raise error
        return looks(*about)

    def ends(*_: object) -> object:
        return None if fails >= -1 else "SIGTERM"

    monkeypatch.setattr(post.host, "look_again", look)
    monkeypatch.setattr(signal, "sigtimedwait", ends)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(signal, "pthread_sigmask", lambda *_: None)
    one = post.add(1)
    post.guard.stand()
    assert (one.pid, SIGSTOP) in post.host.sent
    told = [row["command"] for row in post.rows() if row.get("seen", {}).get("pid") == os.getpid()]
    assert [type(error).__name__ in each for each in told] == [True]
