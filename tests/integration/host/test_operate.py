"""The operator's hand: how a workload stands, and the cordon undone, without Prefect."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from blocks.workload import Workload
from flows.cli import run
from tasks.cli.next_step import Called
from tasks.cli.status import look, status
from tasks.cli.uncordon import let_go
from tasks.containment.cordon import caught, cordon
from tasks.containment.freeze import freeze
from tasks.containment.release.uncordon import end_held, find_held
from tasks.custody.errors import Refused
from tasks.custody.incident.exit_codes import INCOMPLETE
from tasks.host.detached_process import GUARD
from tasks.host.host import LinuxHost
from tasks.host.process.table import start_of
from tasks.incident.layout import EARLY, FROZEN
from tasks.prestart.journal import read_early
from tasks.rendering.clock import here
from tests.support.loops import shell_loop
from tests.support.run_context import INCIDENT, answer_bystander, case_of
from tests.support.workloads import SmallWorkload, stand, wait_until


def told(workload: Workload) -> dict[str, str]:
    lines = [line.partition(" ") for line in status(workload, LinuxHost(root=workload.root))]
    return {name: text.strip() for name, _, text in lines}


def launch(small: SmallWorkload) -> None:
    small.start(["setsid", "--fork", *small.training_command], WORKERS="0").wait()


def test_before_anything_happened(small: SmallWorkload) -> None:
    small.start_all()
    lines = list(status(small.block(), LinuxHost(root=small.root)))
    assert lines[0] == "incident  none"
    assert lines[1].endswith("is free")
    assert len([line for line in lines if " runs: " in line]) == 4


def test_under_the_cordon_and_after_it(small: SmallWorkload) -> None:
    block = small.block()
    with case_of(block) as context:
        cordon.fn(context)
        (block.evidence / "open.json").write_text(json.dumps({"id": INCIDENT}))
        launch(small)
        wait_until(context.cordon_files.caught.exists, what="the guard's catch")
        seen = told(block)
        assert seen["incident"] == f"{INCIDENT}  not finished"
        assert f"holds {block.lock} since " in seen["cordon"]
        assert "src/train.py" in seen["held"]
        assert "at work   evacuation" in list(status(block, LinuxHost(root=block.root)))
        last = look(block, LinuxHost(root=block.root), has_ended=True)
        assert last.at_work == "", "the last screen of a run that was cancelled counted itself as at work"
        assert "carry the incident on" in last.next.words
        context.close()
        lines = list(status(block, LinuxHost(root=block.root), Called("small", "one.toml")))
        assert lines[lines.index("next      carry the incident on:") + 1 :][:2] == [
            f"          evacuation run one.toml --incident {INCIDENT}",
            "or        nothing was stopped yet, so call it off, everything as it was:",
        ]
        assert not any("prefect " in line for line in lines), "no server is named"
        assert not any("uncordon" in line for line in lines), "the cordon is a part of what is to be carried on"


@pytest.mark.parametrize("is_answered", [True, False])
def test_who_was_answered_to_be_a_bystander_is_not_unknown(small: SmallWorkload, *, is_answered: bool) -> None:
    """It was listed with the advice to kill it."""
    block = small.block()
    with shell_loop(small.root, "(date >beat); sleep 0.2") as pid, case_of(block) as context:
        wait_until((small.root / "beat").exists, what="a turn of the loop")
        (block.evidence / "open.json").write_text(json.dumps({"id": INCIDENT}))
        if is_answered:
            answer_bystander(context, pid)
        lines = list(status(block, LinuxHost(root=block.root)))
    assert any(f"process {pid}:" in line for line in lines) is not is_answered


def test_what_stands_frozen_with_nobody_at_work_on_it_is_named_with_the_two_ways_on(small: SmallWorkload) -> None:
    """A run died after its freeze: also who is no match any more, and who runs on where no guard stands."""
    block = small.block()
    small.start_all()
    with case_of(block) as context:
        cordon.fn(context)
        freeze.fn(context)
        (block.evidence / "open.json").write_text(json.dumps({"id": INCIDENT}))
        assert "alone" not in told(block)
        context.close()
        seen, lines = told(block), list(status(block, LinuxHost(root=block.root)))
        assert re.match(r"4 stand frozen, the first since \S+ \S+ \S+ \(0:00:\d\d\), no run is at work", seen["alone"])
        assert "the guard alone is there" in seen["alone"]
        assert seen["next"].startswith("carry the incident on:")
        assert lines[-2:] == [
            "or        nothing was stopped yet, so call it off, everything as it was:",
            "          evacuation thaw evacuation.toml",
        ]
        renamed = block.model_copy(update={"training_pattern": "nothing", "worker_pattern": "nothing"})
        assert told(renamed)["alone"].startswith("4 stand frozen")
        context.adapters.host.release(context.cordon_files.marker)
        assert "no guard stands: what is thawed runs on" in told(block)["alone"]


def test_since_when_is_that_of_the_last_freeze(small: SmallWorkload) -> None:
    """A second incident stood frozen since the first one's time."""
    block, training = left_by_a_start_that_died(small)
    (former := block.evidence / INCIDENT).mkdir(mode=0o700)
    row = {"pid": training.pid, "start": start_of(training.pid), "frozen_at": "2026-01-01T00:00:00+00:00"}
    (former / FROZEN).write_text(json.dumps([row]))
    (former / FROZEN).chmod(0o600)
    assert f"the first since {here('2026-01-02T03:04:05+00:00')} (" in told(block)["alone"]


