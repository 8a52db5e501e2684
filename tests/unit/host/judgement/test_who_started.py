"""A process that nobody knows is told with what has started it, and the advice is about that."""

import os
from dataclasses import replace

import pytest

from tasks.custody.containment.identity import Identity
from tasks.host.judgement.suspect import excuse_with_source, who_started, with_restarting_source
from tasks.host.process.newcomer import again_and_again
from tasks.host.process.process import Process


def process(pid: int, parent: int, *command: str, cgroup: str = "") -> Process:
    program = command[0].rpartition("/")[2].lstrip("-")
    line = (pid, pid * 10)
    return Process(Identity(*line), parent, "S", command, executable=f"/usr/bin/{program}", cgroup=cgroup)


SLEEP = process(50, 40, "sleep", "15")
LOOP = process(40, 1, "bash", "/srv/again.sh")
PYTHON = process(40, 1, "python3", "/srv/supervise.py")
SUPERVISORD = process(40, 1, "supervisord", "-c", "/etc/supervisord.conf")
LOGIN = process(40, 1, "-bash")
RC_FILE = process(40, 1, "bash", "--rcfile", "/etc/ops.bashrc", "-i")
MAKE = process(40, 1, "make", "watch")
INIT = process(1, 0, "systemd")


def host(*others: Process) -> dict[int, Process]:
    return {each.pid: each for each in (INIT, *others)}


@pytest.mark.parametrize("parent", [LOOP, PYTHON, SUPERVISORD], ids=["loop", "python", "supervisord"])
@pytest.mark.parametrize("between", [(), ("timeout", "9"), ("sudo", "-u", "ana")], ids=["child", "timeout", "sudo"])
def test_a_parent_that_may_start_more_is_named_with_its_end_and_the_advice_is_about_it(
    parent: Process, between: tuple[str, ...]
) -> None:
    wrapper = [process(45, 40, *between)] if between else []
    child = replace(SLEEP, parent=45) if wrapper else SLEEP
    seen = host(parent, *wrapper, child)
    told, line = who_started(seen, 50), excuse_with_source(seen, child)
    assert told.startswith(f"started by process 40 ({' '.join(parent.command)})")
    assert told.endswith("kill 40")
    assert "起動元" in told
    assert "kill 40; if not: bystanders = ['" in line
    assert "sleep" not in line


@pytest.mark.parametrize("parent", [LOOP, PYTHON, SUPERVISORD, LOGIN, MAKE])
def test_a_suspect_is_told_with_its_parent_if_that_may_start_more_and_is_not_told_itself(parent: Process) -> None:
    """A suspect may have ended before a person reads its pid, and the next one runs."""
    seen, why = host(parent, SLEEP), "it holds a file below the root open for writing"
    line = with_restarting_source(seen, SLEEP, why, ())
    assert line.endswith("kill 40") is (parent in {LOOP, PYTHON, SUPERVISORD})
    assert line.startswith(why)
    assert with_restarting_source(seen, SLEEP, why, {parent.identity}) == why


@pytest.mark.parametrize("parent", [LOGIN, RC_FILE, MAKE], ids=["login", "rcfile", "make"])
def test_a_person_or_a_build_is_named_and_not_to_be_ended(parent: Process) -> None:
    seen = host(parent, SLEEP)
    assert who_started(seen, 50).startswith("started by process 40 (")
    assert "kill" not in who_started(seen, 50)
    assert excuse_with_source(seen, SLEEP) == "bystanders = ['^sleep 15$']"


def test_what_this_very_run_descends_from_is_never_to_be_ended() -> None:
    """As the script of an operator's session, below which the unknown process and this command were both started."""
    seen = host(LOOP, SLEEP, process(os.getpid(), 40, "evacuation", "status"))
    assert who_started(seen, 50).startswith("started by process 40 (")
    assert "kill" not in who_started(seen, 50)
    assert excuse_with_source(seen, SLEEP) == "bystanders = ['^sleep 15$']"
    row = {"again": {"name": "bash", "pid": 40, "start": 400}, "ended": 7}
    (line,) = again_and_again(seen, [row])
    assert "kill" not in line


@pytest.mark.parametrize(
    ("parent", "told"),
    [
        (1, "what started it is gone 起動元は終了済み"),
        (20, "what started it is gone 起動元は終了済み"),
        (77, "started by process 77 起動元"),
    ],
    ids=["double fork", "a user's systemd", "a process of the run itself"],
)
def test_a_parent_that_is_gone_is_told_to_be_gone(parent: int, told: str) -> None:
    orphan = replace(SLEEP, parent=parent)
    seen = host(process(20, 1, "systemd", "--user"), orphan)
    assert who_started(seen, 50) == told
    assert excuse_with_source(seen, orphan) == "bystanders = ['^sleep 15$']"


@pytest.mark.parametrize("wrapper", ["runuser", "su", "sudo", "timeout", "script"])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("top", [1, 20])
def test_a_wrapper_that_lives_is_named_where_what_started_that_is_gone(wrapper: str, depth: int, top: int) -> None:
    """The parent of `make` was called gone while it lived: only what had started that was."""
    above = [process(46, top, wrapper, "a"), process(45, 46, wrapper, "b")][-depth:]
    above[0] = replace(above[0], parent=top)
    seen = host(process(20, 1, "systemd", "--user"), *above, replace(SLEEP, parent=45))
    assert who_started(seen, 50).startswith("started by process 45 (")
    assert "kill" not in who_started(seen, 50)
    assert excuse_with_source(seen, seen[50]) == "bystanders = ['^sleep 15$']"


def test_a_wrapper_of_newcomers_is_named_too() -> None:
    seen = host(process(45, 1, "runuser", "-u", "ana"), process(46, 45, "bash", "-c", "x"), replace(SLEEP, parent=46))
    assert who_started(seen, 50, {50, 46}).startswith("started by process 45 (runuser")


def test_a_service_is_named() -> None:
    inside = replace(SLEEP, parent=1, cgroup="0::/system.slice/again.service")
    assert who_started(host(inside), 50) == "started by systemd unit again.service 起動元"


def test_of_newcomers_the_source_of_the_first_counts() -> None:
    first = process(51, 40, "python3", "src/train.py")
    seen = host(LOOP, first, replace(SLEEP, parent=51))
    assert "process 40 (bash /srv/again.sh)" in who_started(seen, 50, {50, 51})
