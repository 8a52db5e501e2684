"""§1 on real processes: the lock, the guard that holds it and watches, its marker, and a launch against it."""

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.containment.containment_check import prove_contained
from tasks.containment.cordon import IncidentCordon, cordon
from tasks.containment.cordon_trial import challenge
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.containment.watch import watch
from tasks.guard.__main__ import Guard
from tasks.host.guard_config import GuardConfig
from tasks.host.host import LinuxHost
from tasks.host.process.matcher import WorkloadDescription
from tasks.host.process.table import start_of, ticks
from tasks.incident.layout import CAUGHT, EARLY, OWNER
from tasks.incident.run_lock import take_ownership
from tasks.system.files.atomic_files import write_whole
from tests.support.run_context import INCIDENT, case_of, made
from tests.support.workloads import SmallWorkload, wait_until

HOLD = "import sys; from tasks.host.host import LinuxHost; from tasks.host.guard_config import GuardConfig\n"
HOLD += "LinuxHost().hold(GuardConfig.from_bytes(sys.stdin.buffer.read()))\n"


def orders(folder: Path) -> GuardConfig:
    marker, caught = str(folder / "cordon.json"), str(folder / "caught.jsonl")
    workload = WorkloadDescription(str(folder), ())
    return GuardConfig(INCIDENT, "why", "now", str(folder / "a.lock"), marker, caught, (), workload, ())


def cordon_elsewhere(told: GuardConfig, first: str = "") -> int:
    """Cordon from another process; how that ended."""
    return subprocess.run([sys.executable, "-c", first + HOLD], input=told.to_bytes(), check=False).returncode


def launch(small: SmallWorkload) -> None:
    """Start a training the way cron does: nobody waits for it, and it never looks at the lock."""
    small.start(["setsid", "--fork", *small.training_command], WORKERS="1").wait()


def states(small: SmallWorkload) -> set[str]:
    return {process.status() for process in small.living()}


