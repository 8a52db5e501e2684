"""What started a process, and what keeps bringing it back."""

import re
import time
from dataclasses import replace
from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import BETWEEN, Source
from tasks.host.cgroup.ownership import unit_of
from tasks.host.process.process import Process, ancestry
from tasks.host.process.source import is_restarted, keeps_only, lineage, lineages, may_be_ended, may_restart, supervisor


def process(pid: int, parent: int, *command: str, cgroup: str = "") -> Process:
    """The executable is what the command line says, which it is not always."""
    executable = f"/usr/bin/{PurePath(command[0].lstrip('-').split(':')[0]).name}" if command else ""
    return Process(Identity(pid, pid * 10), parent, "S", command, executable=executable, cgroup=cgroup)


def table(*processes: Process) -> dict[int, Process]:
    return {one.pid: one for one in processes}


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/ml-api.service\n", "ml-api.service"),
        ("0::/system.slice/ml-api.service/worker\n", "ml-api.service"),
        ("12:pids:/system.slice/x.service\n1:name=systemd:/system.slice/x.service\n", "x.service"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/mine.service\n", ""),
        ("0::/user.slice/user-1000.slice/user@1000.service/of.users:/ml-api.service\n", ""),
        ("0::/user.slice/user-0.slice/session-3.scope\n", ""),
        ("0::/system.slice/docker-" + "a" * 64 + ".scope\n", ""),
        ("0::/\n", ""),
        ("", ""),
    ],
)
def test_the_unit_is_read_off_the_control_group(cgroup: str, unit: str) -> None:
    assert unit_of(cgroup) == unit


@given(st.text())
def test_any_text_for_a_control_group_is_answered(text: str) -> None:
    assert "/" not in unit_of(text)


def test_the_lineage_goes_up_to_pid_1_and_ends_with_the_unit() -> None:
    snapshot = table(
        process(1, 0, "init"),
        process(10, 1, "bash", "run.sh"),
        process(11, 10, "make", "api"),
        process(12, 11, "uvicorn", "--api-key", "hush", cgroup="0::/system.slice/ml.service"),
    )
    told = [str(source) for source in lineage(snapshot, 12)]
    assert told == ["process 11 (make api)", "process 10 (bash run.sh)", "systemd unit ml.service"]
    assert lineage(snapshot, 10) == ()


def test_a_table_with_a_loop_ends() -> None:
    snapshot = {10: process(10, 11, "a"), 11: process(11, 10, "b")}
    assert [source.name for source in lineage(snapshot, 10)] == ["b"]


def test_no_secret_of_a_command_line_is_told() -> None:
    snapshot = table(process(10, 1, "run", "--token", "hush"), process(11, 10, "x"))
    assert "hush" not in str(lineage(snapshot, 11))


def test_the_supervisor_is_the_nearest_that_both_have_in_common() -> None:
    loop, first, second = (
        Source("bash run.sh", Identity(10, 1)),
        Source("make", Identity(11, 2)),
        Source("make", Identity(12, 3)),
    )
    login = Source("-bash", Identity(9, 1))
    assert supervisor((second, loop, login), {first, loop, login}) == loop
    assert supervisor((second,), {first}) is None
    unit = Source("ml.service")
    assert supervisor((unit,), {unit}) == unit


@pytest.mark.parametrize(
    "command",
    [("bash", "run.sh"), ("/bin/sh", "-c", "while :; do x; done"), ("python", "supervise.py")],
)
def test_a_loop_may_be_ended(command: tuple[str, ...]) -> None:
    assert may_be_ended(process(10, 1, *command))


@pytest.mark.parametrize("command", [("bash",), ("-bash",), ("-zsh", "-l"), ("tmux", "new"), ("sshd: me@pts/0",)])
def test_a_persons_login_is_never_ended(command: tuple[str, ...]) -> None:
    assert not may_be_ended(process(10, 1, *command))


@pytest.mark.parametrize(
    ("words", "above", "expected"),
    [
        ("bash bin/serve.sh", "init", True),
        ("/bin/sh -c x", "bash", True),
        ("python supervise.py", "bash", True),
        ("bash -i", "tmux", False),
        ("-bash", "sshd: me@pts/0", False),
        ("make train", "bash", False),
        ("/bin/sh -c x", "make", False),
        ("vim train.py", "bash", False),
        ("tmux new", "init", False),
        ("cron -f", "init", False),
    ],
)
def test_a_script_may_start_it_again_and_a_person_at_work_may_not(words: str, above: str, *, expected: bool) -> None:
    parent = process(10, 9, *words.split())
    assert may_restart(table(process(9, 1, *above.split(maxsplit=1)), parent), parent) is expected