def test_after_an_uncordon_the_api_can_still_be_brought_back(small: SmallWorkload) -> None:
    block = small.block()
    block.evidence.mkdir()
    closed_as(block, "VERIFIED")
    lines = list(status(block, LinuxHost(root=block.root)))
    assert lines[-2:] == ["or        bring the API back API を戻す:", "          evacuation recover evacuation.toml"]


def closed_as(block: Workload, verdict: str) -> None:
    """The record of an incident that has ended so, with nothing else of it."""
    record = block.evidence / INCIDENT / "record/001"
    record.mkdir(parents=True, mode=0o700)
    record.parents[1].chmod(0o700)
    for path in (block.evidence / "open.json", record.parents[1] / "incident.json"):
        path.write_text(json.dumps({"id": INCIDENT}))
    (record / "closing.json").write_text(json.dumps({"verdict": verdict}))
    (record.parents[1] / "ended.json").write_text(json.dumps({"record": 1, "end": verdict.capitalize()}))


def test_what_a_start_that_died_has_frozen_is_named(small: SmallWorkload) -> None:
    block, training = left_by_a_start_that_died(small)
    seen, lines = told(block), list(status(block, LinuxHost(root=block.root)))
    assert f"workload  process {training.pid} frozen: " in "\n".join(lines)
    assert seen["alone"].startswith(f"1 stand frozen, the first since {here('2026-01-02T03:04:05+00:00')} (")
    assert lines[-2:] == ["or        let it go on as it was:", "          evacuation uncordon evacuation.toml"]
    closed_as(block, "VERIFIED")
    after = list(status(block, LinuxHost(root=block.root)))
    assert "next      evacuate it:" in after, "an incident that is over holds nothing"
    assert after[-2:] == lines[-2:]
    (block.evidence / EARLY).unlink()
    assert list(status(block, LinuxHost(root=block.root)))[-1].endswith(f"  kill -CONT {training.pid}")


def test_what_a_person_has_stopped_before_any_incident_is_not_called_frozen(small: SmallWorkload) -> None:
    """It was "frozen", to be let go on "as it was": it had stood."""
    block = small.block()
    training = small.start()
    stand(psutil.Process(training.pid))
    lines = list(status(block, LinuxHost(root=block.root)))
    assert f"workload  process {training.pid} stopped: " in "\n".join(lines)
    assert [line for line in lines if "frozen" in line or "as it was" in line] == []
    assert "it may have stood before" in lines[-2]
    assert lines[-1].split() == ["kill", "-CONT", str(training.pid)]


