"""§3 on real processes and files: what waits to start the workload again is named, also while it sleeps."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from tasks.containment import starters
from tasks.containment.containment_check import prove_contained, prove_still_contained
from tasks.containment.cordon import IncidentCordon, cordon
from tasks.containment.freeze import freeze
from tasks.containment.members import Membership
from tasks.containment.starters import Starters, find_starters, look_for_starters
from tasks.containment.stop import stop
from tasks.containment.watch import watch
from tasks.custody.containment.receipt import Containment
from tasks.custody.incident.readiness import Weight
from tasks.host.host import LinuxHost
from tasks.host.launch_files import LaunchPlaces
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.workload import check_starters
from tasks.record.dry_run_plan import plan
from tasks.runtime.context import RunContext
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload, wait_until

TRAIN = "venv/bin/python -u src/train.py --dataset builtin --mode full"
ASLEEP = f"while true; do sleep 600; {TRAIN}; done"


def evacuated(context: RunContext) -> Containment:
    """§1 to §3, without the watch."""
    for step in (cordon, freeze, stop):
        step.fn(context)
    return seen(context)


def seen(context: RunContext) -> Containment:
    contained: Containment = made(prove_contained.fn(context))
    return contained


def found_now(context: RunContext) -> Starters:
    snapshot = context.adapters.host.snapshot()
    return find_starters(Membership(context), IncidentCordon(context).newcomers(), snapshot)


def child_of(pid: int, name: str) -> Callable[[], bool]:
    return lambda: name in {each.name() for each in psutil.Process(pid).children()}


@pytest.fixture
def sleeping(small: SmallWorkload) -> Iterator[subprocess.Popen[bytes]]:
    """A loop in the root that sleeps now."""
    loop = small.start(["bash", "-c", ASLEEP])
    wait_until(child_of(loop.pid, "sleep"), what="its sleep")
    yield loop
    loop.kill()


@pytest.mark.skipif(not shutil.which("watch"), reason="watch (procps) is not installed")
def test_a_watch_in_its_pause_is_frozen_and_stopped_with_the_rest(small: SmallWorkload) -> None:
    (small.root / "src/fit.py").write_text("open('fitted', 'w').close()")
    pausing = small.start(["watch", "-n", "600", "venv/bin/python", "src/fit.py"], TERM="xterm")
    wait_until((small.root / "fitted").exists, what="its first run")
    wait_until(lambda: not psutil.Process(pausing.pid).children(), what="its pause")
    with case_of(small.block(training_pattern=r"src/fit\.py")) as context:
        assert evacuated(context).is_contained
    assert pausing.poll() is not None


@pytest.mark.whole
def test_a_loop_that_sleeps_in_the_root_is_named_and_contained_once_it_was_stopped(
    small: SmallWorkload, sleeping: subprocess.Popen[bytes]
) -> None:
    """It ended Verified, and trained ten seconds later; the advice was to excuse its sleep."""
    small.start_all()
    with case_of(small.block(bystanders=["^sleep 600"])) as context:
        (told,) = evacuated(context).alive
        assert told.startswith(f"{sleeping.pid}: bash -c while true")
        assert f"kill {sleeping.pid}" in told
        assert "set stop_supervisors = true" in told
        os.kill(sleeping.pid, 15)
        sleeping.wait(10)
        contained = seen(context)
        assert contained.is_contained, contained.summary


@pytest.mark.whole
def test_a_loop_that_sleeps_is_stopped_where_the_block_allows_it(
    small: SmallWorkload, sleeping: subprocess.Popen[bytes]
) -> None:
    with case_of(small.block(stop_supervisors=True)) as context:
        assert not evacuated(context).is_contained
        (stopped,) = made(watch.fn(context)).stopped
        assert stopped.startswith(f"process {sleeping.pid} (bash")
        assert sleeping.wait(10)
        assert made(prove_still_contained.fn(context)).is_contained


def test_a_rehearsal_and_a_doctor_name_it(small: SmallWorkload, sleeping: subprocess.Popen[bytes]) -> None:
    with case_of(small.block(), dry_run=True) as context:
        assert not evacuated(context).is_contained
        (row,) = [row for row in plan(context.log.entries()) if row["act"] == "would not end"]
        assert row["on"].startswith(f"{sleeping.pid}: bash -c")
    found = check_starters(CheckTarget("small", small.block(), "store", {}))
    assert (found.weight, f"kill {sleeping.pid}" in found.found) == (Weight.FATAL, True)
    assert check_starters(CheckTarget("small", small.block(stop_supervisors=True), "store", {})).weight is Weight.LOSS


def test_a_script_from_elsewhere_is_known_by_its_text(small: SmallWorkload) -> None:
    script = small.root.parent / "again.sh"
    script.write_text(f'sleep 600\n(cd "{small.root}" && {TRAIN})\n')
    loop = subprocess.Popen(["bash", str(script)], cwd="/", start_new_session=True)
    try:
        wait_until(child_of(loop.pid, "sleep"), what="its sleep")
        (sleep,) = psutil.Process(loop.pid).children()
        with case_of(small.block()) as context:
            (told,) = evacuated(context).alive
        assert told.startswith(f"{loop.pid}: bash {script}")
        loop.kill()
        sleep.kill()
    finally:
        loop.kill()
        loop.wait()


SUPERVISORD = """
import os, signal, subprocess, sys
root, *command = open(sys.argv[2]).read().splitlines()
child = subprocess.Popen(command, cwd=root)
while True:
    signal.pause()
