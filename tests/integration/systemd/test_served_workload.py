"""An evacuation by hand of what systemd has started: contained, or told truthfully who brings it back."""

import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.booted_host import BootedHost
from tests.support.served_workload import ServedWorkload
from tests.support.workloads import wait_until


class Evacuated(NamedTuple):
    """A workload after its evacuation, and what the run said."""

    workload: ServedWorkload
    done: subprocess.CompletedProcess[str]

    @property
    def word(self) -> str:
        """The verdict's word."""
        return str(self.workload.record()["verdict"]["word"])


def evacuated(host: BootedHost, folder: Path, name: str, *properties: str, **fields: object) -> Evacuated:
    workload = ServedWorkload(host, folder, name, **fields)
    workload.start_training(*properties)
    return Evacuated(workload, workload.evacuate())


@pytest.fixture(scope="module")
def always(host: BootedHost, tmp_path_factory: pytest.TempPathFactory) -> Evacuated:
    """A training that systemd always starts again, which the evacuation may not stop."""
    return evacuated(host, tmp_path_factory.mktemp("always"), "always", "Restart=always")


def test_a_unit_that_may_not_be_stopped_is_named_and_what_it_brings_stays_frozen(
    host: BootedHost, always: Evacuated
) -> None:
    workload = always.workload
    assert (always.done.returncode, always.word) == (1, "NOTCONTAINED"), always.done.stdout
    assert f"systemd unit {workload.training} brings it back" in always.done.stdout
    assert workload.record()["watch"]["standing"] == [f"systemd unit {workload.training}"]
    assert workload.states() == {"T"}
    assert host.shown(workload.training, "ActiveState") == "active"


def test_the_guard_is_in_a_scope_of_its_own_and_freezes_what_the_unit_brings(
    host: BootedHost, always: Evacuated
) -> None:
    workload = always.workload
    guard = workload.guard()
    (scope,) = [line for line in host.read(f"/proc/{guard}/cgroup").splitlines() if line.startswith("0::")]
    assert scope.startswith("0::/system.slice/guard-")
    assert scope.endswith(".scope")
    (frozen,) = workload.living()
    host.run(["kill", "-KILL", str(frozen["pid"])], check=True)
    wait_until(lambda: {each["state"] for each in workload.living() if each != frozen} == {"T"}, what="its newcomer")
    assert workload.guard() == guard


def test_the_guard_outlives_the_stop_of_the_unit_that_ran_the_evacuation(host: BootedHost, tmp_path: Path) -> None:
    workload = ServedWorkload(host, tmp_path, "outlived")
    workload.start_training()
    unit = "outlived-worker.service"
    by_hand = ["sh", "-c", '"$@"; exec sleep infinity', "sh", *workload.by_hand()]
    host.run(["systemd-run", "--quiet", f"--unit={unit}", *by_hand], check=True)
    wait_until(lambda: host.run(["test", "-e", f"{workload.evidence}/cordon.json"]).returncode == 0, what="the guard")
    wait_until(workload.recorded, what="the end of the run")
    assert workload.record()["verdict"]["word"] == "VERIFIED"
    assert workload.living() == []
    assert host.shown(workload.training, "ActiveState") == "inactive"
    guard = workload.guard()
    host.run(["systemctl", "stop", unit], check=True)
    assert workload.guard() == guard
    assert host.run(["flock", "--nonblock", f"{workload.root}.lock", "true"]).returncode == 1


@pytest.mark.soak
def test_a_unit_that_may_be_stopped_is_stopped_and_stays_down(host: BootedHost, tmp_path: Path) -> None:
    workload, done = found = evacuated(host, tmp_path, "allowed", "Restart=always", stop_supervisors=True)
    assert (done.returncode, found.word) == (0, "VERIFIED"), done.stdout
    assert workload.record()["watch"]["stopped"] == [f"systemd unit {workload.training}"]
    assert workload.living() == []
    assert host.shown(workload.training, "ActiveState") == "inactive"


@pytest.mark.soak
@pytest.mark.parametrize("mode", ["control-group", "mixed", "process"])
@pytest.mark.parametrize("policy", ["graceful", "kill"])
def test_however_systemd_ends_the_rest_of_a_unit_every_process_is_contained(
    host: BootedHost, tmp_path: Path, mode: str, policy: str
) -> None:
    workload = ServedWorkload(host, tmp_path, f"{mode}-{policy}")
    workload.start_training(f"KillMode={mode}", workers=3)
    done = workload.evacuate("--policy", policy)
    assert done.returncode == 0, done.stdout
    assert workload.living() == []
    receipts = workload.record()["stop"]["processes"]
    assert len(receipts) == 4
    assert {receipt["end"] for receipt in receipts} <= {"stopped", "killed", "gone"}
    host.wait_for_unit(workload.training, "inactive" if policy == "graceful" else "failed")