def test_uncordon_frees_the_lock_ends_what_was_caught_and_is_idempotent(small: SmallWorkload) -> None:
    block = small.block()
    with case_of(block) as context:
        cordon.fn(context)
        launch(small)
        wait_until(context.cordon_files.caught.exists, what="the guard's catch")
        guard = context.adapters.host.guard(context.cordon_files.marker)
        context.close()
        first = list(let_go(block, LinuxHost(root=block.root)))
        assert "the lock is given back" in first[0]
        assert "src/train.py" in first[0]
        assert small.living() == []
        assert not LinuxHost().refuses(block.lock)
        assert not LinuxHost().guard(context.cordon_files.marker)
        assert guard
        assert list(let_go(block, LinuxHost(root=block.root))) == ["no cordon stands; nothing was done"]
        entries = [json.loads(line) for line in (context.directory.path / "custody.jsonl").read_text().splitlines()]
        assert (entries[-1]["action"], entries[-1]["actor"]["run"]) == ("uncordoned", "by hand")


def test_a_recovery_ends_what_the_guard_holds_while_the_cordon_stands(small: SmallWorkload) -> None:
    """It was held against the incident, which had been VERIFIED and became NOTCONTAINED by its recovery."""
    block = small.block()
    with case_of(block) as context:
        host, marker = context.adapters.host, context.cordon_files.marker
        cordon.fn(context)
        assert end_held(host, block) == ()
        launch(small)
        wait_until(lambda: find_held(host, block), what="the guard's catch")
        assert any("src/train.py" in each for each in end_held(host, block))
        wait_until(lambda: small.living() == [], what="the end of what was caught")
        assert host.guard(marker)
        assert host.refuses(block.lock)
        assert find_held(host, block) == {}


def test_uncordon_leaves_alone_what_the_incident_itself_has_frozen(small: SmallWorkload) -> None:
    block = small.block()
    small.start_all()
    with case_of(block) as context:
        cordon.fn(context)
        wait_until(
            context.cordon_files.caught.exists, what="the guard, which meets the workload before the freeze does"
        )
        freeze.fn(context)
        context.close()
        list(let_go(block, LinuxHost(root=block.root)))
        assert {process.status() for process in small.living()} == {psutil.STATUS_STOPPED}
        assert len(small.living()) == 4


def test_uncordon_ends_nobody_who_ran_before_the_cordon(small: SmallWorkload) -> None:
    """Of a run that ends between its cordon and its freeze nothing is left but what the guard has caught: everybody."""
    block = small.block()
    small.start_all()
    before = {process.pid for process in small.living()}
    with case_of(block) as context:
        cordon.fn(context)
        wait_until(
            lambda: len(caught(context.cordon_files, context.incident.opened_at)) == len(before),
            what="the guard, which meets the workload first",
        )
        launch(small)
        wait_until(
            lambda: len(caught(context.cordon_files, context.incident.opened_at)) > len(before),
            what="the guard's catch",
        )
        context.close()
        (first, *_) = let_go(block, LinuxHost(root=block.root))
    assert {process.pid for process in small.living()} == before
    assert first.count("ended, it was caught under the cordon") == 1
    assert all(f"kill -CONT {pid}" in first for pid in before)


def test_uncordon_is_refused_while_an_evacuation_is_at_work(small: SmallWorkload) -> None:
    block = small.block()
    with case_of(block) as context:
        cordon.fn(context)
        with pytest.raises(Refused, match="no evacuation of this workload at work"):
            list(let_go(block, LinuxHost(root=block.root)))
        assert context.adapters.host.guard(context.cordon_files.marker)


@pytest.mark.parametrize("incident", ["../../etc", "IR-20260102T030406Z", ""])
def test_a_forged_marker_is_not_followed(small: SmallWorkload, incident: str) -> None:
    block = small.block()
    block.evidence.mkdir()
    (block.evidence / "cordon.json").write_text(json.dumps({"incident": incident, "pid": 1, "start": 1}))
    with pytest.raises(Refused):
        list(let_go(block, LinuxHost(root=block.root)))


def test_a_marker_that_a_reboot_left_is_told_and_removed(small: SmallWorkload) -> None:
    block = small.block()
    with case_of(block) as context:
        marker = {"incident": INCIDENT, "pid": 2**22, "start": 1, "since": "then", "reason": "why"}
        context.cordon_files.marker.write_text(json.dumps(marker))
        assert told(block)["cordon"].startswith(f"marker without a guard (a reboot?) since then for {INCIDENT}: why")
        context.close()
        list(let_go(block, LinuxHost(root=block.root)))
        assert not context.cordon_files.marker.exists()


