"""§3 on real processes: what brings a stopped workload back is named, and stopped where that is allowed."""

import json
import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.cli.status import status
from tasks.containment.answers import keep_answer
from tasks.containment.containment_check import prove_contained, prove_still_contained
from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.containment.watch import watch
from tasks.custody.containment.answer import Decision, GivenAnswer
from tasks.custody.containment.receipt import End, Watch
from tasks.custody.incident.readiness import Weight
from tasks.host.host import LinuxHost
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.workload import check_starters
from tasks.record.dry_run_plan import needs_attention, plan
from tasks.runtime.context import RunContext
from tests.integration.host.test_suspects import apart
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload, wait_until, words_of

LOOP = "while true; do venv/bin/python -u src/train.py --dataset builtin --mode full; sleep 0.05; done\n"


def supervised(small: SmallWorkload) -> subprocess.Popen[bytes]:
    """A training that a loop in a shell script starts again whenever it ends. The script does not work in the root."""
    script = small.root.parent / "supervise.sh"
    script.write_text(f'cd "{small.root}"\n{LOOP}')
    loop = small.start(["bash", str(script)])
    wait_until(lambda: len(small.living()) == 4, what="the training under its supervisor")
    return loop


def evacuated(context: RunContext) -> Watch:
    """§1 to §3."""
    cordon.fn(context)
    freeze.fn(context)
    stop.fn(context)
    seen: Watch = made(watch.fn(context))
    return seen


def is_caught(context: RunContext, small: SmallWorkload) -> bool:
    """Whether the guard has written down somebody who lives now."""
    lines = context.cordon_files.caught.read_text().splitlines() if context.cordon_files.caught.exists() else []
    return bool({json.loads(line)["identity"]["pid"] for line in lines} & {process.pid for process in small.living()})


def training(small: SmallWorkload) -> list[psutil.Process]:
    return [process for process in small.living() if "src/train.py" in process.cmdline()]


@pytest.mark.whole
def test_nothing_that_comes_back_is_a_result(small: SmallWorkload) -> None:
    small.start_all()
    with case_of(small.block()) as context:
        seen = evacuated(context)
        assert (seen.is_complete, seen.summary) == (True, "nothing came back")
        assert made(prove_still_contained.fn(context)).is_contained


@pytest.mark.whole
def test_a_supervisor_in_a_shell_is_named_and_what_it_brings_stays_frozen(small: SmallWorkload) -> None:
    loop = supervised(small)
    with case_of(small.block(watch_seconds=1)) as context:
        seen = evacuated(context)
        assert seen.standing == (f"process {loop.pid} (bash {small.root.parent}/supervise.sh)",)
        assert not seen.is_complete
        assert {process.status() for process in training(small)} == {psutil.STATUS_STOPPED}
        contained = made(prove_still_contained.fn(context))
        assert not contained.is_contained
        assert f"left frozen, process {loop.pid} (bash" in contained.alive[0]
        assert "to have it stopped, set stop_supervisors = true in the workload block" in contained.alive[0]
        assert loop.poll() is None


@pytest.mark.whole
@pytest.mark.parametrize("allowed", [False, True])
def test_a_rehearsal_tells_of_the_parent_that_may_start_it_again(small: SmallWorkload, *, allowed: bool) -> None:
    loop = supervised(small)
    with case_of(small.block(stop_supervisors=allowed), dry_run=True) as context:
        evacuated(context)
        contained = made(prove_still_contained.fn(context))
        rows = [row for row in plan(context.log.entries()) if row["act"] == "would not end"]
    assert (contained.is_contained, contained.unknown) == (allowed, ())
    if allowed:
        assert rows == []
        return
    (row,) = rows
    assert needs_attention(row)
    assert row["on"] == f"{loop.pid}: bash {small.root.parent}/supervise.sh"
    assert f"kill {loop.pid}" in row["why"]
    (told,) = contained.alive
    assert told == f"{row['on']} ({row['why']}); or set stop_supervisors = true in the workload block"


@pytest.mark.whole
def test_a_supervisor_is_stopped_at_its_source_where_the_block_allows_it(small: SmallWorkload) -> None:
    loop = supervised(small)
    with case_of(small.block(watch_seconds=1, stop_supervisors=True)) as context:
        seen = evacuated(context)
        assert seen.stopped == (f"process {loop.pid} (bash {small.root.parent}/supervise.sh)",)
        assert seen.is_complete
        assert loop.wait(10)
        assert small.living() == []
        assert made(prove_still_contained.fn(context)).is_contained
        (entry,) = [entry for entry in context.log.entries() if entry["action"] == "supervisor stopped"]
        assert entry["failed"] == ""


