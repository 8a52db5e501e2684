"""A frozen evacuation is called off: everything as it was, by real processes, without a Prefect server."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from unittest.mock import Mock

import psutil
import pytest
from prefect.settings import get_current_settings

from flows.cli import run
from tasks.cli.status import status
from tasks.cli.thaw import thaw_by_hand
from tasks.containment.cordon import caught, cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.custody.errors import Refused
from tasks.custody.incident.commands import by_hand
from tasks.custody.incident.exit_codes import EXIT_CODES, INCOMPLETE
from tasks.host.host import LinuxHost
from tasks.host.process.table import start_of
from tasks.incident.current import last_verdict, unfinished_incident
from tasks.incident.joining import past
from tasks.incident.layout import CAUGHT, EARLY, FROZEN, STOPPED
from tasks.incident.run_lock import give_up_ownership
from tasks.prefect_side.local_config import LocalConfig, using_local_config
from tasks.preflight.reopen import Reopening, reopen
from tasks.prestart.freeze import freeze_described
from tasks.runtime.context import RunContext
from tests.integration.host.test_operate import stopped_sleeper
from tests.support.run_context import INCIDENT, case_of
from tests.support.workloads import SmallWorkload, stand, wait_until

LATER = "IR-20260103T030405Z"
STOOD = psutil.STATUS_STOPPED


def keep_guard(context: RunContext) -> None:
    """Let the guard stand when the case is closed, as after a real run."""
    context.adapters.host = LinuxHost(root=context.workload.root)
    context.adapters.host.release = Mock(return_value=False)  # type: ignore[method-assign]


class Frozen:
    """An incident of a small workload that a run has frozen and left, with the file that an operator has."""

    def __init__(self, small: SmallWorkload, folder: Path) -> None:
        """Nothing is frozen yet."""
        self.small, self.block = small, small.block()
        self.toml, self.home = folder / "evacuation.toml", self.block.evidence / INCIDENT
        self.toml.write_text(f"[workload.test]\nroot = {json.dumps(str(small.root))}\nlock = '{self.block.lock}'\n")

    def freeze(self, *, with_stop: bool = False, incident: str = INCIDENT) -> None:
        """As a run that was cancelled, or killed, right after it."""
        with case_of(self.block, incident=incident) as context:
            (self.block.evidence / "open.json").write_bytes((context.directory.path / "incident.json").read_bytes())
            cordon.fn(context)
            freeze.fn(context)
            if with_stop:
                stop.fn(context)
            marker = context.cordon_files.marker.read_bytes()
            keep_guard(context)
        assert self.block.evidence.joinpath("cordon.json").read_bytes() == marker

    def thaw(self) -> int:
        """As typed."""
        return thaw_by_hand(str(self.toml))

    def die_early(self) -> None:
        """As a start that was killed before its run had opened an incident."""
        assert freeze_described({**self.block.model_dump(mode="json"), "host": self.block.host}) is not None
        give_up_ownership(self.block.evidence)
        wait_until(lambda: {*self.states().values()} == {STOOD}, what="the stop of each")

    def states(self) -> dict[int, str]:
        """How each process in the root stands."""
        return {process.pid: process.status() for process in self.small.living()}

    def entries(self) -> list[dict[str, object]]:
        """The custody log."""
        return [json.loads(line) for line in (self.home / "custody.jsonl").read_text().splitlines()]


@pytest.fixture
def frozen(small: SmallWorkload, tmp_path: Path) -> Iterator[Frozen]:
    yield Frozen(small, tmp_path)
    LinuxHost().release(small.block().evidence / "cordon.json")


def test_everything_goes_on_the_lock_is_free_and_the_incident_is_over(
    frozen: Frozen, capsys: pytest.CaptureFixture[str]
) -> None:
    frozen.small.start_all()
    frozen.freeze()
    assert any("evacuation thaw " in line for line in status(frozen.block, LinuxHost(root=frozen.block.root)))
    before = frozen.states()
    assert set(before.values()) == {STOOD}
    assert len(before) == 4
    assert frozen.thaw() == 0
    after = frozen.states()
    assert after.keys() == before.keys()
    assert STOOD not in after.values()
    assert frozen.small.healthy()
    host = LinuxHost(root=frozen.block.root)
    assert not host.refuses(frozen.block.lock)
    assert not host.guard(frozen.block.evidence / "cordon.json")
    assert json.loads((frozen.home / "record/001/closing.json").read_bytes())["verdict"] == "THAWED"
    facts = json.loads((frozen.home / "record/001/verdict.json").read_bytes())
    assert "4 let go" in facts["verdict"]["safe"][0]
    at = max(each["frozen_at"] for each in facts["freeze"]["processes"])
    assert (facts["freeze"]["at"], facts["freeze"]["settled"]) == (at, True), "that of the freeze, not of the thaw"
    assert "解凍済み" in (frozen.home / "record/001/postmortem.md").read_text()
    assert [entry["action"] for entry in frozen.entries()].count("thawed") == 1
    assert unfinished_incident(frozen.block) is None
    told = capsys.readouterr().out
    assert "THAWED 解凍済み" in told
    assert f"incident  {INCIDENT}  PartlyThawed; its evidence is THAWED" in told
    assert (
        "next      write the postmortem, if that is not done yet; the line shows its fields ポストモーテムを記入:"
        in list(status(frozen.block, host))
    )


def test_a_second_time_nothing_is_done_and_it_is_no_error(frozen: Frozen, capsys: pytest.CaptureFixture[str]) -> None:
    frozen.small.start_all()
    frozen.freeze()
    assert frozen.thaw() == 0
    (training,) = (each for each in frozen.small.living() if each.pid == frozen.small.started[1].pid)
    stand(training)  # by a person, after the thaw
    assert frozen.thaw() == 0
    assert training.status() == STOOD
    assert "was thawed already" in capsys.readouterr().out
    assert not (frozen.home / "record/002").exists()


@pytest.mark.whole
def test_the_open_incident_is_thawed_also_after_one_that_was_thawed_by_hand(
    frozen: Frozen, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every thaw by hand has the same words for a run, and they were taken for a retry of the one before."""
    frozen.small.start_all()
    frozen.freeze()
    assert frozen.thaw() == 0
    frozen.freeze(incident=LATER)
    assert set(frozen.states().values()) == {STOOD}
    assert frozen.thaw() == 0
    assert STOOD not in frozen.states().values()
    assert f"{LATER}: THAWED" in capsys.readouterr().out


