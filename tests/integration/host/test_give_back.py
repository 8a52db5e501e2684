"""§1, §2 undone above the workload: sudo, su, runuser and script, which stop themselves with their child, go on."""

import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import get_args

import psutil
import pytest

from tasks.cli.uncordon import let_go
from tasks.containment.cordon import IncidentCordon, cordon
from tasks.containment.freeze import freeze
from tasks.containment.release.thaw import thaw
from tasks.containment.release.uncordon import find_held
from tasks.containment.release.wrappers import Wrappers
from tasks.containment.stop import stop
from tasks.host.host import LinuxHost
from tasks.incident.layout import EARLY
from tasks.incident.run_lock import give_up_ownership
from tasks.prestart.freeze import freeze_described
from tasks.prestart.journal import EarlyFreeze, thaw_again
from tasks.runtime.context import Policy
from tests.integration.host.test_thaw import keep_guard
from tests.support.run_context import INCIDENT, case_of
from tests.support.terminals import Terminal
from tests.support.workloads import SmallWorkload, stand, wait_until, words_of

pytestmark = pytest.mark.whole

STOOD = psutil.STATUS_STOPPED
TRAINING = "venv/bin/python -u src/train.py --dataset builtin --mode full"
CHATTY = """
import os, time
while True:
    print("x" * 200)
    with open("progress", "a") as file:
        file.write("x" * 200)
    time.sleep(0.001)
"""
"""Its output fills a terminal that nobody reads, in half a second."""
_MORE = 100_000
RUN = "sh run.sh"
"""The same by a script, which becomes the training: no wrapper's command line has the pattern."""
WRAPPERS = {
    "script": ["script", "-qc", RUN, "/dev/null"],
    "one that the pattern matches": ["script", "-qc", TRAINING, "/dev/null"],
    "su": ["su", "root", "-c", RUN],
    "su with a terminal of its own": ["su", "-P", "root", "-c", RUN],
    "runuser": ["runuser", "-u", "root", "--", *RUN.split()],
    "timeout": ["timeout", "600", *RUN.split()],
    "sudo": ["sudo", *RUN.split()],
    "one in the other": ["script", "-qc", f"su root -c '{RUN}; true'", "/dev/null"],
}
CASES = [*((name, False) for name in WRAPPERS), *((name, True) for name in ("script", "su", "sudo", "timeout"))]
"""Wrappers, and whether a shell with job control starts them."""
_OFTEN = {("script", False), ("sudo", False), ("one in the other", False), ("script", True), ("su", True)}
each_wrapper = pytest.mark.parametrize(
    ("name", "in_shell"), [pytest.param(*case, marks=[] if case in _OFTEN else pytest.mark.soak) for case in CASES]
)


class Wrapped:
    """A training under a wrapper, on a terminal."""

    def __init__(self, small: SmallWorkload, terminal: Terminal) -> None:
        """Wait until it is there."""
        self.small, self.terminal, self.progress = small, terminal, small.root / "progress"
        wait_until(self._trainings, what="the training")

    def _trainings(self) -> list[psutil.Process]:
        return [each for each in self.small.living() if words_of(each)[:2] == ["venv/bin/python", "-u"]]

    @property
    def training(self) -> psutil.Process:
        """The training itself."""
        (found,) = self._trainings()
        return found

    def above(self) -> list[psutil.Process]:
        """What is above it on the terminal, and is no shell at its prompt."""
        me, found = psutil.Process(), self.training.parents()
        return [each for each in found if each not in {me, *me.parents()} and each.cmdline()[-1:] != ["-i"]]

    def goes_on(self) -> None:
        """Wait until it has put out more than a terminal holds."""
        size = self.progress.stat().st_size
        wait_until(lambda: self.progress.stat().st_size > size + _MORE, 30, "what the training writes")


@contextmanager
def caught(small: SmallWorkload, name: str, *, in_shell: bool) -> Iterator[Wrapped]:
    """A training that may be stopped before it is at work."""
    if name == "sudo" and not shutil.which("sudo"):
        pytest.skip("sudo is not installed")
    (small.root / "src/train.py").write_text(CHATTY)
    (small.root / "run.sh").write_text(f"exec {TRAINING}")
    command = ["bash", "--norc", "-i"] if in_shell else WRAPPERS[name]
    with Terminal(command, small.root) as terminal:
        if in_shell:
            terminal.type(shlex.join(WRAPPERS[name]))
        yield Wrapped(small, terminal)


@contextmanager
def wrapped(small: SmallWorkload, name: str, *, in_shell: bool) -> Iterator[Wrapped]:
    """A training at work."""
    with caught(small, name, in_shell=in_shell) as one:
        wait_until(one.progress.exists, what="the training at work")
        yield one


