"""The freeze before the run begins: a refused start lets go of what it has stopped itself, and of nothing else."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows import cli
from flows.command.freeze_before_import import freeze_before_import
from tasks.cli.uncordon import let_go
from tasks.containment.freeze import freeze
from tasks.containment.release.thaw import thaw
from tasks.custody.errors import Refused
from tasks.custody.incident.exit_codes import EXIT_CODES
from tasks.host.host import LinuxHost
from tasks.host.process.process import Process
from tasks.host.process.table import start_of
from tasks.incident.layout import EARLY, FROZEN, RECOVERED
from tasks.incident.run_lock import Purpose, give_up_ownership, sign, take_ownership
from tasks.prestart.freeze import freeze_described
from tasks.prestart.journal import read_early, take_over, thaw_again
from tests.integration.host.test_operate import stopped_sleeper
from tests.support.run_context import INCIDENT, case_of, made
from tests.support.workloads import SmallWorkload, stand, wait_until


def described(small: SmallWorkload, **more: object) -> dict[str, Any]:
    evidence = small.block().evidence
    return {"root": str(small.root), "evidence_dir": str(evidence), **more}


def training(small: SmallWorkload) -> psutil.Process:
    started = psutil.Process(small.start(WORKERS="0").pid)
    wait_until(lambda: started.status() == psutil.STATUS_SLEEPING, what="the training at work")
    return started


def identity(process: psutil.Process) -> dict[str, int]:
    return {"pid": process.pid, "start": start_of(process.pid)}


def journal(base: Path, process: psutil.Process) -> None:
    """An incident in this base has frozen it."""
    home = base / INCIDENT
    home.mkdir(parents=True)
    home.chmod(0o700)
    (home / FROZEN).write_text(json.dumps([{"identity": identity(process), "role": "training", "command": "x"}]))


def refused_start(small: SmallWorkload, **more: object) -> None:
    early = freeze_described(described(small, **more))
    assert early
    wait_until(lambda: all(each.status() == psutil.STATUS_STOPPED for each in small.living()), what="the freeze")
    thaw_again(early)


def test_a_run_that_is_cancelled_before_it_begins_says_that_all_goes_on(
    small: SmallWorkload, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    process, file = training(small), tmp_path / "evacuation.toml"
    place = f'root = "{small.root}"\nevidence_dir = "{small.block().evidence}"\n'
    file.write_text(f'[workload.a]\n{place}[store.a]\nfolder = "{tmp_path}"\n')

    def cancelled() -> None:
        with freeze_before_import((str(file), "", None)):
            wait_until(lambda: process.status() == psutil.STATUS_STOPPED, what="the freeze")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cancelled()
    assert process.status() != psutil.STATUS_STOPPED
    assert "let go again, the run ended before it began" in capfd.readouterr().err


def test_a_refused_run_says_what_stood_frozen_meanwhile_and_one_that_froze_nothing_that_nothing_was_touched(
    small: SmallWorkload, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "evacuation.toml"
    place = f'root = "{small.root}"\nevidence_dir = "{small.block().evidence}"\n'
    file.write_text(f'[workload.a]\n{place}[store.a]\nfolder = "{tmp_path}"\n')

    def start() -> None:
        with freeze_before_import((str(file), "", None)):
            wait_until(lambda: {each.status() for each in small.living()} <= {psutil.STATUS_STOPPED}, what="the freeze")
            raise Refused("a field", "a misspelt one", "Correct it.")

    def refused() -> str:
        with pytest.raises(Refused) as raised:
            start()
        return str(raised.value)

    assert "Nothing was touched." in refused()
    process = training(small)
    assert "; got a misspelt one. 1 processes stood frozen meanwhile, and run again" in refused()
    assert process.status() != psutil.STATUS_STOPPED
    assert capfd.readouterr().err == "", "it is said once"


@pytest.mark.parametrize(
    "where",
    ["flows.command.by_hand.load", "tasks.preflight.open_incident.choose_id", "flows.evacuate.carry_out"],
)
def test_an_error_of_ours_lets_nothing_go_and_says_what_to_type(
    small: SmallWorkload, tmp_path: Path, where: str
) -> None:
    """Wherever it comes between the start's freeze and the run's own; without it a bug freed a compromised host."""
    process, file = training(small), tmp_path / "evacuation.toml"
    place = f'root = "{small.root}"\nevidence_dir = "{small.block().evidence}"\n'
    file.write_text(f'[workload.a]\n{place}[store.a]\nfolder = "{tmp_path}"\n')

    module = where.rpartition(".")[0]
    program = f"import sys, {module}; from flows import cli; {where} = lambda *_, **__: {{}}['ours']; "
    command = [sys.executable, "-c", f"{program}sys.exit(cli.run(sys.argv[1:]))", "run", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_CODES["Failed"]
    assert process.status() == psutil.STATUS_STOPPED
    shown = done.stdout + done.stderr
    assert "KeyError: 'ours'" in shown
    assert "let go again" not in shown
    told = next(verb for verb in ("uncordon", "thaw", "status") if f"evacuation {verb}" in shown)
    assert cli.run(["uncordon" if told == "status" else told, str(file)]) == 0
    wait_until(lambda: process.status() != psutil.STATUS_STOPPED, what="what uncordon lets go")


@pytest.fixture(params=["by a person", "by an incident", "by the start of a run that died"])
def stopped(small: SmallWorkload, request: pytest.FixtureRequest) -> Iterator[psutil.Process]:
    """A process of the workload that somebody else has stopped."""
    process = training(small)
    stand(process)
    evidence = small.block().evidence
    evidence.mkdir(exist_ok=True)
    if request.param == "by an incident":
        journal(evidence, process)
    elif request.param == "by the start of a run that died":
        rows = [{**identity(process), "at": "2026-01-02T03:04:05+00:00"}]
        (evidence / EARLY).write_text(json.dumps(rows))
        (evidence / EARLY).chmod(0o600)
    yield process
    process.kill()


@pytest.mark.short(1)
def test_a_refused_start_lets_go_of_what_it_froze_and_of_nothing_else(
    small: SmallWorkload, stopped: psutil.Process
) -> None:
    """`fg` of a person's shell, or an open incident, had to see them run: 'Nothing was touched' was said."""
    running = training(small)
    refused_start(small)
    assert stopped.status() == psutil.STATUS_STOPPED
    assert running.status() != psutil.STATUS_STOPPED