@pytest.mark.short(1)
@pytest.mark.parametrize("verb", ["thaw", "uncordon"])
@pytest.mark.parametrize("thawed", [False, True], ids=["the first", "after a thawed one"])
def test_what_a_start_has_frozen_that_died_before_its_incident_is_let_go(
    frozen: Frozen, capsys: pytest.CaptureFixture[str], verb: str, *, thawed: bool
) -> None:
    """The thaw said that nothing can be thawed any more; after a thawed incident the uncordon forgot whom it holds."""
    frozen.small.start_all()
    if thawed:
        frozen.freeze()
        assert frozen.thaw() == 0
    frozen.die_early()
    assert run([verb, str(frozen.toml)]) == 0
    assert STOOD not in frozen.states().values()
    assert "thawed, a run that died before it began had frozen them: " in capsys.readouterr().out
    assert not (frozen.block.evidence / EARLY).exists()


def test_nothing_ends_with_0_while_something_stands_frozen_and_the_reason_is_told(
    frozen: Frozen, capsys: pytest.CaptureFixture[str]
) -> None:
    frozen.small.start_all()
    frozen.freeze()
    assert run(["uncordon", str(frozen.toml)]) == INCOMPLETE
    told = capsys.readouterr().out
    assert f"exit      {INCOMPLETE}: 4 stand frozen, and what {INCIDENT} has frozen is that incident's" in told
    assert f"evacuation thaw {frozen.toml}" in told
    assert frozen.thaw() == 0
    frozen.die_early()
    (frozen.block.evidence / EARLY).chmod(0o666)
    capsys.readouterr()
    for verb in ("thaw", "uncordon"):
        assert run([verb, str(frozen.toml)]) == INCOMPLETE
        assert f"exit      {INCOMPLETE}: whom a file names that is not ours is not known" in capsys.readouterr().out
    assert set(frozen.states().values()) == {STOOD}


def test_what_a_person_had_stopped_before_stays_stopped_and_is_named(frozen: Frozen) -> None:
    frozen.small.start_all()
    training = psutil.Process(frozen.small.started[1].pid)
    (mine, other) = training.children()
    stand(mine)
    frozen.freeze()
    frozen.freeze()  # carried on: by now everything stands
    assert set(frozen.states().values()) == {STOOD}
    assert frozen.thaw() == 0
    assert mine.status() == STOOD
    assert STOOD not in {training.status(), other.status()}
    (entry,) = (each for each in frozen.entries() if each["action"] == "thawed")
    assert entry["stood"] == [f"process {mine.pid}"]