def test_as_a_person_types_it(small: SmallWorkload, tmp_path: Path) -> None:
    file = tmp_path / "evacuation.toml"
    file.write_text(
        f"[workload.small]\nroot = {json.dumps(str(small.root))}\n[store.s]\ncredentials = 'aws-credentials/x'\n"
    )
    for verb, words in (("status", "workload  nothing of it runs"), ("uncordon", "no cordon stands")):
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", verb, file], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert f"small on {small.block().host}, {small.root}" in done.stdout
        assert words in done.stdout


@pytest.mark.parametrize("there", ["gone", "a file"])
def test_of_a_root_that_is_no_folder_the_first_line_says_so_and_none_that_nothing_runs(
    small: SmallWorkload, there: str
) -> None:
    """It was not mounted, or mistyped, while the API served: "nothing of it runs"."""
    small.start_all()
    block = small.block(evidence_dir=small.root.parent / "evidence").model_copy(update={"root": small.root / "x"})
    if there == "a file":
        block.root.write_text("")
    lines = [*status(block, LinuxHost(root=block.root))]
    assert lines[0].startswith(f"root      {block.root} is no folder here: not mounted, or mistyped?")
    assert not any("nothing of it runs" in line for line in lines)


def test_a_line_that_a_full_disk_has_torn_takes_no_other_newcomer_with_it(small: SmallWorkload) -> None:
    """They were left frozen for ever, and nobody was told."""
    with case_of(small.block()) as context:
        cordon.fn(context)
        small.start(WORKERS="0")
        wait_until(lambda: find_held(context.adapters.host, context.workload), what="the newcomer to be caught")
        with context.cordon_files.caught.open("a") as file:
            file.write('{"at": "2026-11-2')
        assert len(find_held(context.adapters.host, context.workload)) == 1


def left_by_a_start_that_died(small: SmallWorkload) -> tuple[Workload, psutil.Process]:
    """A training that an early freeze has stopped, with the file that names it, and no run."""
    block = small.block()
    block.evidence.mkdir()
    training = psutil.Process(small.start(WORKERS="0").pid)
    wait_until(lambda: training.status() == psutil.STATUS_SLEEPING, what="the training at work")
    stand(training)
    row = {"pid": training.pid, "start": start_of(training.pid), "at": "2026-01-02T03:04:05+00:00"}
    (block.evidence / EARLY).write_text(json.dumps([row]))
    return block, training


def test_what_a_run_froze_that_died_before_its_cordon_is_thawed_by_uncordon(small: SmallWorkload) -> None:
    """No incident, no guard, no cordon: `nothing was done` was said while they stood frozen for ever."""
    block, training = left_by_a_start_that_died(small)
    (first, *_) = let_go(block, LinuxHost(root=block.root))
    assert first.endswith(f": {training.pid}")
    assert training.status() != psutil.STATUS_STOPPED
    assert list(let_go(block, LinuxHost(root=block.root))) == ["no cordon stands; nothing was done"]


@contextmanager
def stopped_sleeper(folder: Path, *arguments: str) -> Iterator[psutil.Process]:
    """A stranger's process that stands, as after Ctrl-Z; it works in this folder."""
    with psutil.Popen([sys.executable, "-c", "import time; time.sleep(600)", *arguments], cwd=folder) as process:
        wait_until(lambda: process.status() == psutil.STATUS_SLEEPING, what="the stranger at work")
        stand(process)
        try:
            yield process
        finally:
            process.kill()


def caught_line(process: psutil.Process) -> str:
    about = {"at": "2026-11-24T00:00:00+00:00", "command": "forged", "role": "training"}
    return json.dumps({**about, "identity": {"pid": process.pid, "start": start_of(process.pid)}}) + "\n"