@pytest.mark.short(1)
@pytest.mark.parametrize("base", ["evidence", "fallback", "memory"])
def test_what_an_incident_holds_stays_frozen_although_it_ran_again(
    small: SmallWorkload, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run had died in the grace: a start that is refused froze it, and let it run on."""
    monkeypatch.setattr("tasks.incident.layout.MEMORY", tmp_path / "memory")
    held, running = training(small), training(small)
    where = {
        "evidence": small.block().evidence,
        "fallback": tmp_path / "disk" / "evacuation-0123",
        "memory": tmp_path / "memory" / "evacuation-0123-0",
    }
    journal(where[base], held)
    refused_start(small, fallback_dir=str(tmp_path / "disk"))
    assert held.status() == psutil.STATUS_STOPPED
    assert running.status() != psutil.STATUS_STOPPED


@pytest.mark.parametrize("word", ["", "VERIFIED"])
def test_what_a_recovery_has_started_is_frozen_with_its_children_for_the_run_that_carries_on(
    small: SmallWorkload, word: str
) -> None:
    """It served until the end of the run, which then said that the workload is contained."""
    recovered = small.start(WORKERS="2")
    wait_until(lambda: len(small.living()) == 3, what="its workers")
    finished(small, INCIDENT, word, RECOVERED, recovered.pid)
    (small.block().evidence / INCIDENT / "incident.json").touch()
    early = freeze_described(described(small), INCIDENT)
    assert early
    assert {who.pid for who in early.frozen} == {each.pid for each in small.living()}
    thaw_again(early)


def test_what_a_start_that_died_has_stopped_is_no_member_now_and_stays_written_down(
    small: SmallWorkload, tmp_path: Path
) -> None:
    """Its pattern was too broad, and was narrowed: no file named the stranger any more, and it stood for ever."""
    evidence, own = small.block().evidence, training(small)
    with stopped_sleeper(tmp_path) as stranger, stopped_sleeper(tmp_path) as awake:
        awake.resume()
        evidence.mkdir()
        rows = [{**identity(each), "at": "2026-01-02T03:04:05+00:00"} for each in (stranger, awake)]
        (evidence / EARLY).write_text(json.dumps(rows))
        (evidence / EARLY).chmod(0o600)
        early = freeze_described(described(small))
        assert early
        give_up_ownership(evidence)
        with case_of(small.block()) as context:
            frozen = made(freeze.fn(context))
            assert [each.identity.pid for each in frozen.processes] == [own.pid]
            (told,) = frozen.warnings
            assert told.startswith(f"left frozen: process {stranger.pid} (")
            assert f"kill -CONT {stranger.pid}" in told
            assert [who.pid for who in read_early(evidence / EARLY).frozen] == [stranger.pid]
        thaw_again(early)
        assert own.status() == stranger.status() == psutil.STATUS_STOPPED, "the incident has one, a person the other"
        assert [who.pid for who in read_early(evidence / EARLY).frozen] == [stranger.pid]


@pytest.mark.parametrize("disk", ["a disk", "no disk"])
def test_a_stranger_that_its_own_start_has_stopped_stays_so_when_the_run_has_ended(
    small: SmallWorkload, disk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parent, a member, had died before the run's freeze: it was told as neither ended nor thawed, and thawed."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if disk == "no disk":
        monkeypatch.setattr("tasks.prestart.journal.write_whole", full)
    with stopped_sleeper(small.root, "odd-one") as stranger:
        stranger.resume()
        wait_until(lambda: stranger.status() == psutil.STATUS_SLEEPING, what="the stranger at work")
        early = freeze_described(described(small, training_pattern="odd-one"))
        assert early
        assert [who.pid for who in early.frozen] == [stranger.pid]
        give_up_ownership(early.path.parent)
        with case_of(small.block()) as context:
            assert len(made(freeze.fn(context)).warnings) == 1
        thaw_again(early)
        assert stranger.status() == psutil.STATUS_STOPPED
        assert list(read_early(early.path).frozen) == list(early.frozen)
        take_over(early.path)


def finished(small: SmallWorkload, incident: str, word: str, journal: str, pid: int) -> None:
    """An incident with a verdict, one of whose journals names this process."""
    home = small.block().evidence / incident
    (home / "record/001").mkdir(mode=0o700, parents=True)
    home.chmod(0o700)
    (home / "record/001/closing.json").write_text(json.dumps({"verdict": word}))
    (home / journal).write_text(json.dumps([identity(psutil.Process(pid))]))


@pytest.mark.parametrize("later", ["", INCIDENT])
def test_what_an_incident_that_is_over_has_recovered_is_frozen_with_its_children(
    small: SmallWorkload, later: str
) -> None:
    """A regression: the API that a recovery had started served for 24 s of the next incident."""
    recovered = small.start(WORKERS="2")
    wait_until(lambda: len(small.living()) == 3, what="its workers")
    finished(small, "IR-20250102T030405Z", "VERIFIED", RECOVERED, recovered.pid)
    if later:
        (small.block().evidence / later).mkdir(mode=0o700)
    early = freeze_described(described(small))
    assert early
    assert {who.pid for who in early.frozen} == {each.pid for each in small.living()}
    thaw_again(early)


@pytest.mark.parametrize(("word", "ours"), [("THAWED", True), ("UNVERIFIED", False)])
def test_what_was_thawed_before_is_let_go_again_if_this_run_is_refused(
    small: SmallWorkload, word: str, *, ours: bool
) -> None:
    """A regression: after a thaw, an interrupted run left the training frozen, and nothing named it."""
    training = small.start()
    finished(small, INCIDENT, word, FROZEN, training.pid)
    early = freeze_described(described(small))
    assert early
    assert (training.pid in {who.pid for who in early.frozen}) is ours
    wait_until(lambda: psutil.Process(training.pid).status() == psutil.STATUS_STOPPED, what="its stop")
    thaw_again(early)
    assert (psutil.Process(training.pid).status() != psutil.STATUS_STOPPED) is ours


def test_whoever_has_the_pid_of_what_a_recovery_started_is_frozen(small: SmallWorkload) -> None:
    process = training(small)
    home = small.block().evidence / INCIDENT
    home.mkdir(mode=0o700, parents=True)
    (home / RECOVERED).write_text(json.dumps([{"pid": process.pid, "start": start_of(process.pid) - 1}]))
    early = freeze_described(described(small))
    assert early
    assert [who.pid for who in early.frozen] == [process.pid]
    thaw_again(early)


def test_a_journal_that_somebody_else_may_have_written_keeps_nothing_frozen(small: SmallWorkload) -> None:
    named = training(small)
    journal(small.block().evidence, named)
    (small.block().evidence / INCIDENT).chmod(0o777)
    refused_start(small)
    assert named.status() != psutil.STATUS_STOPPED


def test_what_an_earlier_start_left_frozen_is_still_known_to_uncordon(small: SmallWorkload) -> None:
    left = training(small)
    early = freeze_described(described(small))
    assert early
    wait_until(lambda: left.status() == psutil.STATUS_STOPPED, what="the freeze")
    give_up_ownership(early.path.parent)  # as if it had been killed
    later = training(small)
    refused_start(small)
    assert (left.status(), later.status() != psutil.STATUS_STOPPED) == (psutil.STATUS_STOPPED, True)
    assert next(let_go(small.block(), LinuxHost(root=small.root))).endswith(f": {left.pid}")
    assert left.status() != psutil.STATUS_STOPPED


TOLD_TO_END = """
import os, signal, sys
from flows.cli import run
from tasks.host.host import LinuxHost
act = LinuxHost.signal
def then_told_to_end(self, identity, number):
    act(self, identity, number)
    os.kill(os.getpid(), signal.Signals[sys.argv[2]])
LinuxHost.signal = then_told_to_end
sys.exit(run(["run", sys.argv[1]]))
"""


def begin(small: SmallWorkload, file: Path, order: str) -> "subprocess.CompletedProcess[str]":
    """A run by hand that gets this signal as soon as it has sent its first."""
    small.start(WORKERS="5")
    wait_until(lambda: len(small.living()) == 6, what="the training's workers")
    block = f'[workload.small]\nroot = "{small.root}"\nhost = "{socket.gethostname()}"\n'
    file.write_text(f'{block}[store.small]\nfolder = "/"\n')
    return subprocess.run([sys.executable, "-c", TOLD_TO_END, file, order], capture_output=True, text=True, check=False)


def stands(small: SmallWorkload) -> bool:
    """Whether a process of it is stopped."""
    return psutil.STATUS_STOPPED in {each.status() for each in small.living()}


@pytest.mark.whole
@pytest.mark.parametrize("order", ["SIGINT", "SIGTERM"])
def test_a_start_that_is_told_to_end_while_it_freezes_leaves_nobody_frozen(
    small: SmallWorkload, tmp_path: Path, order: str
) -> None:
    """The whole workload stood afterwards, and no file named who."""
    begun = begin(small, tmp_path / "evacuation.toml", order)
    assert begun.returncode == 130, begun.stderr
    assert "cancelled" in begun.stderr
    wait_until(lambda: not stands(small), 5, "their thaw")


@pytest.mark.short(1)
@pytest.mark.parametrize("way", ["uncordon", "a refused start, then uncordon", "freeze, then thaw"])
def test_whom_a_start_had_frozen_before_it_was_killed_is_known(small: SmallWorkload, tmp_path: Path, way: str) -> None:
    """It was taken for stopped by a person, and stayed so for ever."""
    begun = begin(small, tmp_path / "evacuation.toml", "SIGKILL")
    assert begun.returncode == -signal.SIGKILL, begun.stderr
    wait_until(lambda: stands(small), 5, "the stop of the first")
    if way == "freeze, then thaw":
        with case_of(small.block()) as context:
            freeze.fn(context)
            assert not made(thaw.fn(context)).stood
    else:
        if way != "uncordon":
            refused_start(small)
        first = next(let_go(small.block(), LinuxHost(root=small.root)))
        assert first.startswith("thawed, a run that died before it began")
    wait_until(lambda: not stands(small), 5, "their thaw")


def test_whom_a_start_had_frozen_before_something_went_wrong_is_known(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.start(WORKERS="2")
    wait_until(lambda: len(small.living()) == 3, what="the training's workers")
    look, looks = LinuxHost.snapshot, iter(range(2))

    def once(self: LinuxHost) -> dict[int, Process]:
        if next(looks, 0):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return look(self)

    monkeypatch.setattr(LinuxHost, "snapshot", once)
    refused_start(small)
    wait_until(lambda: psutil.STATUS_STOPPED not in {each.status() for each in small.living()}, 5, "their thaw")


@pytest.mark.parametrize("asked", ["IR-20200101T000000Z", "IR-20990101T000000Z", "IR-2026", f"{INCIDENT} ", "../*"])
def test_an_incident_that_this_host_does_not_know_freezes_nobody_before_the_store_is_asked(
    small: SmallWorkload, asked: str
) -> None:
    process = training(small)
    journal(small.block().evidence, process)
    assert freeze_described(described(small), asked) is None
    assert process.status() != psutil.STATUS_STOPPED


@pytest.mark.whole
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders to another account")
def test_any_number_of_folders_in_memory_delays_no_freeze(
    small: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each was looked into, three times: 2.9 s went by before the first signal."""
    monkeypatch.setattr("tasks.incident.layout.MEMORY", memory := tmp_path / "memory")
    memory.mkdir()
    for number in range(40_000):
        (memory / f"evacuation-{number}").mkdir()
        os.chown(memory / f"evacuation-{number}", 65534, 65534)
    process, began = training(small), time.monotonic()
    early = freeze_described(described(small))
    assert time.monotonic() - began < 2
    assert early
    wait_until(lambda: process.status() == psutil.STATUS_STOPPED, what="the signal's effect")
    thaw_again(early)


@pytest.mark.parametrize("where", ["in the evidence folder", "on the fallback disk"])
def test_a_known_incident_is_frozen_for_at_once(small: SmallWorkload, tmp_path: Path, where: str) -> None:
    process = training(small)
    evidence = small.block().evidence
    base = evidence if where == "in the evidence folder" else tmp_path / "disk/evacuation-0123456789abcdef"
    (base / INCIDENT).mkdir(parents=True)
    (base / INCIDENT / "incident.json").write_text("{}")
    early = freeze_described(described(small, fallback_dir=str(tmp_path / "disk")), INCIDENT)
    assert early
    assert [who.pid for who in early.frozen] == [process.pid]
    thaw_again(early)


@pytest.mark.parametrize(
    ("purpose", "is_frozen"), [("postmortem", True), ("recovery", False), ("evacuation", False), ("thaw", False)]
)
def test_who_writes_a_postmortem_keeps_no_freeze_from_beginning(
    small: SmallWorkload, purpose: Purpose, *, is_frozen: bool
) -> None:
    process, block = training(small), described(small)
    base = small.block().evidence
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    other = take_ownership(base)
    assert other is not None
    try:
        sign(other, purpose)
        early = freeze_described(block)
        assert (early is not None) is is_frozen
        wait_until(lambda: (process.status() == psutil.STATUS_STOPPED) is is_frozen, what="the kernel's word for it")
    finally:
        os.close(other)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another account")
@pytest.mark.parametrize("behind", ["root's own", "nothing"])
def test_a_folder_of_evidence_that_the_workload_has_made_a_link_delays_no_freeze(
    small: SmallWorkload, tmp_path: Path, behind: str
) -> None:
    """Its run froze when its server stood: up to a minute later."""
    roots_own, evidence = tmp_path / "root's own", small.block().evidence
    roots_own.mkdir(mode=0o755)
    journal(roots_own, running := training(small))
    before = sorted(tmp_path.rglob("*"))
    os.chown(small.root, 65534, 65534)
    evidence.symlink_to(tmp_path / behind)
    refused_start(small)
    assert running.status() != psutil.STATUS_STOPPED, "what is behind the link holds nobody"
    assert sorted(set(tmp_path.rglob("*")) - {evidence}) == before, "nothing is written behind it"


@pytest.mark.whole
@pytest.mark.parametrize("answers", [True, False])
def test_an_api_names_its_model_once_all_else_stands_and_holds_up_nothing_if_it_does_not(
    small: SmallWorkload, *, answers: bool
) -> None:
    """A training had left it no time for an answer, and the model of its start came back: Recovered."""
    trained = training(small)
    program = small.root / "uvicorn/__main__.py"
    busy = f'while open("/proc/{trained.pid}/stat").read().rpartition(")")[2].split()[0] != "T" or not {answers}:'
    slow = f'import time\ndef named():\n    {busy}\n        time.sleep(0.005)\n    return "slow.bin"\n'
    program.write_text(slow + program.read_text().replace('"model": os.path.basename(model)', '"model": named()'))
    small.start(small.api_command)
    wait_until(small.healthy, what="the API")
    fields = {"api_url": f"http://127.0.0.1:{small.port}", "api_pattern": small.block().api_pattern}
    early = freeze_described(described(small, **fields))
    assert early
    assert len(early.frozen) == len(small.living())
    wait_until(lambda: {each.status() for each in small.living()} == {psutil.STATUS_STOPPED}, what="the freeze")
    assert ("slow.bin" in read_early(early.path).answer) is answers
    thaw_again(early)