@pytest.mark.whole
def test_after_a_thaw_nobody_is_advised_to_evacuate_what_a_person_has_stopped(frozen: Frozen) -> None:
    frozen.small.start_all()
    training = psutil.Process(frozen.small.started[1].pid)
    before, after = training.children()
    stand(before)
    frozen.freeze()
    newcomer = psutil.Process(frozen.small.start(WORKERS="0").pid)
    rows = frozen.block.evidence / CAUGHT
    wait_until(lambda: rows.exists() and str(newcomer.pid) in rows.read_text(), what="the guard's word")
    assert frozen.thaw() == 0
    stand(after)
    stand(newcomer)
    lines = list(status(frozen.block, LinuxHost(root=frozen.block.root)))
    assert [line for line in lines if line.startswith(("next", "or", "alone", "held"))] == [
        "next      write the postmortem, if that is not done yet; the line shows its fields ポストモーテムを記入:"
    ]
    assert not any("evacuation run" in line for line in lines)
    assert sum(" stopped: " in line for line in lines) == 3
    frozen.freeze()
    lines = list(status(frozen.block, LinuxHost(root=frozen.block.root)))
    assert any(line.startswith("held") or " frozen: " in line for line in lines)


@pytest.mark.whole
@pytest.mark.parametrize("name", [CAUGHT, EARLY])
def test_a_strangers_stopped_job_in_the_root_is_not_touched_and_is_told_until_a_person_has_decided(
    frozen: Frozen, name: str
) -> None:
    """It ended Thawed although one stood, and of what a start that died had stopped nothing told any more."""
    frozen.small.start_all()
    with stopped_sleeper(frozen.small.root) as stranger:
        frozen.freeze()
        row = {"at": "2099-01-01T00:00:00+00:00", "pid": stranger.pid, "start": start_of(stranger.pid)}
        with (frozen.block.evidence / name).open("a") as file:
            file.write(json.dumps(row) + "\n" if name == CAUGHT else json.dumps([row]))
        for _ in range(2):
            assert frozen.thaw() == EXIT_CODES["NotContained"]
            assert stranger.status() == STOOD
            *_, entry = (each for each in frozen.entries() if each["action"] == "thawed")
            (told,) = cast("list[str]", entry["left"])
            assert told.startswith(f"left frozen: process {stranger.pid} (")
        assert list(frozen.states().values()).count(STOOD) == 1
    assert frozen.thaw() == 0
    assert not (frozen.block.evidence / EARLY).exists()


def test_a_newcomer_that_the_guard_caught_goes_on_as_well(frozen: Frozen) -> None:
    frozen.small.start_all()
    frozen.freeze()
    newcomer = psutil.Process(frozen.small.start(WORKERS="0").pid)
    wait_until(lambda: newcomer.status() == STOOD, what="the guard's catch")
    rows = frozen.block.evidence / CAUGHT
    wait_until(lambda: rows.exists() and str(newcomer.pid) in rows.read_text(), what="the guard's word")
    assert frozen.thaw() == 0
    assert newcomer.status() != STOOD
    assert STOOD not in frozen.states().values()


def caught_newcomer(frozen: Frozen) -> psutil.Process:
    """A training started under the cordon, which the guard has stopped and written down."""
    newcomer = psutil.Process(frozen.small.start(WORKERS="0").pid)
    rows = frozen.block.evidence / CAUGHT
    wait_until(lambda: rows.exists() and str(newcomer.pid) in rows.read_text(), what="the guard's word")
    return newcomer


def test_what_an_earlier_incident_has_frozen_is_ours_and_what_a_person_had_stopped_before_that_is_not(
    frozen: Frozen,
) -> None:
    """Its guard's newcomer and its run's workload were told as stopped before us, and stood for ever after a 0."""
    frozen.small.start_all()
    training = psutil.Process(frozen.small.started[1].pid)
    (persons, other) = training.children()
    stand(persons)
    frozen.freeze()
    newcomer = caught_newcomer(frozen)
    frozen.freeze(incident=LATER)
    frozen.home = frozen.block.evidence / LATER
    assert set(frozen.states().values()) == {STOOD}
    assert frozen.thaw() == 0
    assert [pid for pid, state in frozen.states().items() if state == STOOD] == [persons.pid]
    assert {newcomer.pid, training.pid, other.pid} <= frozen.states().keys()
    (entry,) = (each for each in frozen.entries() if each["action"] == "thawed")
    assert entry["stood"] == [f"process {persons.pid}"]


@pytest.mark.parametrize("way", ["the guard's", "the run's"])
def test_what_a_person_stops_after_a_thaw_is_theirs_for_the_next_incident(frozen: Frozen, way: str) -> None:
    """The journals of the thawed one must not count as ours again, or the next thaw lets it go."""
    frozen.small.start_all()
    frozen.freeze()
    newcomer = caught_newcomer(frozen)
    assert frozen.thaw() == 0
    one = newcomer if way == "the guard's" else psutil.Process(frozen.small.started[1].pid)
    stand(one)
    frozen.freeze(incident=LATER)
    assert frozen.thaw() == 0
    assert [pid for pid, state in frozen.states().items() if state == STOOD] == [one.pid]


