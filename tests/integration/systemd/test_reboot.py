"""SIGKILL of a run in the middle, a reboot, and the same incident carried on: what the host and the record say."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tasks.custody.containment.receipt import End
from tasks.custody.incident.exit_codes import EXIT_CODES
from tasks.incident.layout import FROZEN, of_any_boot
from tests.support.booted_host import PROJECT, BootedHost
from tests.support.served_workload import ServedWorkload
from tests.support.workloads import wait_until

pytestmark = pytest.mark.soak  # runs by hand on a booted host: a minute each

DIE = PROJECT / "tests/e2e/flow/die.py"
MOMENTS = [
    ("step done", "§1 cordon"),
    ("frozen", ""),
    ("step done", "§2 freeze"),
    ("deviation", "thaw"),
    ("stopped", ""),
    ("step done", "§3 check"),
    ("sealed", ""),
    ("step done", "§5 claim"),
    ("step done", "§6 check"),
    ("turn begun", ""),
    ("verdict", ""),
]
BEFORE_THE_LOOK = [("frozen", ""), ("step done", "§2 freeze")]


def die_and_boot_again(workload: ServedWorkload, action: str, subject: str) -> None:
    """Evacuate until this entry of the custody log, die by SIGKILL, and take the host's power away."""
    host = workload.host
    started = ["systemd-run", "--quiet", "--wait", "--collect", f"--setenv=PYTHONPATH={PROJECT}"]
    host.run([*started, sys.executable, str(DIE), action, subject, workload.file])
    assert f'"action": "{action}"' in host.read(f"{workload.evidence}/{workload.incident()}/custody.jsonl")
    host.reboot()


class Rebooted(NamedTuple):
    """A workload after its evacuation died, the host was booted again, and the incident was carried on.

    `began` is when the reboot has started the guard's unit, where there is one, and the API's.
    """

    workload: ServedWorkload
    began: list[int]
    incident: str
    states: set[str]
    status: str
    output: str


@contextmanager
def rebooted_in(folder: Path, *, guard: bool) -> Iterator[Rebooted]:
    """A training of no installed unit, which the reboot ends, and an API whose service each boot starts."""
    with BootedHost(folder / "host") as host:
        workload = ServedWorkload(host, folder, "served", stop_supervisors=True)
        workload.start_training()
        workload.install_api("Restart=always")
        unit = workload.install_guard() if guard else workload.api
        die_and_boot_again(workload, "step done", "§2 freeze")
        for each in (unit, workload.api):
            host.wait_for_unit(each)
        began = [int(host.shown(each, "ActiveEnterTimestampMonotonic")) for each in (unit, workload.api)]
        if guard:
            wait_until(lambda: workload.states() == {"T"}, what="the guard's next look")
        incident, states = workload.incident(), workload.states()
        status = host.run([sys.executable, "-m", "flows.cli", "status", workload.file], check=True).stdout
        done = workload.evacuate("--incident", incident)
        yield Rebooted(workload, began, incident, states, status, done.stdout)


@pytest.fixture(scope="module")
def rebooted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rebooted]:
    """On a host without the guard's unit."""
    with rebooted_in(tmp_path_factory.mktemp("rebooted"), guard=False) as after:
        yield after


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rebooted]:
    """On a host with the guard's unit."""
    with rebooted_in(tmp_path_factory.mktemp("guarded"), guard=True) as after:
        yield after


def test_status_says_that_the_cordon_is_a_marker_without_a_guard_and_what_runs(rebooted: Rebooted) -> None:
    assert f"incident  {rebooted.incident}  not finished" in rebooted.status
    assert "marker without a guard (a reboot?)" in rebooted.status
    assert " runs: /srv/served/venv/bin/python -m uvicorn api.app:app" in rebooted.status


def test_the_same_incident_is_carried_on_and_says_that_the_reboot_took_the_look(rebooted: Rebooted) -> None:
    carried_on(rebooted)


def carried_on(after: Rebooted) -> None:
    workload = after.workload
    assert after.output.startswith("Partial: "), after.output
    assert "tree" in after.output
    assert "an earlier run's look" in after.output
    assert workload.incident() == after.incident
    assert workload.living() == []
    assert workload.guard()
    record = workload.record()
    assert record["watch"]["stopped"] == [f"systemd unit {workload.api}"]
    assert record["incident"]["boot"] != workload.host.boot_id


def test_the_record_says_what_the_reboot_ended(rebooted: Rebooted) -> None:
    ended = [receipt["command"] for receipt in rebooted.workload.record()["stop"]["processes"]]
    assert [command for command in ended if "src/train.py" in command]


def test_after_a_reboot_nothing_of_the_workload_computes_under_the_standing_cordon(guarded: Rebooted) -> None:
    assert guarded.states <= {"T"}
    guard, api = guarded.began
    assert 0 < guard < api


def test_with_the_guards_unit_the_same_incident_is_carried_on_by_a_run_that_needs_no_other_guard(
    guarded: Rebooted,
) -> None:
    carried_on(guarded)
    unit = guarded.workload.install_guard()
    assert int(guarded.workload.host.shown(unit, "MainPID")) == guarded.workload.guard()


def test_status_names_what_stands_frozen_with_the_guard_alone(guarded: Rebooted) -> None:
    assert f"cordon    guard {guarded.workload.guard()} holds /srv/served.lock" in guarded.status
    assert " frozen: /srv/served/venv/bin/python -m uvicorn api.app:app" in guarded.status


def identity(row: dict[str, Any]) -> tuple[int, int]:
    return row["identity"]["pid"], row["identity"]["start"]


def frozen_in_all_boots(workload: ServedWorkload) -> set[tuple[int, int]]:
    """Whom the incident has frozen before the reboot and after it, by its journals."""
    host, home = workload.host, f"{workload.evidence}/{workload.incident()}"
    files = host.run(["sh", "-c", f"ls {home}/{of_any_boot(FROZEN)}"], check=True).stdout.split()
    return {identity(row) for file in files for row in json.loads(host.read(file))}


@pytest.mark.parametrize(("action", "subject"), MOMENTS)
def test_killed_at_any_moment_and_booted_again(tmp_path: Path, action: str, subject: str) -> None:
    with BootedHost(tmp_path / "host") as host:
        workload = ServedWorkload(host, tmp_path, "served", stop_supervisors=True)
        workload.start_training()
        workload.install_api("Restart=always")
        workload.install_guard()
        die_and_boot_again(workload, action, subject)
        incident = workload.incident()
        wait_until(lambda: workload.states() <= {"T"}, what="the guard's next look")
        done = workload.evacuate("--incident", incident)
        expected = EXIT_CODES["Partial" if (action, subject) in BEFORE_THE_LOOK else "Verified"]
        assert done.returncode == expected, done.stdout + done.stderr[-2000:]
        assert (workload.incident(), workload.living()) == (incident, [])
        receipts = workload.record()["stop"]["processes"]
        assert frozen_in_all_boots(workload) <= {identity(receipt) for receipt in receipts}
        assert {receipt["end"] for receipt in receipts} <= {End.STOPPED, End.KILLED, End.REBOOT}