@pytest.mark.parametrize("place", ["elsewhere", "in the root"])
def test_a_stranger_that_a_file_of_ours_names_is_neither_ended_nor_thawed(
    small: SmallWorkload, tmp_path: Path, place: str
) -> None:
    """As root, whatever stopped process `caught-….jsonl` named got SIGKILL, wherever the file came from."""
    block = small.block()
    with case_of(block) as context, stopped_sleeper(small.root if place == "in the root" else tmp_path) as stranger:
        cordon.fn(context)
        context.cordon_files.caught.write_text(caught_line(stranger))
        row = {"pid": stranger.pid, "start": start_of(stranger.pid), "at": "2026-01-02T03:04:05+00:00"}
        (block.evidence / EARLY).write_text(json.dumps([row]))
        context.close()
        said = list(let_go(block, LinuxHost(root=block.root)))
        assert stranger.status() == psutil.STATUS_STOPPED
        assert [line for line in said if f"left frozen: process {stranger.pid}" in line and "kill -KILL" in line]
        assert "終了していません" in "".join(said)
        assert [who.pid for who in read_early(block.evidence / EARLY).frozen] == [stranger.pid]
        lines = let_go(block, LinuxHost(root=block.root))
        assert [line for line in lines if f"left frozen: process {stranger.pid}" in line]
        stranger.resume()
        list(let_go(block, LinuxHost(root=block.root)))
        assert not (block.evidence / EARLY).exists()


@pytest.mark.parametrize("forge", ["another user's", "others may write", "a link", "a pipe"])
def test_a_file_that_others_may_have_written_ends_nobody_and_is_named(
    small: SmallWorkload, tmp_path: Path, forge: str
) -> None:
    """A person's own stopped training is a member too: who may write the file would decide of it."""
    if forge == "another user's" and os.geteuid():
        pytest.skip("only root can give a file away")
    block = small.block()
    with case_of(block) as context:
        cordon.fn(context)
        assert context.adapters.host.release(context.cordon_files.marker)
        training = psutil.Process(small.start(WORKERS="0").pid)
        wait_until(lambda: training.status() == psutil.STATUS_SLEEPING, what="the training at work")
        stand(training)
        written = tmp_path / "written"
        written.write_text(caught_line(training))
        context.cordon_files.marker.write_text(json.dumps({"incident": INCIDENT, "pid": 2**22, "start": 1}))
        context.cordon_files.caught.unlink(missing_ok=True)
        if forge == "a link":
            context.cordon_files.caught.symlink_to(written)
        elif forge == "a pipe":
            os.mkfifo(context.cordon_files.caught)
        else:
            written.rename(context.cordon_files.caught)
            context.cordon_files.caught.chmod(0o666 if forge == "others may write" else 0o644)
            os.chown(context.cordon_files.caught, 12345 if forge == "another user's" else -1, -1)
        context.close()
        said = list(let_go(block, LinuxHost(root=block.root)))
        assert training.status() == psutil.STATUS_STOPPED
        assert [line for line in said if str(context.cordon_files.caught) in line and "stays frozen" in line]


def test_what_a_file_in_a_folder_of_the_workloads_account_names_is_ended_if_it_is_the_workload(
    small: SmallWorkload,
) -> None:
    """The evidence lies in the root, and the root is the workload's: honest users are not left behind."""
    block = small.block(evidence_dir=small.root / "evidence")
    with case_of(block) as context:
        if os.geteuid() == 0:
            os.chown(small.root, 12345, -1)
            os.chown(block.evidence, 12345, -1)
        cordon.fn(context)
        launch(small)
        wait_until(lambda: find_held(context.adapters.host, block), what="the guard's catch")
        context.close()
        assert "ended, it was caught" in "".join(let_go(block, LinuxHost(root=block.root)))
        assert small.living() == []


def test_a_caught_file_that_was_put_there_before_keeps_no_newcomer_from_its_end(small: SmallWorkload) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    block = small.block()
    with case_of(block) as context:
        context.cordon_files.caught.write_text("")
        os.chown(context.cordon_files.caught, 12345, -1)
        cordon.fn(context)
        launch(small)
        wait_until(lambda: find_held(context.adapters.host, block), 20, what="the guard's catch in a file of its own")


def test_a_journal_that_another_user_has_put_there_is_not_read(small: SmallWorkload) -> None:
    block = small.block()
    with case_of(block) as context:
        cordon.fn(context)
        launch(small)
        wait_until(lambda: find_held(context.adapters.host, block), what="the guard's catch")
        forged = block.evidence / "IR-20260101T000000Z"
        forged.mkdir()
        forged.chmod(0o777)
        (forged / FROZEN).write_text(
            json.dumps([json.loads(line) for line in context.cordon_files.caught.read_text().splitlines()])
        )
        assert find_held(context.adapters.host, block), "a forged journal would have kept them frozen for ever"


