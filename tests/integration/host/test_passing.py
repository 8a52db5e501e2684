"""What no look catches is noticed by its coming and going: a chain of forks, each generation gone in a millisecond."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tasks.containment.containment_check import prove_contained
from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.custody.containment.identity import Identity
from tasks.host.process.table import start_of
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload, wait_until

CHAIN = """
import os, time
end = time.monotonic() + 60
while not os.path.exists("enough") and time.monotonic() < end:
    if os.fork():
        os._exit(0)
    time.sleep(0.001)
    open("beat", "w").close()
open("ended", "w").close()
"""


FORKS = "while [ ! -e enough ]; do /bin/true; done; : > ended"


@contextmanager
def going_on(folder: Path, command: list[str]) -> Iterator[None]:
    """A program that ends by itself when it is told to, or after a minute."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["setsid", "--fork", "timeout", "60", *command], cwd=folder, check=True)  # no child of ours
    try:
        yield
    finally:
        (folder / "enough").touch()
        wait_until(lambda: (folder / "ended").exists() or not beating(folder), what="its end")


def beating(folder: Path) -> bool:
    """Whether a chain of forks goes on. The freeze may have met a generation of it, and then it has really ended."""
    with suppress(FileNotFoundError):
        return time.time() - (folder / "beat").stat().st_mtime < 2
    return True


def alive(small: SmallWorkload, **fields: object) -> tuple[str, ...]:
    """What contradicts containment after §1 to §3."""
    with case_of(small.block(**fields)) as context:
        cordon.fn(context)
        freeze.fn(context)
        stop.fn(context)
        seen: tuple[str, ...] = made(prove_contained.fn(context)).alive
        return seen


@pytest.mark.whole
@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param("import os, time", id="matches"),
        pytest.param("no such training", id="in the root alone", marks=pytest.mark.soak),
    ],
)
def test_a_chain_of_forks_is_not_contained(small: SmallWorkload, pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.containment.freeze.FREEZE_SECONDS", 1.0)
    with going_on(small.root, [sys.executable, "-c", CHAIN]):
        wait_until((small.root / "beat").exists, what="the chain")
        told = [each for each in alive(small, training_pattern=pattern) if "came and went" in each]
        if not told:
            wait_until(lambda: not beating(small.root), 10, what="the end of a chain that is called contained")
            return  # the freeze has met a generation of the chain: it has really ended
    assert len(told) == 1
    assert "restart the host" in told[0]
    assert ("it matches" if "import" in pattern else "started in the root") in told[0]


def test_forks_elsewhere_are_no_alarm(small: SmallWorkload, tmp_path: Path) -> None:
    with (
        going_on(tmp_path / "a", ["sh", "-c", FORKS]),
        going_on(tmp_path / "b", [sys.executable, "-c", CHAIN]),
    ):
        assert alive(small) == ()


def test_what_a_persons_shell_runs_in_the_root_is_no_alarm(small: SmallWorkload) -> None:
    with going_on(small.root, ["bash", "-c", FORKS]):
        told = [each for each in alive(small) if "came and went" in each]
    assert told == []


def test_a_program_that_starts_them_and_lives_is_named_with_the_way_to_end_it(small: SmallWorkload) -> None:
    code = (
        "import os, subprocess\nwhile not os.path.exists('enough'):\n    subprocess.run(['/bin/true'])\n"
        "    open('beat', 'w').close()\nopen('ended', 'w').close()\n"
    )
    with going_on(small.root, [sys.executable, "-c", code]):
        wait_until((small.root / "beat").exists, what="the first program")
        (line,) = [each for each in alive(small) if "came and went" in each]
    assert "; started by process " in line
    assert f" in {small.root}, which lives" in line
    assert "restart the host" not in line


def test_what_our_own_recovery_brought_back_may_start_programs(small: SmallWorkload) -> None:
    code = (
        "import os, subprocess\nwhile not os.path.exists('enough'):\n    subprocess.run(['/bin/true'])\n"
        "    open('ready', 'w').close()\nopen('ended', 'w').close()\n"
    )
    with going_on(small.root, [sys.executable, "-c", code]), case_of(small.block()) as context:
        wait_until((small.root / "ready").exists, what="the first program")
        cordon.fn(context)
        freeze.fn(context)
        back = next(process for process in small.living() if process.name() == "timeout")
        context.state.recovered.write([Identity(back.pid, start_of(back.pid))])
        assert made(prove_contained.fn(context)).alive == ()
        context.state.recovered.write([])
        wait_until(lambda: "came and went" in str(made(prove_contained.fn(context)).alive), what="an alarm")