@pytest.mark.whole
def test_a_newcomer_without_a_supervisor_is_ended_and_told(small: SmallWorkload) -> None:
    small.start_all()
    with case_of(small.block()) as context:
        cordon.fn(context)
        freeze.fn(context)
        stop.fn(context)
        small.start(["setsid", "--fork", *small.training_command], WORKERS="1").wait()
        wait_until(lambda: is_caught(context, small), what="the guard's catch")
        seen = made(watch.fn(context))
        assert {each.end for each in seen.returned} == {End.KILLED}
        assert seen.is_complete
        assert made(prove_still_contained.fn(context)).is_contained
        actions = {entry["action"] for entry in context.log.entries()}
        assert {"came back", "caught"} <= actions


def test_what_the_guard_caught_is_taken_into_the_log_once(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        evacuated(context)
        small.start(["setsid", "--fork", *small.training_command], WORKERS="0").wait()
        wait_until(lambda: is_caught(context, small), what="the guard's catch")
        watch.fn(context)
        watch.fn(context)
        assert len([entry for entry in context.log.entries() if entry["action"] == "caught"]) == 1


@pytest.mark.whole
def test_a_persons_shell_is_named_but_never_ended(small: SmallWorkload) -> None:
    shell = subprocess.Popen(["bash"], stdin=subprocess.PIPE, cwd=small.root.parent)
    assert shell.stdin
    try:
        shell.stdin.write(f'cd "{small.root}"\n{LOOP}'.encode())
        shell.stdin.flush()
        wait_until(lambda: len(training(small)) == 3, what="the training in the shell")
        with case_of(small.block(watch_seconds=1, stop_supervisors=True)) as context:
            seen = evacuated(context)
            assert seen.standing == (f"process {shell.pid} (bash)",)
            assert shell.poll() is None
    finally:
        shell.kill()
        shell.wait()
        shell.stdin.close()


@pytest.fixture
def unit(small: SmallWorkload) -> Iterator[Path]:
    """A control group with the name of a systemd unit, which is all that the kernel knows of one."""
    controller = next(path for path in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")) if path.is_dir())
    group = controller / f"evacuation-test-{os.getpid()}.service"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield group
    small.__exit__()
    wait_until(lambda: not (group / "cgroup.procs").read_text(), what="the group's end")
    group.rmdir()


@pytest.mark.whole
@pytest.mark.parametrize("answer", ["exit 0", "echo denied >&2; exit 4"])
def test_a_systemd_unit_is_asked_to_stop(
    small: SmallWorkload, unit: Path, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of systemd only its command is played here: it says that the unit is stopped, or refuses."""
    asked = small.root.parent / "asked"
    systemctl = small.root.parent / "bin/systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(f'#!/bin/sh\necho "$@" >> "{asked}"\n{answer}\n')
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{systemctl.parent}:{os.environ['PATH']}")
    start = f'echo $$ > "{unit}/cgroup.procs"; exec setsid --fork {" ".join(small.training_command)}'

    def launch() -> None:
        small.start(["sh", "-c", start], WORKERS="0").wait()
        wait_until(lambda: training(small), what="the training in its unit")

    launch()
    with case_of(small.block(stop_supervisors=True)) as context:
        cordon.fn(context)
        freeze.fn(context)
        stop.fn(context)
        launch()
        seen = made(watch.fn(context))
        told = [line for line in asked.read_text().splitlines() if " show " not in line]
        assert told == [f"--no-ask-password stop -- {unit.name}"]
        assert (seen.stopped if answer == "exit 0" else seen.standing) == (f"systemd unit {unit.name}",)
        assert seen.is_complete is (answer == "exit 0")
        assert {process.status() for process in small.living()} == (set() if seen.is_complete else {"stopped"})


@pytest.mark.whole
def test_policy_kill_thaws_nothing(small: SmallWorkload) -> None:
    small.start_all()
    with case_of(small.block()) as context:
        context.run = replace(context.run, policy="kill")
        cordon.fn(context)
        freeze.fn(context)
        receipts: Any = made(stop.fn(context)).processes
        assert {tuple(name for name, _ in receipt.signals) for receipt in receipts} == {("SIGKILL",)}
        assert {receipt.end for receipt in receipts} == {End.KILLED}
        assert made(prove_contained.fn(context)).is_contained
        assert not [entry for entry in context.log.entries() if entry["action"] == "deviation"]


MODE = ("--dataset", "builtin", "--mode", "full")
LAUNCHER = """
import shlex, subprocess, time
root = {!r}
words = [root + "/venv/bin/python", "-u", root + "/src/train.py", "--dataset", "builtin", "--mode", "full"]
"""
LAUNCHES = "subprocess.call(words)\ntime.sleep(600)\n"
BY_WAY_OF = {
    "shell": "subprocess.call(shlex.join(words) + '; true', shell=True)\ntime.sleep(600)\n",
    "timeout": "subprocess.call(['timeout', '900', *words])\ntime.sleep(600)\n",
    "nobody": "subprocess.call(shlex.join(words) + ' &', shell=True)\ntime.sleep(600)\n",
    "make": "open('Makefile', 'w').write('train:\\n\\t@true; ' + shlex.join(words) + '; true')\n"
    "subprocess.call(['make', 'train'])\ntime.sleep(600)\n",
}
LAUNCHES_LATE = "import os\nwhile not os.path.exists('go'):\n    time.sleep(0.05)\n"


def trains_elsewhere(small: SmallWorkload) -> bool:
    """Whether a training runs, with its two workers, that was called by whole paths, and works in another folder."""
    found = (words_of(process) for process in psutil.process_iter())
    own = [words for words in found if f"{small.root}/src/train.py" in words and "/venv/bin/python" in words[0]]
    return sum(words[0] == f"{small.root}/venv/bin/python" for words in own) == 3


@pytest.mark.whole
@pytest.mark.sample(2)
@pytest.mark.parametrize("answer", ["", "the block's line", "bystander", "end"])
def test_a_launcher_that_lives_on_is_asked_about(small: SmallWorkload, tmp_path: Path, answer: str) -> None:
    """It was a note under VERIFIED, and started the training again an hour later."""
    (tmp_path / "nightly.py").write_text(LAUNCHER.format(str(small.root)) + LAUNCHES)
    with apart([sys.executable, "nightly.py"], tmp_path) as launcher:
        wait_until(lambda: trains_elsewhere(small), what="its training")
        with case_of(small.block()) as context:
            evacuated(context)
            seen = made(prove_still_contained.fn(context))
            assert (seen.is_contained, seen.is_complete) == (True, False)
            (asked,) = seen.unknown
            assert asked.identity.pid == launcher.pid
            assert "it is the parent of the training and may start it again" in asked.why
            assert "nightly" in asked.line
            (context.workload.evidence / "open.json").write_text(json.dumps({"id": context.incident.id}))
            rows = [*status(context.workload, LinuxHost(root=small.root))]
            assert [row for row in rows if row.startswith(f"unknown   process {launcher.pid}: ")]
            if answer == "the block's line":
                line = asked.line[asked.line.index("bystanders = ") :]
                context.workload.bystanders = tomllib.loads(line)["bystanders"]
            elif answer:
                decision: Decision = "end" if answer == "end" else "bystander"
                keep_answer(context.state, context.log, GivenAnswer(launcher.pid, decision, "ana"), asked, "she asked")
                freeze.fn(context)
                stop.fn(context)
            seen = made(prove_still_contained.fn(context))
            assert seen.is_complete is bool(answer)
            assert launcher.is_running() is (answer != "end")


@pytest.mark.whole
@pytest.mark.sample(2)
@pytest.mark.parametrize("way", BY_WAY_OF)
def test_a_launcher_is_asked_about_though_what_it_started_the_training_by_has_ended(
    small: SmallWorkload, tmp_path: Path, way: str
) -> None:
    """Only the nearest parent was looked for: it had ended with the training, and the run was Verified."""
    (tmp_path / "nightly.py").write_text(LAUNCHER.format(str(small.root)) + BY_WAY_OF[way])
    with apart([sys.executable, "nightly.py"], tmp_path) as launcher:
        wait_until(lambda: trains_elsewhere(small), what="its training")
        with case_of(small.block()) as context:
            evacuated(context)
            wait_until(lambda: not launcher.children(), what="the end of what is between")
            seen = made(prove_still_contained.fn(context))
            assert seen.is_contained
            assert [each.identity.pid for each in seen.unknown] == [launcher.pid]
            launcher.kill()
            wait_until(lambda: not launcher.is_running(), what="its end")
            assert made(prove_still_contained.fn(context)).is_complete


@pytest.mark.whole
def test_the_line_that_excuses_a_launcher_is_its_own_though_a_program_has_started_that(
    small: SmallWorkload, tmp_path: Path
) -> None:
    """As a kernel of Jupyter: the line named the server, and with it the run was Unanswered again, for ever."""
    (tmp_path / "nightly.py").write_text(LAUNCHER.format(str(small.root)) + LAUNCHES)
    (tmp_path / "server.py").write_text("import subprocess, sys\nsubprocess.call([sys.executable, 'nightly.py'])\n")
    with apart([sys.executable, "server.py"], tmp_path) as server:
        wait_until(lambda: trains_elsewhere(small), what="its training")
        (launcher,) = server.children()
        with case_of(small.block()) as context:
            evacuated(context)
            (asked,) = made(prove_still_contained.fn(context)).unknown
            assert asked.identity.pid == launcher.pid
            assert f"started by process {server.pid}" in asked.why
            line = asked.line[asked.line.index("bystanders = ") :]
            context.workload.bystanders = tomllib.loads(line)["bystanders"]
            assert made(prove_still_contained.fn(context)).is_complete
        launcher.kill()


@pytest.mark.whole
@pytest.mark.parametrize("is_late", [True, False])
def test_a_launcher_that_had_nothing_at_work_at_the_freeze_is_asked_about_if_it_starts_something_then(
    small: SmallWorkload, tmp_path: Path, *, is_late: bool
) -> None:
    """A scheduler: what it had started under the cordon was ended, and the run was Verified beside it."""
    (tmp_path / "nightly.py").write_text(LAUNCHER.format(str(small.root)) + LAUNCHES_LATE + LAUNCHES)
    small.start_all()
    with (
        apart([sys.executable, "nightly.py"], tmp_path) as launcher,
        case_of(small.block(watch_seconds=2)) as context,
    ):
        for step in (cordon, freeze, stop):
            step.fn(context)
        if is_late:
            (tmp_path / "go").touch()
        returned = made(watch.fn(context)).returned
        seen = made(prove_still_contained.fn(context))
        assert bool(returned) is is_late
        assert seen.is_contained
        assert [each.identity.pid for each in seen.unknown] == [launcher.pid] * is_late
        assert all("nightly" in each.line for each in seen.unknown)


@pytest.mark.whole
@pytest.mark.parametrize("is_typed", [False, True])
def test_a_shell_that_reads_its_commands_from_no_terminal_is_asked_about(
    small: SmallWorkload, tmp_path: Path, *, is_typed: bool
) -> None:
    """As a runner of CI has one: it was called a person's, for it was given no script, and the run was Verified."""
    line, above = shlex.join([f"{small.root}/venv/bin/python", "-u", f"{small.root}/src/train.py", *MODE]), os.openpty()
    job = tmp_path / "job"
    job.write_text(f"{line}\n{shlex.quote(sys.executable)} -c 'import time; time.sleep(600)'\n{line}\n")
    with job.open() as given:
        shell = subprocess.Popen(["sh", "-c", "exec setsid bash"], cwd=tmp_path, stdin=above[1] if is_typed else given)
    if is_typed:
        os.write(above[0], job.read_bytes())
    wait_until(lambda: trains_elsewhere(small), what="its training")
    with case_of(small.block()) as context:
        evacuated(context)
        seen = made(prove_still_contained.fn(context))
        assert seen.is_contained
        assert [each.identity.pid for each in seen.unknown] == [shell.pid] * (not is_typed)
    for each in psutil.Process(shell.pid).children(recursive=True):
        each.kill()
    shell.kill()
    shell.wait()


def test_doctor_and_rehearsal_ask_about_a_launcher_too(small: SmallWorkload, tmp_path: Path) -> None:
    (tmp_path / "nightly.py").write_text(LAUNCHER.format(str(small.root)) + LAUNCHES)
    with apart([sys.executable, "nightly.py"], tmp_path) as launcher:
        wait_until(lambda: trains_elsewhere(small), what="its training")
        found = check_starters(CheckTarget("small", small.block(), "store", {}))
        assert (found.weight, f"process {launcher.pid} " in found.found) == (Weight.LOSS, True)
        lines = tomllib.loads(found.cure[found.cure.index("bystanders = ") :])["bystanders"]
        named = CheckTarget("small", small.block(bystanders=lines), "store", {})
        assert check_starters(named).weight is Weight.SOUND
        with case_of(small.block(), dry_run=True) as context:
            evacuated(context)
            seen = made(prove_still_contained.fn(context))
        assert [each.identity.pid for each in seen.unknown] == [launcher.pid]