def test_what_something_that_lives_on_has_started_is_told_from_an_orphan() -> None:
    snapshot = table(
        process(1, 0, "init"),
        process(5, 1, "/usr/lib/systemd/systemd", "--user"),
        process(9, 1, "bash", "loop.sh"),
        process(10, 1, "training"),
        process(20, 9, "training"),
        process(21, 10, "worker"),
        process(22, 1, "worker"),
        process(23, 5, "worker"),
        process(24, 1, "training", cgroup="0::/system.slice/ml.service"),
        process(25, 77, "worker"),
    )
    assert [pid for pid in snapshot if is_restarted(snapshot, pid, {10})] == [20, 24]


def test_what_keeps_other_work_too_is_not_the_workloads_alone() -> None:
    supervised = table(process(5, 1, "supervisord"), process(6, 5, "sh"), process(7, 6, "python"), process(8, 7, "x"))
    assert keeps_only(supervised, 5, {7, 8})
    assert not keeps_only(supervised, 5, {7})
    assert not keeps_only(supervised | table(process(9, 5, "nginx")), 5, {7, 8})


@pytest.mark.parametrize("program", ["/usr/lib/systemd/systemd", "/usr/sbin/cron", "/usr/sbin/sshd"])
def test_what_starts_everybodys_programs_is_never_ended(program: str) -> None:
    assert not may_be_ended(process(5, 1, program, "--user"))


def test_a_long_chain_costs_no_minute() -> None:
    """Three hundred generations: each ancestor was told anew for each descendant, and the freeze ran out of time."""
    text = "token=abc --mode full " * 200
    chain = table(*(process(pid, pid - 1, "python", text) for pid in range(2, 302)))
    began = time.monotonic()
    assert max(len(line) for line in lineages(chain, list(chain)).values()) == 33
    assert time.monotonic() - began < 5


def test_a_long_lineage_tells_both_its_ends_and_that_some_are_left_out() -> None:
    chain = table(*(process(pid, pid - 1, f"p{pid}") for pid in range(1, 101)))
    line = lineage(chain, 100)
    assert [source.name for source in line[:16]] == [f"p{pid}" for pid in range(99, 83, -1)]
    assert str(line[16]) == "generations that are not listed"
    assert [source.name for source in line[17:]] == [f"p{pid}" for pid in range(17, 1, -1)]
    assert BETWEEN not in lineage(chain, 35)
    assert len(lineage(chain, 35)) == 33
    assert supervisor([BETWEEN], {BETWEEN}) is None


@given(st.lists(st.integers(0, 40), min_size=1, max_size=40), st.data())
def test_the_lineages_of_many_are_those_of_each(parents: list[int], data: st.DataObject) -> None:
    """Whatever the table holds: unrelated processes, loops, parents that are gone."""
    snapshot = {pid: process(pid, parent, f"p{pid}") for pid, parent in enumerate(parents, 1)}
    pids = data.draw(st.lists(st.sampled_from(sorted(snapshot)), unique=True))
    lines = lineages(snapshot, pids)
    assert lines.keys() == set(pids)
    for pid, line in lines.items():
        assert all(source.identity and source.identity.pid in snapshot for source in line)
        looped = pid in {snapshot[one].parent for one in ancestry(snapshot, [pid])}
        assert looped or line == lineage(snapshot, pid)


def test_where_a_loop_is_cut_does_not_hang_on_whom_is_asked_for_first() -> None:
    loop = table(*(process(pid, parent, f"p{pid}") for pid, parent in ((1, 3), (2, 3), (3, 14), (14, 2))))
    for pids in ([1, 2], [2, 1], [14, 3, 2, 1], [3, 1, 2, 14]):
        assert lineages(loop, pids) == {pid: lineage(loop, pid) for pid in pids}


def test_a_name_with_invisible_letters_is_hidden_and_shown_whole_where_a_file_has_it(tmp_path: Path) -> None:
    name = "a" + "\u202e" * 9
    (starter,) = lineage(table(process(10, 1, name), process(11, 10, "child")), 11)
    assert re.fullmatch(r"\[redacted:[0-9a-f]{8}\]", starter.name)
    (tmp_path / name).touch()
    there = replace(process(10, 1, name), cwd=str(tmp_path))
    (starter,) = lineage(table(there, process(11, 10, "child")), 11)
    assert starter.name == "a" + "⟨U+202E⟩" * 9
