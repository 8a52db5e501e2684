"""A hostile command line on its way out: no exit hands its control and direction characters on."""

import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Final

import pytest

from flows.cli import run
from tasks.cli.status import status
from tasks.containment.containment_check import prove_contained
from tasks.containment.cordon import cordon
from tasks.containment.cordon_trial import challenge
from tasks.containment.freeze import freeze
from tasks.host.host import LinuxHost
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload, wait_until

HOSTILE: Final = "\x1b]0;owned\x07\r\x9b2J\u202egnp\u2066\u200b\u2028\nworkload  nothing of it runs\udcff"


def harmful(text: str) -> list[str]:
    """Letters that act on a terminal, or on the text around them."""
    return [letter for letter in text if unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]


def start_hostile(small: SmallWorkload) -> None:
    small.start([*small.training_command, HOSTILE], WORKERS="0")
    wait_until(lambda: any("owned" in " ".join(each.cmdline()) for each in small.living()), what="the training")


def test_status_says_it_in_one_harmless_line(
    small: SmallWorkload, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start_hostile(small)
    file = tmp_path / "evacuation.toml"
    lock = small.block().lock
    file.write_text(f'[workload.small]\nroot = "{small.root}"\nlock = "{lock}"\n')
    assert run(["status", str(file)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert not harmful("".join(said))
    (line,) = [line for line in said if "[redacted:" in line]
    assert "src/train.py" in line
    assert not any(line.strip().startswith("workload  nothing") for line in said)


def test_what_a_containment_tells_of_it_is_harmless(small: SmallWorkload) -> None:
    start_hostile(small)
    with case_of(small.block(training_command=[*small.training_command, HOSTILE]), dry_run=True) as rehearsed:
        cordon.fn(rehearsed)
        challenge.fn(rehearsed)
        would = [str(entry["object"]) for entry in rehearsed.log.entries() if entry.get("act") == "launch"]
    with case_of(small.block()) as context:
        contained = made(prove_contained.fn(context))
        frozen = made(freeze.fn(context))
        held = made(cordon.fn(context))
        state = prove_contained.fn(context)
        lines = list(status(context.workload, LinuxHost(root=context.workload.root)))
        entries = context.log.entries()
    told = [*contained.alive, *(each.command for each in frozen.processes), held.summary, str(state.message), *lines]
    told += [str(entry.get("command", "")) for entry in entries]
    assert sum("[redacted:" in each for each in told) >= 5
    assert "[redacted:" in would[0]
    assert not harmful("".join(told + would))


def test_a_hostile_holder_of_the_lock_is_told_harmlessly(small: SmallWorkload) -> None:
    hold = "import fcntl, sys, time; file = open(sys.argv[2], 'w'); fcntl.flock(file, 2); print(flush=True); "
    (small.root.parent / "a.py").write_text(f"{hold}time.sleep(600)")
    holder = subprocess.Popen(
        [sys.executable, "a.py", HOSTILE, str(small.block().lock)],
        cwd=small.root.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    try:
        holder.stdout.readline()  # type: ignore[union-attr]
        with case_of(small.block()) as context:
            held = made(cordon.fn(context))
    finally:
        holder.kill()
        holder.communicate()
    assert not held.held
    assert "[redacted:" in held.summary
    assert not harmful(held.summary)


def test_a_hostile_supervisor_and_what_the_guard_has_caught_are_told_harmlessly(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        cordon.fn(context)
        again = "import subprocess, sys, time; subprocess.Popen(sys.argv[2:]); time.sleep(600)"
        (small.root / "again.py").write_text(again)
        small.start([sys.executable, "again.py", HOSTILE, *small.training_command, HOSTILE], WORKERS="0")
        wait_until(
            lambda: context.cordon_files.caught.exists() and context.cordon_files.caught.read_text(),
            what="what the guard has caught",
        )
        lines = list(status(context.workload, LinuxHost(root=context.workload.root)))
        frozen = made(freeze.fn(context))
    lineage = [str(source) for each in frozen.processes for source in each.lineage]
    assert any("[redacted:" in each for each in lineage)
    assert any("[redacted:" in each for each in lines if each.startswith("held"))
    assert not harmful("".join([*lineage, *lines]))
    caught = context.cordon_files.caught.read_text().encode().decode("unicode_escape")
    assert "[redacted:" in caught
    assert not {"\x1b", "\x07", "\r"} & set(caught)