"""


@pytest.mark.whole
def test_a_supervisor_lives_until_a_person_answers_for_it(small: SmallWorkload) -> None:
    """It may start its program again at any time, and nothing in /proc shows that it was told not to."""
    place = small.root.parent / "supervisord"
    place.write_text(SUPERVISORD)
    (small.root.parent / "conf").write_text("\n".join([str(small.root), *TRAIN.split()]))
    keeper = subprocess.Popen(
        [sys.executable, str(place), "-n", f"{place.parent}/conf"], cwd="/", start_new_session=True
    )
    try:
        wait_until(lambda: len(psutil.Process(keeper.pid).children(recursive=True)) == 3, what="the training")
        with case_of(small.block()) as context:
            (told,) = evacuated(context).alive
            assert told.startswith(f"{keeper.pid}: ")
            assert "supervisorctl stop NAME" in told
            context.workload.bystanders = ["/supervisord -n "]
            contained = seen(context)
            assert contained.is_contained, contained.summary
    finally:
        keeper.kill()
        keeper.wait()


@contextmanager
def pane(small: SmallWorkload, *typed: str) -> Iterator[int]:
    """A pane of tmux in the root, in which a person has typed this; yields the pid of its shell."""
    socket = str(small.root.parent / "tmux")
    tmux = ["tmux", "-S", socket, "-f", "/dev/null"]
    subprocess.run([*tmux, "new-session", "-d", "-c", str(small.root), "bash --norc"], check=True)
    try:
        told = subprocess.run([*tmux, "list-panes", "-F", "#{pane_pid}"], check=True, capture_output=True, text=True)
        shell = int(told.stdout)
        for line in typed:
            subprocess.run([*tmux, "send-keys", line, "Enter"], check=True)
        yield shell
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)


needs_tmux = pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed")


@pytest.mark.whole
@needs_tmux
def test_a_loop_typed_in_a_pane_that_sleeps_after_the_stop_is_named(small: SmallWorkload) -> None:
    with pane(small, f"while true; do {TRAIN}; sleep 600; done") as shell:
        wait_until(lambda: len(psutil.Process(shell).children(recursive=True)) == 3, what="the training")
        with case_of(small.block()) as context:
            evacuated(context)
            wait_until(child_of(shell, "sleep"), what="its sleep")
            (told,) = [each for each in seen(context).alive if each.startswith(f"{shell}: bash")]
            assert f"kill -HUP {shell}" in told


@needs_tmux
def test_a_shell_that_sleeps_in_a_pane_is_a_question(small: SmallWorkload) -> None:
    with pane(small, ASLEEP) as shell:
        wait_until(child_of(shell, "sleep"), what="its sleep")
        with case_of(small.block()) as context:
            evacuated(context)
            (unknown,) = found_now(context).unknown
        assert (unknown.identity.pid, unknown.line) == (shell, "bystanders = ['^bash \\-\\-norc$']")


@pytest.mark.whole
@needs_tmux
def test_who_only_works_there_and_another_workloads_loop_are_harmless(small: SmallWorkload, tmp_path: Path) -> None:
    small.start_all()
    with ExitStack() as stack:
        shell = stack.enter_context(pane(small, "vim -N -u NONE src/train.py" if shutil.which("vim") else "cat"))
        wait_until(lambda: psutil.Process(shell).children(), what="the editor")
        other = subprocess.Popen(["bash", "-c", ASLEEP], cwd=tmp_path, start_new_session=True)
        stack.callback(other.wait)
        stack.callback(other.kill)
        tail = subprocess.Popen(["tail", "-f", "src/train.py"], cwd=small.root, start_new_session=True)
        stack.callback(tail.wait)
        stack.callback(tail.kill)
        wait_until(child_of(other.pid, "sleep"), what="the other's sleep")
        stack.callback(psutil.Process(other.pid).children()[0].kill)
        with case_of(small.block()) as context:
            contained = evacuated(context)
            assert contained.is_contained, contained.summary
            found = found_now(context)
            assert (found.living, found.unknown) == ((), ())


@needs_tmux
def test_a_pane_at_its_prompt_is_harmless(small: SmallWorkload) -> None:
    with pane(small, "touch typed"), case_of(small.block()) as context:
        wait_until((small.root / "typed").exists, what="its prompt")
        evacuated(context)
        assert found_now(context).unknown == ()


def test_a_crontab_is_told_in_a_note_and_in_the_rehearsal_and_by_the_doctor(
    small: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc/cron.d").mkdir(parents=True)
    (tmp_path / "etc/cron.d/train").write_text(f"# nightly\n\n0 3 * * * root cd {small.root} && TOKEN=hunter2 ./x\n")
    (tmp_path / "etc/cron.d/other").write_text(f"0 3 * * * root cd /srv/other && {TRAIN}\n")
    monkeypatch.setattr(starters, "places_of", lambda _: LaunchPlaces(tmp_path, {}))
    for dry_run in (False, True):
        with case_of(small.block(), dry_run=dry_run) as context:
            contained = evacuated(context)
            rows = [row for row in plan(context.log.entries()) if row["act"] == "would not end"]
        assert contained.is_contained
        (note,) = contained.notes
        assert f"cron entry in {tmp_path}/etc/cron.d/train, line 3: {small.root}" in note
        assert f"sudoedit {tmp_path}/etc/cron.d/train" in note
        assert "hunter2" not in note
        assert len(rows) == 1
    found = check_starters(CheckTarget("small", small.block(), "store", {}))
    assert (found.weight, "line 3" in found.found) == (Weight.SOUND, True)


def test_a_root_that_is_gone_is_named_as_not_looked_at(
    small: SmallWorkload, capsys: pytest.CaptureFixture[str]
) -> None:
    """A doctor showed the traceback of its reader instead."""
    block = small.block().model_copy(update={"root": small.root / "gone"})
    host = LinuxHost(root=block.root)
    found = look_for_starters(host, block, host.snapshot(), (), (), 0)
    assert f"{block.root}: No such file or directory" in found.unread
    assert "the rest" not in found.unread
    assert "Traceback" not in capsys.readouterr().err
