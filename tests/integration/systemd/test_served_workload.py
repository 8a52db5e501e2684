"""An evacuation by hand of what systemd has started: contained, or told truthfully who brings it back."""

from pathlib import Path

import pytest

from tests.support.booted_host import BootedHost
from tests.support.served_workload import ServedWorkload
from tests.support.workloads import wait_until

pytestmark = pytest.mark.soak  # runs by hand on a booted host: a minute each

UNIT = "always-worker.service"


@pytest.fixture(scope="module")
def always(host: BootedHost, tmp_path_factory: pytest.TempPathFactory) -> ServedWorkload:
    """A training that systemd always starts again, after its evacuation by a unit that may not stop it and lives on."""
    workload = ServedWorkload(host, tmp_path_factory.mktemp("always"), "always")
    workload.start_training("Restart=always")
    by_hand = ["sh", "-c", '"$@"; echo exit $?; exec sleep infinity', "sh", *workload.by_hand()]
    host.run(["systemd-run", "--quiet", f"--unit={UNIT}", *by_hand], check=True)
    wait_until(lambda: said(host)[-1:] in (["exit 0"], ["exit 1"]), 240, what="the end of the run")
    return workload


def said(host: BootedHost) -> list[str]:
    """What the evacuation has said so far, line by line."""
    return host.run(["journalctl", "--quiet", "--output=cat", f"--unit={UNIT}"], check=True).stdout.splitlines()


def test_a_unit_that_may_not_be_stopped_is_named_and_what_it_brings_stays_frozen(
    host: BootedHost, always: ServedWorkload
) -> None:
    *_, last = said(host)
    assert last == "exit 1"
    assert f"systemd unit {always.training} brings it back" in "\n".join(said(host))
    record = always.record()
    assert record["verdict"]["word"] == "NOTCONTAINED"
    assert record["watch"]["standing"] == [f"systemd unit {always.training}"]
    assert always.states() == {"T"}
    assert host.shown(always.training, "ActiveState") == "active"


def test_the_guard_is_in_a_scope_of_its_own_and_outlives_the_unit_that_ran_the_evacuation(
    host: BootedHost, always: ServedWorkload
) -> None:
    guard = always.guard()
    (scope,) = [line for line in host.read(f"/proc/{guard}/cgroup").splitlines() if line.startswith("0::")]
    assert scope.startswith("0::/system.slice/guard-")
    assert scope.endswith(".scope")
    host.run(["systemctl", "stop", UNIT], check=True)
    assert always.guard() == guard
    assert host.run(["flock", "--nonblock", f"{always.root}.lock", "true"]).returncode == 1


def test_the_guard_freezes_what_the_unit_brings_after_the_run(host: BootedHost, always: ServedWorkload) -> None:
    frozen = {str(each["pid"]) for each in always.living()}
    host.run(["kill", "-KILL", *frozen], check=True)
    wait_until(lambda: {each["state"] for each in always.living() if str(each["pid"]) not in frozen} == {"T"})


def test_a_unit_that_may_be_stopped_is_stopped_and_stays_down(host: BootedHost, tmp_path: Path) -> None:
    workload = ServedWorkload(host, tmp_path, "allowed", stop_supervisors=True)
    workload.start_training("Restart=always")
    done = workload.evacuate()
    assert done.returncode == 0, done.stdout
    assert workload.record()["verdict"]["word"] == "VERIFIED"
    assert workload.record()["watch"]["stopped"] == [f"systemd unit {workload.training}"]
    assert workload.living() == []
    assert host.shown(workload.training, "ActiveState") == "inactive"


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
