"""§1 by a real guard: of what one parent starts again and again three stay frozen, and further ones are ended."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil
import pytest

from tasks.cli.status import status
from tasks.containment.containment_check import prove_contained
from tasks.containment.cordon import caught, cordon
from tasks.host.host import LinuxHost
from tasks.host.process.newcomer import KEPT
from tasks.runtime.context import RunContext
from tests.support.run_context import case_of, made
from tests.support.terminals import Terminal
from tests.support.workloads import SmallWorkload, wait_until, words_of

TRAINING = "WORKERS=0 venv/bin/python -u src/train.py --dataset builtin --mode full"
LOOP = f"while :; do {TRAINING}; done"
SHELL = ["bash", "--norc", "-i"]


@contextmanager
def cordoned(small: SmallWorkload) -> Iterator[RunContext]:
    with case_of(small.block()) as context:
        cordon.fn(context)
        yield context


def rows(context: RunContext) -> list[dict[str, Any]]:
    return caught(context.cordon_files, context.incident.opened_at)


def frozen(small: SmallWorkload) -> set[int]:
    """Of a loop that waits."""
    stood = (each for each in small.living() if each.status() == psutil.STATUS_STOPPED)
    return {each.pid for each in stood if words_of(each)[:1] != ["bash"]}


@pytest.mark.whole
@pytest.mark.sample(1)
@pytest.mark.parametrize("typed", [LOOP, f"while :; do {TRAINING} & sleep 0.1; done"], ids=["one by one", "with &"])
def test_of_a_loop_typed_in_a_shell_three_stay_and_the_shell_is_named(small: SmallWorkload, typed: str) -> None:
    with cordoned(small) as context, Terminal(SHELL, small.root) as terminal:
        terminal.type(typed)
        wait_until(lambda: any(row.get("ended", 0) >= 8 for row in rows(context)), what="eight that were ended")
        kept = {row["identity"]["pid"] for row in rows(context) if not row.get("killed")}
        assert len(kept) == KEPT
        assert {psutil.Process(pid).status() for pid in kept} == {psutil.STATUS_STOPPED}
        assert [row["ended"] for row in rows(context) if row.get("killed")][:4] == [1, 2, 4, 8]
        named = f"process {terminal.pid} (bash --norc -i) starts it again and again, at least "
        assert any(line.startswith(f"again     {named}") for line in status(small.block(), LinuxHost(root=small.root)))
        checked = made(prove_contained.fn(context))
        assert checked.notes[0].startswith(named)
        assert f"end it with kill {terminal.pid}" in checked.summary
        assert terminal.process.is_running()


def test_of_a_loop_that_waits_for_what_is_frozen_there_is_one(small: SmallWorkload) -> None:
    small.root.joinpath("loop.sh").write_text(LOOP)
    with cordoned(small) as context:
        small.start(["bash", "loop.sh"])
        wait_until(lambda: rows(context) and frozen(small), what="the guard's catch")
        assert not any(row.get("killed") or row.get("again") for row in rows(context))
        assert len(frozen(small)) == 1


def test_of_three_parents_each_keeps_its_own(small: SmallWorkload) -> None:
    with cordoned(small) as context, ExitStack() as open_terminals:
        for _ in range(3):
            open_terminals.enter_context(Terminal(SHELL, small.root)).type(f"{TRAINING} &")
        wait_until(lambda: len(rows(context)) == 3 and len(frozen(small)) == 3, what="the guard's catches")
        assert not any(row.get("killed") or row.get("again") for row in rows(context))
        assert not any(line.startswith("again") for line in status(small.block(), LinuxHost(root=small.root)))


def test_shells_without_a_training_are_left_alone(small: SmallWorkload) -> None:
    with cordoned(small) as context, Terminal(SHELL, small.root) as terminal:
        terminal.type("for i in $(seq 9); do /bin/true src/train.py; done; echo it is $((6 * 7))")
        wait_until(lambda: b"it is 42" in terminal.output, what="the answer of the shell")
        assert rows(context) == []