def test_what_the_guard_met_before_the_freeze_is_known_to_have_run(frozen: Frozen) -> None:
    """The guard stops it first, so the freeze finds it stopped: nobody but us has done that."""
    frozen.small.start_all()
    with case_of(frozen.block) as context:
        (frozen.block.evidence / "open.json").write_bytes((context.directory.path / "incident.json").read_bytes())
        cordon.fn(context)
        wait_until(
            lambda: len(caught(context.cordon_files, context.incident.opened_at)) == 4,
            what="the guard, which meets the workload first",
        )
        freeze.fn(context)
        keep_guard(context)
    assert json.loads((frozen.home / FROZEN).read_bytes())[0]["stood"] is True
    assert frozen.thaw() == 0
    assert STOOD not in frozen.states().values()


def test_after_a_thaw_a_recovery_is_refused_with_the_line_that_there_is(frozen: Frozen) -> None:
    """It told to carry the thawed incident on by a parameter that no command line has, and that would be refused."""
    frozen.small.start_all()
    frozen.freeze()
    assert frozen.thaw() == 0
    known = LocalConfig(frozen.block, {}, get_current_settings())
    with by_hand(str(frozen.toml), ""), using_local_config(known), pytest.raises(Refused) as refused:
        reopen.fn(Reopening("test", "none", None, "", "a run"))
    assert f"To evacuate now: evacuation run {frozen.toml}" in str(refused.value)
    assert "incident_id" not in str(refused.value)


def test_after_a_stop_it_can_no_longer_be_as_it_was(frozen: Frozen) -> None:
    frozen.small.start_all()
    frozen.freeze(with_stop=True)
    with pytest.raises(Refused, match=r"something of it was stopped already.*Carry it on"):
        frozen.thaw()
    assert LinuxHost().guard(frozen.block.evidence / "cordon.json")


def test_once_a_stop_has_begun_it_is_refused_although_no_receipt_was_written(frozen: Frozen) -> None:
    frozen.small.start_all()
    frozen.freeze(with_stop=True)
    (frozen.home / STOPPED).unlink()
    with pytest.raises(Refused, match="its stop has begun"):
        frozen.thaw()


def test_while_a_run_is_at_work_that_one_is_to_be_cancelled_first(frozen: Frozen) -> None:
    frozen.small.start_all()
    frozen.freeze()
    with case_of(frozen.block) as context:
        with pytest.raises(Refused, match="Cancel it in Prefect"):
            frozen.thaw()
        keep_guard(context)
    assert set(frozen.states().values()) == {STOOD}


def test_without_an_incident_and_on_another_host_it_is_refused(frozen: Frozen) -> None:
    with pytest.raises(Refused, match="an incident of test on this host; got none"):
        frozen.thaw()
    frozen.toml.write_text(frozen.toml.read_text() + 'host = "elsewhere"\n')
    with pytest.raises(Refused, match="to run on elsewhere"):
        frozen.thaw()


@pytest.mark.parametrize("name", [CAUGHT, f"{INCIDENT}/{FROZEN}"])
def test_a_file_that_others_may_have_written_lets_nobody_go(frozen: Frozen, tmp_path: Path, name: str) -> None:
    frozen.small.start_all()
    frozen.freeze()
    path = frozen.block.evidence / name
    written = tmp_path / "written"
    written.write_bytes(path.read_bytes() if path.exists() else b"")
    path.unlink(missing_ok=True)
    path.symlink_to(written)
    with pytest.raises(Refused, match="journals that only we can write"):
        frozen.thaw()
    assert set(frozen.states().values()) == {STOOD}


DIE = """
import os, signal, sys
from tasks.host import host
from tasks.cli.thaw import thaw_by_hand
from tasks.containment.release import thaw

sent = []
def thaw_and_die(*given):
    if len(sent) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    sent.append(host.thaw_process(*given))
    return sent[-1]
thaw.thaw_process = thaw_and_die
thaw_by_hand(sys.argv[1])
"""


def test_killed_half_way_and_done_again_as_a_person_types_it(frozen: Frozen) -> None:
    frozen.small.start_all()
    frozen.freeze()
    died = subprocess.run([sys.executable, "-c", DIE, frozen.toml], capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert list(frozen.states().values()).count(STOOD) == 2
    assert last_verdict(frozen.home) is None
    assert run(["thaw", f"{frozen.toml}:test"]) == 0
    assert STOOD not in frozen.states().values()
    assert json.loads((frozen.home / "record/001/closing.json").read_bytes())["verdict"] == "THAWED"


def test_what_was_let_go_may_fail_again_and_that_is_news(frozen: Frozen) -> None:
    frozen.small.start_all()
    frozen.freeze()
    (before,) = past([frozen.block.evidence])
    assert len(before.processes) == 4
    frozen.thaw()
    (after,) = past([frozen.block.evidence])
    assert (after.processes, after.thawed, after.stands) == (frozenset(), True, False)
    assert after.lifted
