"""What starts newcomers again and again: three of one parent are kept, further ones ended; on paper, look by look."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from signal import SIGKILL, SIGSTOP

import pytest

from tasks.custody.containment.identity import Identity
from tasks.host.process.newcomer import again_and_again, is_written
from tasks.host.process.process import Process
from tasks.host.process.source import source_of
from tests.support.paper_host import process
from tests.unit.guard.test_guard_looks import Post

SHELL = process(3, ("bash",), executable="/usr/bin/bash")


@pytest.fixture
def post(tmp_path: Path) -> Post:
    post = Post(tmp_path)
    post.host.processes[SHELL.pid] = SHELL
    return post


def started_by(post: Post, parent: Process, first: int, count: int) -> list[tuple[int, object]]:
    """What is sent while one newcomer of this parent comes after the other."""
    sent = list[tuple[int, object]]()
    for number in range(first, first + count):
        post.add(number, parent=parent.pid)
        sent += post.look()
    return sent


def test_three_of_one_parent_are_kept_and_further_ones_are_ended(post: Post) -> None:
    sent = started_by(post, SHELL, 10, 20)
    assert [number for _, number in sent] == [SIGSTOP] * 3 + [SIGKILL] * 17
    assert [each.state for each in post.host.processes.values() if each.pid != SHELL.pid] == ["T"] * 3
    rows = post.rows()
    assert [row.get("ended") for row in rows] == [None, None, 0, 1, 2, 4, 8, 16]
    assert ["killed" in row for row in rows] == [False] * 3 + [True] * 5
    assert {json.dumps(row["again"]) for row in rows[2:]} == {json.dumps(asdict(source_of(SHELL)))}
    (named,) = again_and_again(post.host.snapshot(), rows)
    assert named.startswith(
        f"process {SHELL.pid} (bash) starts it again and again, at least 16 ended: end it with kill {SHELL.pid}"
    )


def test_nothing_is_named_once_it_has_ended(post: Post) -> None:
    started_by(post, SHELL, 10, 5)
    del post.host.processes[SHELL.pid]
    assert again_and_again(post.host.snapshot(), post.rows()) == []
    another = replace(SHELL, identity=Identity(SHELL.pid, 999))
    assert again_and_again({SHELL.pid: another}, post.rows()) == []


def test_newcomers_of_different_parents_are_all_kept_and_nobody_is_named(post: Post) -> None:
    for number in range(20, 26):
        parent = replace(process(number, ("bash", "x.sh"), parent=SHELL.pid), executable="/usr/bin/bash")
        post.host.processes[parent.pid] = parent
        assert [number for _, number in started_by(post, parent, number + 100, 1)] == [SIGSTOP]
    assert not any("again" in row for row in post.rows())


def test_what_descends_from_a_newcomer_goes_with_it(post: Post) -> None:
    started_by(post, SHELL, 10, 3)
    top = post.add(50, parent=SHELL.pid, group=50)
    child = post.add(51, parent=top.pid, group=50)
    assert set(post.look()) == {(top.pid, SIGKILL), (child.pid, SIGKILL)}
    orphan = post.add(52, parent=1, group=50)
    assert post.look() == [(orphan.pid, SIGKILL)], "born between the look and the end of its parent"
    assert [row["identity"]["pid"] for row in post.rows() if row.get("killed")] == [top.pid, orphan.pid]


def test_children_of_a_kept_one_are_kept(post: Post) -> None:
    (first, *_) = [who for who, _ in started_by(post, SHELL, 10, 3)]
    post.add(50, parent=first)
    assert [number for _, number in post.look()] == [SIGSTOP]


@pytest.mark.parametrize("wrapper", ["sudo", "su", "runuser", "script", "timeout"])
def test_a_wrapper_passes_on_what_a_shell_starts(post: Post, wrapper: str) -> None:
    sent = list[object]()
    for number in range(5):
        one = process(20 + 2 * number, (wrapper,), parent=SHELL.pid, executable=f"/usr/bin/{wrapper}")
        by = process(21 + 2 * number, ("sh", "-c", "x"), parent=one.pid, executable="/usr/bin/dash")
        post.host.processes |= {one.pid: one, by.pid: by}
        sent += [sign for _, sign in started_by(post, by, 100 + number, 1)]
    assert sent == [SIGSTOP] * 3 + [SIGKILL] * 2
    assert post.rows()[-1]["again"] == asdict(source_of(SHELL))


def test_of_cron_the_daemon_is_named_and_its_entry_is_to_be_taken_out(post: Post) -> None:
    def cron(number: int, parent: int) -> Process:
        one = process(number, ("cron", "-f"), parent=parent, executable="/usr/sbin/cron")
        post.host.processes[one.pid] = one
        return one

    daemon, sent = cron(4, 1), list[object]()
    for number in range(5):
        job = cron(20 + 2 * number, daemon.pid)
        by = process(21 + 2 * number, ("/bin/sh", "-c", "x"), parent=job.pid, executable="/usr/bin/dash")
        post.host.processes[by.pid] = by
        sent += [sign for _, sign in started_by(post, by, 100 + number, 1)]
    assert sent == [SIGSTOP] * 3 + [SIGKILL] * 2
    (named,) = again_and_again(post.host.snapshot(), post.rows())
    assert f"process {daemon.pid} (cron -f)" in named
    assert "crontab" in named


def test_of_what_systemd_starts_the_unit_is_named(post: Post) -> None:
    for number in range(10, 15):
        post.add(number, parent=1, cgroup="0::/system.slice/train.service")
        post.look()
    (named,) = again_and_again(post.host.snapshot(), post.rows())
    assert named.startswith("systemd unit train.service starts it again and again, at least 2 ended: ")
    assert "systemctl stop train.service" in named


def test_orphans_of_nobody_are_all_kept(post: Post) -> None:
    for number in range(10, 16):
        post.add(number, parent=1, group=number)
        assert [sign for _, sign in post.look()] == [SIGSTOP]


def test_what_a_run_has_frozen_and_what_is_older_than_the_guard_is_never_ended(post: Post) -> None:
    frozen = [post.add(number, parent=SHELL.pid) for number in range(10, 16)]
    post.keep("frozen.json", *frozen)
    assert {sign for _, sign in post.look()} == {SIGSTOP}
    post.guard.me = replace(post.guard.me, start=1000)
    assert {sign for _, sign in started_by(post, SHELL, 30, 6)} == {SIGSTOP}
    helpers = [process(2000 + each, ("python", "src/train.py"), parent=frozen[0].pid, cwd="/r") for each in range(5)]
    post.host.processes |= {each.pid: each for each in helpers}
    assert {sign for _, sign in post.look()} == {SIGSTOP}, "children of what the run has frozen are the run's"


def test_rows_are_written_at_each_doubling() -> None:
    assert [number for number in range(1, 40) if is_written(number)] == [1, 2, 3, 4, 5, 7, 11, 19, 35]
