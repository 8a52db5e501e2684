"""Who has changed a file after the stop, and lives: the log of an incident against the host as it is now."""

from dataclasses import asdict
from typing import Any

import pytest

from tasks.containment import writers
from tasks.host.process.process import Process
from tests.support.paper_host import process

ACCOUNT = 1007
WRITER, SHELL, CHILD = process(1, ("/bin/w",)), process(2, ("/bin/bash",)), process(3, ("/bin/sleep", "9"))


def changed(*lineage: Process, source: Process | None = None) -> dict[str, Any]:
    return {
        "action": "changed",
        "object": "logs/x.log",
        "at": "2026-01-02T03:04:05+00:00",
        "pid": WRITER.pid,
        "lineage": [asdict(each.identity) for each in lineage],
        "source": [asdict(each.identity) for each in (source or WRITER,)],
    }


def alive(*processes: Process) -> dict[int, Process]:
    return {each.pid: each for each in processes}


def shell(**about: Any) -> Process:
    return process(2, ("/bin/bash",), executable="/bin/bash", **about)


def test_a_writer_that_lives_is_found_with_its_change() -> None:
    ((found, why),) = writers.find_writers([changed(WRITER, SHELL)], alive(WRITER, SHELL), ACCOUNT).items()
    assert found == WRITER
    assert why == "it has changed logs/x.log at 03:04:05Z, after everything was stopped"


def test_one_that_ended_with_all_above_it_is_nobody() -> None:
    assert not writers.find_writers([changed(WRITER, SHELL)], alive(CHILD), ACCOUNT)
    assert not writers.find_writers([changed(WRITER, SHELL) | {"source": []}], alive(WRITER, SHELL), ACCOUNT)


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
    found = writers.find_writers([changed(WRITER, there)], alive(there, *beside), ACCOUNT)
    assert [*found] == ([there] if counts else [])
    assert all(
        f"it has started process {WRITER.pid}, which has ended and had changed logs/x.log" in why
        for why in found.values()
    )