def test_a_marker_never_makes_us_end_whoever_only_bears_the_guards_name(small: SmallWorkload) -> None:
    block = small.block()
    with case_of(block) as context:
        marker = str(context.cordon_files.marker)
        for arguments in ((GUARD, marker), ("-m", GUARD, marker), ("-m", GUARD, "3", marker, "x")):
            with stopped_sleeper(small.root.parent, *arguments) as stranger:
                about = {"incident": INCIDENT, "pid": stranger.pid, "start": start_of(stranger.pid)}
                context.cordon_files.marker.write_text(json.dumps(about))
                assert context.adapters.host.release(context.cordon_files.marker)
                stranger.resume()
                wait_until(lambda who=stranger: who.status() == psutil.STATUS_SLEEPING, 5)  # type: ignore[misc]


def test_an_incident_whose_folder_was_exchanged_is_not_written_into(small: SmallWorkload) -> None:
    block = small.block()
    with case_of(block) as context:
        cordon.fn(context)
        context.close()
        context.directory.path.rename(block.evidence / "aside")
        context.directory.path.mkdir()
        context.directory.path.chmod(0o777)
        (context.directory.path / "incident.json").write_text("{}")
        with pytest.raises(Refused, match="an incident of this host"):
            list(let_go(block, LinuxHost(root=block.root)))
        assert sorted(path.name for path in context.directory.path.iterdir()) == ["incident.json"]


def test_a_journal_of_an_exchanged_folder_makes_nothing_recovered(small: SmallWorkload) -> None:
    """Its `recovered.json` spared whom it named, and told that our own recovery had let training in."""
    with case_of(small.block()) as context:
        training = psutil.Process(small.start(WORKERS="0").pid)
        context.directory.path.rename(context.directory.path.with_name("aside"))
        context.directory.path.mkdir()
        context.directory.path.chmod(0o777)
        named = {"pid": training.pid, "start": start_of(training.pid)}
        (context.directory.path / "recovered.json").write_text(json.dumps([named]))
        assert context.state.recovered.read() == []


def test_nobody_is_thawed_by_a_file_that_others_may_have_written(small: SmallWorkload) -> None:
    block, training = left_by_a_start_that_died(small)
    (block.evidence / EARLY).chmod(0o666)
    (said,) = let_go(block, LinuxHost(root=block.root))
    assert f"expected {block.evidence / EARLY} to be a file that only we can write" in said
    assert training.status() == psutil.STATUS_STOPPED
    assert (block.evidence / EARLY).exists(), "a person has to look at it"


def test_what_an_incident_holds_is_not_thawed_with_what_a_killed_start_has_left(small: SmallWorkload) -> None:
    """Killed between its journal and the end of the early file, a run has left both."""
    block = small.block()
    training = psutil.Process(small.start(WORKERS="0").pid)
    wait_until(lambda: training.status() == psutil.STATUS_SLEEPING, what="the training at work")
    with case_of(block) as context:
        freeze.fn(context)
        row = {"pid": training.pid, "start": start_of(training.pid), "at": "2026-01-02T03:04:05+00:00"}
        (block.evidence / EARLY).write_text(json.dumps([row]))
        context.close()
        list(let_go(block, LinuxHost(root=block.root)))
        assert training.status() == psutil.STATUS_STOPPED


def test_uncordon_ends_with_0_only_if_nothing_stays_frozen(small: SmallWorkload, tmp_path: Path) -> None:
    block = small.block()
    training = psutil.Process(small.start(WORKERS="0").pid)
    wait_until(lambda: training.status() == psutil.STATUS_SLEEPING, what="the training at work")
    file = tmp_path / "evacuation.toml"
    file.write_text(
        f'[workload.small]\nroot = "{small.root}"\nlock = "{block.lock}"\nevidence_dir = "{block.evidence}"\n'
    )
    with case_of(block) as context:
        cordon.fn(context)
        freeze.fn(context)
        context.close()
        assert run(["uncordon", str(file)]) == INCOMPLETE
        training.resume()
        assert run(["uncordon", str(file)]) == 0