def caught(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_the_lock_refuses_as_soon_as_the_step_returns_and_until_released(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        state = made(cordon.fn(context))
        launcher = ["flock", "-n", "-E", "75", str(context.workload.lock), "true"]
        assert subprocess.run(launcher, check=False).returncode == 75
        assert state.held
        assert context.adapters.host.release(context.cordon_files.marker)
        assert subprocess.run(launcher, check=False).returncode == 0
        assert not context.adapters.host.release(context.cordon_files.marker)


def test_the_guard_outlives_the_process_that_cordoned(small: SmallWorkload) -> None:
    told = orders(small.root.parent)
    lock, marker = Path(told.lock), Path(told.marker)
    cordon_elsewhere(told)
    host = LinuxHost()
    guard = host.guard(marker)
    try:
        assert guard
        assert host.has_lock(guard, lock)
        assert host.refuses(lock)
        about = json.loads(marker.read_text())
        assert (about["incident"], about["reason"], about["pid"]) == (told.incident, told.reason, guard.pid)
    finally:
        host.release(marker)


def test_cordoning_twice_is_one_cordon(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        assert made(cordon.fn(context)) == made(cordon.fn(context))


def test_a_guard_that_was_killed_is_replaced(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        first = made(cordon.fn(context))
        assert first.guard
        os.kill(first.guard.pid, signal.SIGKILL)
        wait_until(lambda: not context.adapters.host.refuses(context.workload.lock), what="the lock's end")
        second = made(cordon.fn(context))
        assert second.held
        assert second.guard != first.guard


@pytest.mark.whole
def test_a_lock_file_that_was_replaced_is_not_taken_for_held(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        cordon.fn(context)
        context.workload.lock.unlink()
        context.workload.lock.touch()
        assert not made(prove_contained.fn(context)).is_contained
        assert made(cordon.fn(context)).held
        assert made(prove_contained.fn(context)).is_contained


def test_a_lock_that_somebody_else_holds_is_said_and_taken_over_when_it_ends(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        holder = os.open(context.workload.lock, os.O_CREAT | os.O_RDWR)
        fcntl.flock(holder, fcntl.LOCK_EX)
        state = made(cordon.fn(context))
        assert not state.held
        assert f"process {os.getpid()} (" in state.reason
        assert state.reason.endswith("holds it; the guard waits")
        os.close(holder)
        wait_until(lambda: made(prove_contained.fn(context)).cordoned, what="the guard's turn")


def test_a_shell_in_which_the_lock_was_taken_is_named_with_what_lets_it_go(small: SmallWorkload) -> None:
    """Alone it catches a lock whose taker, the command flock, has ended: in a PID namespace the kernel lists none."""
    with case_of(small.block()) as context:
        lock = context.workload.lock
        lines = f"exec 9>{shlex.quote(str(lock))}; flock -n 9; sleep 600 & echo $!; read -r; exec 9>&-; read -r"
        with subprocess.Popen(["bash", "-c", lines], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell:
            assert shell.stdin
            assert shell.stdout
            child = int(shell.stdout.readline())
            state = made(cordon.fn(context))
            assert not state.held
            assert f"process {shell.pid} (" in state.reason, "not its child, which is younger"
            assert "in that shell そのシェルで `exec 9>&-`" in state.reason
            os.kill(child, signal.SIGKILL)
            shell.stdin.write("\n")
            shell.stdin.flush()
            wait_until(lambda: made(prove_contained.fn(context)).cordoned, what="the guard's turn")
            holder = context.adapters.host.holder(lock)
            assert holder
            assert holder.identity == made(cordon.fn(context)).guard


def test_killed_before_it_could_write_the_marker_the_guard_writes_it_itself(small: SmallWorkload) -> None:
    told = orders(small.root.parent)
    die = (
        "import os, signal, tasks.host.host\n"
        "tasks.host.host.write_marker = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    host, marker = LinuxHost(), Path(told.marker)
    try:
        assert cordon_elsewhere(told, die) == -signal.SIGKILL
        wait_until(lambda: host.guard(marker), what="the guard's own marker")
        assert host.refuses(Path(told.lock))
    finally:
        host.release(marker)


def test_a_launcher_that_ignores_the_lock_is_frozen_and_written_down(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        cordon.fn(context)
        launch(small)
        wait_until(lambda: states(small) == {psutil.STATUS_STOPPED}, what="the guard's catch")
        wait_until(lambda: caught(context.cordon_files.caught), what="what the guard writes")
        first = caught(context.cordon_files.caught)[0]
        assert first["identity"]["pid"] in {process.pid for process in small.living()}
        assert (first["role"], first["why"], first["denied"]) == ("training", "matches the training pattern", "")
        assert "src/train.py" in first["command"]


def test_a_newcomer_that_is_thawed_behind_the_guards_back_is_frozen_again(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        cordon.fn(context)
        launch(small)
        wait_until(lambda: caught(context.cordon_files.caught), what="the guard's catch")
        written = caught(context.cordon_files.caught)
        psutil.Process(written[0]["identity"]["pid"]).resume()
        wait_until(lambda: states(small) == {psutil.STATUS_STOPPED}, what="the second catch")
        assert [entry["identity"] for entry in caught(context.cordon_files.caught)[: len(written)]] == [
            entry["identity"] for entry in written
        ]


def test_whom_a_run_has_in_hand_the_guard_leaves_to_it(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        small.start_all()
        cordon.fn(context)
        freeze.fn(context)
        for process in small.living():
            process.resume()
        launch(small)
        wait_until(lambda: caught(context.cordon_files.caught), what="a catch, which shows that the guard has looked")
        wait_until(lambda: len([each for each in small.living() if each.status() != psutil.STATUS_STOPPED]) == 4)
        freeze.fn(context)
        stop.fn(context)
        assert small.living() == []


@pytest.mark.whole
def test_a_lock_that_cannot_be_opened_is_told_and_the_guard_watches_all_the_same(small: SmallWorkload) -> None:
    block = small.block()
    block.lock.symlink_to(small.root.parent / "elsewhere")
    with case_of(block) as context:
        state = made(cordon.fn(context))
        assert not state.held
        assert "a symbolic link lies there" in state.reason
        launch(small)
        wait_until(lambda: states(small) == {psutil.STATUS_STOPPED}, what="the guard's catch")
        assert not made(prove_contained.fn(context)).is_contained


def test_the_lock_that_the_training_itself_holds_is_taken_over_when_it_is_stopped(small: SmallWorkload) -> None:
    block = small.block()
    training = small.start(["flock", str(block.lock), *small.training_command])
    wait_until(lambda: len(small.living()) == 4, what="the training under the lock")
    with case_of(block) as context:
        state = made(cordon.fn(context))
        assert not state.held
        assert f"process {training.pid} (flock " in state.reason
        freeze.fn(context)
        stop.fn(context)
        assert made(prove_contained.fn(context)).is_contained


def test_a_waiter_that_was_there_before_us_is_stopped_too_and_does_not_get_its_turn(small: SmallWorkload) -> None:
    block = small.block()
    small.start(["flock", str(block.lock), *small.training_command])
    wait_until(lambda: len(small.living()) == 4, what="the training under the lock")
    small.start(["flock", str(block.lock), *small.training_command])
    wait_until(lambda: len(small.living()) == 5, what="the waiter")
    with case_of(block) as context:
        cordon.fn(context)
        freeze.fn(context)
        stop.fn(context)
        assert made(prove_contained.fn(context)).is_contained
        assert small.living() == []


@pytest.mark.parametrize("change", ["incident", "pattern"])
def test_a_guard_with_other_orders_is_relieved_and_the_lock_is_never_free(small: SmallWorkload, change: str) -> None:
    block = small.block()
    with case_of(block) as context:
        first = made(cordon.fn(context))
        assert first.guard
        if change == "incident":
            context.incident = replace(context.incident, id="IR-20260102T030406Z")
        else:
            context.workload = small.block(training_pattern=r"python\S* -u src/train\.py")
        second = made(cordon.fn(context))
        assert second.guard != first.guard
        wait_until(
            lambda: context.adapters.host.has_lock(second.guard, block.lock) if second.guard else False,
            what="the new guard's turn",
        )
        gone = context.adapters.host.get_process(first.guard)
        assert not gone or not gone.alive
        assert json.loads(context.cordon_files.marker.read_text())["incident"] == context.incident.id


def test_a_real_launch_is_caught_by_the_guard_and_ended(small: SmallWorkload) -> None:
    with case_of(small.block(training_command=small.training_command)) as context:
        cordon.fn(context)
        tried = made(challenge.fn(context))
        assert tried.caught.startswith("the guard froze process ")
        assert small.living() == []


def test_a_real_launcher_that_asks_for_the_lock_is_refused(small: SmallWorkload) -> None:
    block = small.block()
    guarded = ["flock", "-n", "-E", "75", str(block.lock), *small.training_command]
    with case_of(small.block(training_command=guarded)) as context:
        cordon.fn(context)
        assert made(challenge.fn(context)).caught == "the launcher was refused and ended with 75"


def test_a_launch_that_nothing_catches_is_told_and_ended(small: SmallWorkload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.containment.cordon_trial._SECONDS", 0.5)
    other = ["venv/bin/python", "-c", "import time; time.sleep(60)"]
    with case_of(small.block(training_command=other)) as context:
        cordon.fn(context)
        tried = made(challenge.fn(context))
        assert not tried.is_complete
        assert small.living() == []


@pytest.mark.whole
def test_another_training_that_is_caught_meanwhile_does_not_prove_the_launch(small: SmallWorkload) -> None:
    escaped = small.root.parent / "escaped"
    script = f"venv/bin/python -c 'import time; time.sleep(600)' & echo $! > {shlex.quote(str(escaped))}; wait $!"
    with case_of(small.block(training_command=["bash", "-c", script])) as context, ThreadPoolExecutor(1) as beside:
        cordon.fn(context)
        trial = beside.submit(challenge.fn, context)
        wait_until(lambda: escaped.exists() and escaped.read_text().endswith("\n"), what="the launch")
        launch(small)
        wait_until(lambda: caught(context.cordon_files.caught), what="the guard's catch")
        os.kill(int(escaped.read_text()), signal.SIGTERM)
        tried = made(trial.result())
        assert tried.caught == ""
        assert str(caught(context.cordon_files.caught)[0]["identity"]["pid"]) in tried.warnings[0]


@pytest.mark.parametrize("way", ["", "env -i ", "setsid "], ids=["as it is", "without environment", "in a new session"])
def test_a_launch_that_leaves_its_child_behind_is_seen_to_be_caught(small: SmallWorkload, way: str) -> None:
    script = small.root.parent / "launch.sh"
    script.write_text(f"{way}{shlex.join(small.training_command)} &\n")
    with case_of(small.block(training_command=["bash", str(script)])) as context:
        cordon.fn(context)
        assert made(challenge.fn(context)).caught.startswith("the guard froze process ")


def test_the_empty_log_of_a_refused_launch_is_told_and_what_was_there_is_not(small: SmallWorkload) -> None:
    block = small.block()
    (small.root / "logs/before.log").touch()
    script = f"flock -n -E 75 {shlex.quote(str(block.lock))} true | tee 'logs/train-x 1.log'; exit ${{PIPESTATUS[0]}}"
    with case_of(small.block(training_command=["bash", "-c", script])) as context:
        cordon.fn(context)
        tried = made(challenge.fn(context))
        assert tried.caught == "the launcher was refused and ended with 75"
        entry = next(entry for entry in context.log.entries() if entry["action"] == "challenged")
        assert entry["left"] == ["logs/train-x%201.log"]
        assert tried.warnings == ("empty logs appeared in the workload while a launch was tried: logs/train-x%201.log",)
    assert (small.root / "logs/train-x 1.log").exists()


@pytest.mark.whole
@pytest.mark.parametrize("command", [["false"], ["venv/bin/python", "-m", "no_such_module"]])
def test_a_launcher_that_fails_by_itself_proves_nothing_and_says_so(small: SmallWorkload, command: list[str]) -> None:
    with case_of(small.block(training_command=command)) as context:
        cordon.fn(context)
        tried = made(challenge.fn(context))
        assert not tried.caught
        assert tried.skipped.startswith("the launcher ended with 1 by itself, which is none of 75")


def test_a_launcher_that_detaches_the_training_is_seen_to_be_caught(small: SmallWorkload) -> None:
    with case_of(small.block(training_command=["setsid", "--fork", *small.training_command])) as context:
        cordon.fn(context)
        assert made(challenge.fn(context)).caught.startswith("the guard froze process ")


@pytest.mark.whole
def test_a_newcomer_that_is_thawed_again_and_again_is_ended(small: SmallWorkload) -> None:
    """What was started in the guard's own tick may be older than it, and is not killed."""
    with case_of(small.block()) as context:
        since = made(cordon.fn(context)).guard.start
        wait_until(lambda: ticks() > since, what="the next tick")
        small.start(["setsid", "--fork", *small.training_command], WORKERS="0").wait()
        wait_until(lambda: caught(context.cordon_files.caught), what="the guard's catch")
        (newcomer,) = small.living()

        def thawed_to_death() -> bool:
            if newcomer.is_running() and newcomer.status() == psutil.STATUS_STOPPED:
                newcomer.resume()
            return not small.living()

        wait_until(thawed_to_death, what="its end")
        wait_until(lambda: caught(context.cordon_files.caught)[-1].get("killed"), what="what the guard writes")
        watch.fn(context)
        watch.fn(context)
        assert [each["object"] for each in context.log.entries() if each["action"] == "killed by guard"] == [
            str(newcomer.pid)
        ]


def test_a_newcomer_in_uninterruptible_sleep_is_not_taken_for_one_that_is_thawed(small: SmallWorkload) -> None:
    """It waits for its child by vfork, a wait that a SIGSTOP does not end and a SIGKILL does."""
    (small.root / "src/train.py").write_text("import ctypes, time\nctypes.CDLL(None).vfork()\ntime.sleep(600)\n")
    with case_of(small.block()) as context:
        guard = Guard(IncidentCordon(context).orders("why"), -1)
        newcomer = psutil.Process(small.start().pid)
        wait_until(lambda: newcomer.status() == psutil.STATUS_DISK_SLEEP, what="its wait")
        for _ in range(6):
            guard.watch()
        assert newcomer.status() == psutil.STATUS_DISK_SLEEP
        assert newcomer.pid in {each["identity"]["pid"] for each in caught(context.cordon_files.caught)}


def test_nothing_is_launched_without_a_cordon_or_on_a_compromised_host(small: SmallWorkload) -> None:
    with case_of(small.block(training_command=small.training_command)) as context:
        assert "no guard stands" in made(challenge.fn(context)).skipped
        context.run = replace(context.run, policy="kill")
        cordon.fn(context)
        assert "compromised" in made(challenge.fn(context)).skipped
    with case_of(small.block()) as context:
        assert "training_command" in made(challenge.fn(context)).skipped


def test_a_forged_marker_does_not_make_a_training_our_guard(small: SmallWorkload) -> None:
    small.start()
    wait_until(lambda: len(small.living()) == 3, what="the training")
    training = small.living()[0]
    with case_of(small.block()) as context:
        about = {"pid": training.pid, "start": start_of(training.pid), "lock": str(context.workload.lock)}
        context.cordon_files.marker.write_text(json.dumps(about))
        assert made(cordon.fn(context)).guard.pid != training.pid
        assert training.pid in {process.identity.pid for process in made(freeze.fn(context)).processes}
        stop.fn(context)


NUMBERS = ['{"pid": 1e400, "start": 1}', '{"pid": 1, "start": 1e400}', f'{{"pid": 1{"0" * 300}, "start": 1}}']


@pytest.mark.short(1)
@pytest.mark.parametrize("content", NUMBERS)
def test_a_number_that_no_process_has_ends_no_guard_and_keeps_no_run_out(small: SmallWorkload, content: str) -> None:
    """Whoever may write into the folder could end the guard by it, and had every evacuation refused."""
    with case_of(small.block()) as context:
        made(cordon.fn(context))
        guard = context.adapters.host.guard(context.cordon_files.marker)
        assert guard
        context.cordon_files.marker.write_text(content)
        wait_until(lambda: context.adapters.host.guard(context.cordon_files.marker), what="the guard's own marker")
        assert context.adapters.host.guard(context.cordon_files.marker) == guard
    owner = small.block().evidence / OWNER
    owner.write_text(content)
    with owner.open() as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        ours = take_ownership(owner.parent)
    assert ours is not None
    os.close(ours)


@pytest.mark.short(1)
@pytest.mark.sample(3)
@pytest.mark.parametrize("content", ["", "null", "{", '{"pid": "x"}', *NUMBERS])
def test_a_damaged_marker_stops_nothing(small: SmallWorkload, content: str) -> None:
    small.start_all()
    with case_of(small.block()) as context:
        context.cordon_files.marker.write_text(content)
        assert made(cordon.fn(context)).held
        freeze.fn(context)
        stop.fn(context)
        assert made(prove_contained.fn(context)).is_contained


@pytest.mark.short(1)
@pytest.mark.sample(3)
@pytest.mark.parametrize("plant", [os.mkfifo, lambda path: path.symlink_to(path.parents[1] / "precious")])
@pytest.mark.parametrize("name", ["cordon.json", CAUGHT, EARLY])
def test_a_pipe_or_a_link_in_place_of_our_files_neither_stops_the_guard_nor_is_followed(
    small: SmallWorkload, name: str, plant: Callable[[Path], None]
) -> None:
    """The evidence folder may lie where the workload can write: a pipe there kept the freeze waiting for ever."""
    precious = small.root / "precious"
    precious.write_text("as it was")
    small.block().evidence.mkdir()
    plant(small.block().evidence / name)
    with case_of(small.block()) as context:
        assert made(cordon.fn(context)).held
        assert made(freeze.fn(context)).is_complete
        for count in (1, 2):
            launch(small)
            wait_until(lambda many=count: len(small.living()) >= many and states(small) == {"stopped"})  # type: ignore[misc]
        assert context.adapters.host.release(context.cordon_files.marker)
    assert precious.read_text() == "as it was"


def test_a_lock_that_was_replaced_by_a_pipe_is_not_waited_for(small: SmallWorkload) -> None:
    """A later run of the incident hung before its freeze."""
    with case_of(small.block()) as context:
        cordon.fn(context)
        context.workload.lock.unlink()
        os.mkfifo(context.workload.lock)
        assert made(cordon.fn(context)).held


@pytest.mark.whole
def test_the_challenge_tells_no_secret(small: SmallWorkload) -> None:
    with case_of(small.block(training_command=["false", "--token=hush"])) as context:
        cordon.fn(context)
        challenge.fn(context)
        assert b"hush" not in context.log.path.read_bytes()


def test_a_new_file_takes_the_place_of_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("as it was")
    (tmp_path / "open.json").symlink_to(tmp_path / "precious")
    write_whole(tmp_path / "open.json", b"{}")
    assert ((tmp_path / "open.json").read_text(), (tmp_path / "precious").read_text()) == ("{}", "as it was")


def test_a_guard_whose_marker_was_deleted_writes_it_again(small: SmallWorkload) -> None:
    """Without it `evacuation uncordon` found no cordon, and the guard stood for ever."""
    with case_of(small.block()) as context:
        guard = made(cordon.fn(context)).guard
        wait_until(
            lambda: len(list(context.cordon_files.marker.parent.glob(".cordon.json.*"))) == 0,
            what="the guard on its post",
        )
        context.cordon_files.marker.unlink()
        wait_until(lambda: context.adapters.host.guard(context.cordon_files.marker) == guard, what="the marker")


def test_a_marker_that_names_another_workloads_guard_does_not_end_that_guard(
    small: SmallWorkload, tmp_path: Path
) -> None:
    with (
        SmallWorkload(tmp_path / "another") as other,
        case_of(other.block()) as theirs,
        case_of(small.block()) as context,
    ):
        guard = made(cordon.fn(theirs)).guard
        context.cordon_files.marker.write_text(theirs.cordon_files.marker.read_text())
        assert made(cordon.fn(context)).held
        assert context.adapters.host.release(context.cordon_files.marker)
        assert theirs.adapters.host.guard(theirs.cordon_files.marker) == guard
        assert theirs.adapters.host.refuses(theirs.workload.lock)