def is_over(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def begun(small: SmallWorkload) -> EarlyFreeze:
    """What the start of a run freezes; it keeps the lock for the run."""
    early = freeze_described({"root": str(small.root), "evidence_dir": str(small.block().evidence)})
    assert early
    return early


@pytest.mark.sample(3)
@each_wrapper
def test_after_a_thaw_the_training_really_goes_on(small: SmallWorkload, name: str, *, in_shell: bool) -> None:
    with wrapped(small, name, in_shell=in_shell) as one:
        above = one.above()
        begun(small)
        wait_until(lambda: one.training.status() == STOOD, what="the freeze")
        with case_of(small.block()) as context:
            freeze.fn(context)
            thaw.fn(context)
            assert STOOD not in {each.status() for each in above}
            one.goes_on()
            assert context.state.above.read() == []


@pytest.mark.sample(3)
@each_wrapper
def test_a_refused_start_gives_it_back_as_well(small: SmallWorkload, name: str, *, in_shell: bool) -> None:
    with wrapped(small, name, in_shell=in_shell) as one:
        above, early = one.above(), begun(small)
        wait_until(lambda: one.training.status() == STOOD, what="the freeze")
        thaw_again(early)
        assert STOOD not in {each.status() for each in above}
        one.goes_on()
        assert not (small.block().evidence / EARLY).exists()


def test_what_a_start_that_died_has_left_is_given_back_by_hand(small: SmallWorkload) -> None:
    with wrapped(small, "script", in_shell=True) as one:
        above = one.above()
        begun(small)
        give_up_ownership(small.block().evidence)
        wait_until(lambda: STOOD in {each.status() for each in above}, what="the wrapper that stops itself")
        assert any(line.startswith("thawed, ") for line in let_go(small.block(), LinuxHost(root=small.root)))
        one.goes_on()


@pytest.mark.sample(4)
@pytest.mark.parametrize("policy", get_args(Policy))
@each_wrapper
def test_after_a_finished_run_no_wrapper_is_left(
    small: SmallWorkload, name: str, policy: Policy, *, in_shell: bool
) -> None:
    with wrapped(small, name, in_shell=in_shell) as one, case_of(small.block()) as context:
        above = one.above()
        context.run = replace(context.run, policy=policy)
        freeze.fn(context)
        stop.fn(context)
        wait_until(lambda: all(map(is_over, above)), 10, "the end of what was above the training")
        if in_shell:
            one.terminal.type("echo it is $((6 * 7))")
            wait_until(lambda: b"it is 42" in one.terminal.output, 10, "the answer of the shell")


@pytest.mark.sample(3)
@each_wrapper
def test_a_newcomer_that_an_uncordon_ends_leaves_no_wrapper(small: SmallWorkload, name: str, *, in_shell: bool) -> None:
    block = small.block()
    with case_of(block) as context:
        cordon.fn(context)
        keep_guard(context)
    with caught(small, name, in_shell=in_shell) as one:
        above = one.above()
        wait_until(lambda: one.training.status() == STOOD, what="the guard's catch")
        (block.evidence / "open.json").write_bytes((block.evidence / INCIDENT / "incident.json").read_bytes())
        give_up_ownership(block.evidence)
        wait_until(lambda: find_held(LinuxHost(root=block.root), block), what="the guard's word")
        list(let_go(block, LinuxHost(root=block.root)))
        wait_until(lambda: all(map(is_over, above)), 10, "the end of what was above the training")


def test_what_a_person_had_stopped_before_stays_stopped(small: SmallWorkload) -> None:
    with wrapped(small, "script", in_shell=True) as one, case_of(small.block()) as context:
        (wrapper,) = one.above()
        stand(wrapper)
        freeze.fn(context)
        wait_until(lambda: one.training.status() == STOOD, what="the freeze")
        thaw.fn(context)
        assert (wrapper.status(), one.training.status() == STOOD) == (STOOD, False)


def test_a_wrapper_above_what_stays_frozen_waits_for_it(small: SmallWorkload) -> None:
    """Continued, it would continue its child."""
    with wrapped(small, "script", in_shell=True) as one, case_of(small.block()) as context:
        (wrapper,) = one.above()
        freeze.fn(context)
        wait_until(lambda: wrapper.status() == STOOD, what="the wrapper that stops itself")
        Wrappers(context.adapters.host, context.state, IncidentCordon(context)).give_back()
        assert {wrapper.status(), one.training.status()} == {STOOD}
        assert wrapper.pid in {who.pid for who in context.state.above.read()}
