"""Who has changed a file after the stop, and lives: the log of an incident against the host as it is now."""

import os
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.containment import writers
from tasks.custody.containment.identity import Identity
from tasks.host.process.process import Process
from tests.support.paper_host import process

ACCOUNT = 1007
WRITER, SHELL, CHILD = process(1, ("/bin/w",)), process(2, ("/bin/bash",)), process(3, ("/bin/sleep", "9"))


def changed(*lineage: Process, source: Process | None = None) -> dict[str, Any]:
    return {
        "action": "changed",
        "object": "logs/x.log",
        "at": "2026-01-02T03:04:05+00:00",
        "writer": "/opt/loop 60",
        "pid": WRITER.pid,
        "lineage": [asdict(each.identity) for each in lineage],
        "source": [asdict(each.identity) for each in (source or WRITER,)],
    }


def alive(*processes: Process) -> dict[int, Process]:
    return {each.pid: each for each in processes}


def shell(**about: Any) -> Process:
    return process(2, ("/bin/bash",), executable="/bin/bash", **about)


def test_a_writer_that_lives_is_found_with_its_change() -> None:
    ((found, why),) = writers.find_writers([changed(WRITER, SHELL)], alive(WRITER, SHELL), {ACCOUNT}).items()
    assert found == WRITER
    assert why == "it has changed logs/x.log at 03:04:05Z, after everything was stopped"


def test_one_that_ended_with_all_above_it_is_nobody() -> None:
    assert not writers.find_writers([changed(WRITER, SHELL)], alive(CHILD), {ACCOUNT})
    assert not writers.find_writers([changed(WRITER, SHELL) | {"source": []}], alive(WRITER, SHELL), {ACCOUNT})


@pytest.mark.parametrize(
    ("executable", "about", "beside", "typed", "counts"),
    [
        ("/usr/bin/python3", {}, [], False, True),
        ("/opt/tool", {}, [], True, True),
        ("/usr/bin/python3", {"user": 1008}, [], False, False),
        ("/usr/bin/python3", {"user": 0}, [], False, False),
        ("/usr/bin/python3", {"state": "Z"}, [], False, False),
        ("/usr/bin/python3", {"identity": Identity(WRITER.pid + 1, 1 << 40)}, [], False, False),
        ("/bin/bash", {}, [], False, True),
        ("/bin/bash", {}, [], True, False),
        ("/bin/bash", {}, [process(3, parent=WRITER.pid + 1)], True, True),
        ("/usr/bin/vim", {}, [], True, False),
        ("/usr/bin/vim", {}, [], False, True),
        ("/usr/bin/tmux", {}, [], False, False),
        ("/usr/lib/systemd/systemd", {}, [], False, False),
        ("/home/ana/tmux", {"strange": True}, [], False, True),
    ],
)
def test_what_of_the_workloads_account_may_have_started_a_writer_of_whom_nobody_is_known_is_found(  # noqa: PLR0913  its cases
    monkeypatch: pytest.MonkeyPatch,
    executable: str,
    about: dict[str, Any],
    beside: list[Process],
    *,
    typed: bool,
    counts: bool,
) -> None:
    """A loop that let go of its children, and paused for longer than two minutes, got a green word with a note."""
    monkeypatch.setattr(writers, "on_terminal", lambda _: typed)
    there = replace(process(2, (executable,), executable=executable, user=ACCOUNT), **about)
    row = changed() | {"at": datetime.now(UTC).isoformat()}
    found = writers.find_possible_starters([row], alive(there, *beside), {ACCOUNT})
    assert [*found] == ([there] if counts else [])
    assert all("may have started who has changed logs/x.log at " in why for why in found.values())
    assert not writers.find_possible_starters([], alive(there), {ACCOUNT})
    assert not writers.find_possible_starters([row], alive(there), ())
    monkeypatch.setattr(os, "geteuid", lambda: ACCOUNT)
    assert not writers.find_possible_starters([row], alive(there), {ACCOUNT}), "it could be anything of our own"


@pytest.mark.parametrize(
    ("user", "beside", "typed", "counts"),
    [
        (0, [], True, False),
        (1008, [], True, False),
        (ACCOUNT, [], True, True),
        (0, [process(3, parent=SHELL.pid)], True, True),
        (0, [], False, True),
    ],
    ids=["root's prompt", "another person's", "the workload's own account", "it runs something", "no terminal"],
)
def test_what_has_started_a_writer_counts_unless_it_is_a_shell_at_a_persons_prompt(
    monkeypatch: pytest.MonkeyPatch, *, user: int, beside: list[Process], typed: bool, counts: bool
) -> None:
    monkeypatch.setattr(writers, "on_terminal", lambda _: typed)
    there = shell(user=user)
    found = writers.find_writers([changed(WRITER, there)], alive(there, *beside), {ACCOUNT})
    assert [*found] == ([there] if counts else [])
    assert all(
        f"it has started process {WRITER.pid}, which has ended and had changed logs/x.log" in why
        for why in found.values()
    )


def row(at: datetime, *, unheard: bool) -> dict[str, Any]:
    known = {"action": "changed", "object": "x", "at": at.isoformat(), "result": "x was changed"}
    return known | ({"unheard": True} if unheard else {})


@pytest.mark.parametrize(
    ("rows", "is_red"),
    [
        ([(5, False)], True),
        ([(500, False)], False),
        ([(5, True)], False),
        ([(500, False), (5, True)], True),
        ([(500, False), (130, True)], False),
    ],
)
def test_after_a_change_that_was_heard_nothing_may_change_for_long_though_nobody_hears_it(
    rows: list[tuple[int, bool]], *, is_red: bool
) -> None:
    """A loop wrote between two runs: the next one was green, six seconds after its line."""
    now = datetime.now(UTC)
    found = [row(now - timedelta(seconds=seconds), unheard=unheard) for seconds, unheard in rows]
    assert bool(writers._tell_unrest(found, now)) is is_red


def test_what_has_the_command_line_of_a_writer_that_has_ended_is_found_of_any_account_and_nothing_else() -> None:
    """A loop of root that writes by copies of itself was named nowhere, and the account's other service was."""
    loop = process(2, ("/opt/loop", "60"), executable="/opt/loop")
    other = process(3, ("/usr/bin/python3", "other.py"), executable="/usr/bin/python3", user=ACCOUNT)
    now = changed() | {"at": datetime.now(UTC).isoformat()}
    assert [*writers.find_possible_starters([now], alive(loop, other), {ACCOUNT})] == [loop]
    assert [*writers.find_possible_starters([now], alive(other), {ACCOUNT})] == [other]
    assert [*writers.find_possible_starters([now], alive(loop, other), ())] == [loop]
