"""Systemd services that the block names: kept down, frozen, stopped and started again, through systemd."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.integration.systemd.test_systemd_units import WORKER, values
from tests.support.booted_host import PROJECT, BootedHost
from tests.support.served_workload import ServedWorkload

pytestmark = pytest.mark.whole

WATCHED: Final = """
import os, runpy, socket, sys, threading, time
door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
def beat():
    while True:
        door.sendto(b"READY=1\\nWATCHDOG=1", os.environ["NOTIFY_SOCKET"])
        time.sleep(0.1)
threading.Thread(target=beat, daemon=True).start()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""A program that says to systemd that it lives, as long as it does."""

TRAINED: Final = """
import os, sys
from pathlib import Path
from blocks.file import workload_given
from tasks.training.process import Training

_, block = workload_given(Path(sys.argv[1]), "")
command = ["python3", "-c", "import os; os.read(int(os.environ['HELD']), 1); print(open('/proc/self/cgroup').read())"]
lock = os.open("/dev/zero", os.O_RDONLY)
with Training(block.model_copy(update={"training_command": command}), lock, {"HELD": str(lock)}) as training:
    sys.exit(training.follow(print).code)
"""
"""A training that reads the lock's descriptor, and says in which control group it is."""


def drop_ins(host: BootedHost) -> list[str]:
    """The units that a cordon keeps down."""
    found = host.run(["sh", "-c", "cd /etc/systemd/system && ls -d *.d/zz-evacuation-cordon.conf"]).stdout.split()
    return [name.partition(".d/")[0] for name in found]


def serve(host: BootedHost, folder: Path, name: str, **fields: object) -> ServedWorkload:
    """An API whose service is started again, watched by systemd, and says in a file when it is stopped."""
    workload = ServedWorkload(host, folder, name, units=[f"{name}-api.service"], **fields)
    host.write(f"{workload.root}.watched", WATCHED)
    first, *rest = workload.small.api_command
    words = f"{workload.root}/{first} {workload.root}.watched uvicorn/__main__.py {' '.join(rest[1:])}"
    lines = ["Type=notify", "WatchdogSec=2", "Restart=always", "RestartSec=0", f"WorkingDirectory={workload.root}"]
    lines += [f"ExecStart={words}", f"ExecStop=sh -c 'sleep 0.5; echo stop >>{workload.root}.said'"]
    lines += [f"ExecStopPost=sh -c 'echo post >>{workload.root}.said'", "[Install]", "WantedBy=multi-user.target"]
    host.write(f"/etc/systemd/system/{workload.api}", "\n".join(["[Service]", *lines, ""]))
    host.run(["systemctl", "daemon-reload"], check=True)
    host.run(["systemctl", "enable", "--quiet", "--now", workload.api], check=True)
    return workload


def test_a_service_is_frozen_kept_down_and_stopped_through_systemd_under_both_policies(
    host: BootedHost, tmp_path: Path
) -> None:
    workload = serve(host, tmp_path, "watched")
    rights = " ".join(values(WORKER, "CapabilityBoundingSet"))
    started = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", f"--property=CapabilityBoundingSet={rights}"]
    script = str(Path(__file__).with_name("evacuated_service.py"))
    done = host.run([*started, f"--setenv=PYTHONPATH={PROJECT}", sys.executable, script, workload.file])
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    begun = seen["begun"]
    assert begun["main"] == begun["after"] == begun["before"] == str(begun["frozen"][0]), begun
    assert begun["watchdog"] == "0"
    for policy, said in {"graceful": "stop\npost\n", "kill": False}.items():
        about = seen[policy]
        assert (about["main"], about["frozen"], about["kept down"]) == (about["before"], "frozen", True), about
        assert (about["contained"], about["said"], about["notes"]) == ([], said, []), about
        assert (about["started under it"], about["started again"], about["still kept down"]) == (False, True, False)
        assert about["let go"] == [workload.api]
    assert seen["graceful"]["ends"][0] == ["stopped", ["systemctl stop", "SIGCONT"]]
    assert seen["kill"]["ends"] == [["killed", ["SIGSTOP", "SIGKILL"]]]
    host.run(["systemctl", "disable", "--quiet", "--now", workload.api], check=True)


@pytest.fixture(scope="module")
def rebooted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedWorkload]:
    """A service after its evacuation, with its socket, and a reboot under the cordon."""
    folder = tmp_path_factory.mktemp("named")
    with BootedHost(folder / "host") as host:
        workload = serve(host, folder, "named")
        host.write("/etc/systemd/system/named-api.socket", "[Socket]\nListenStream=/run/named.sock\n")
        host.write(f"/etc/systemd/system/{workload.api}.d/requires.conf", "[Unit]\nRequires=named-api.socket\n")
        host.run(["sh", "-c", f"systemctl daemon-reload; systemctl restart {workload.api}"], check=True)
        done = workload.evacuate()
        assert done.stdout.startswith("Verified: "), done.stdout + done.stderr
        host.reboot()
        yield workload


@pytest.mark.soak
def test_under_the_cordon_no_boot_and_no_socket_starts_a_named_service(rebooted: ServedWorkload) -> None:
    host = rebooted.host
    assert (rebooted.living(), host.shown(rebooted.api, "ConditionResult")) == ([], "no")
    assert host.run(["systemctl", "start", "named-api.socket"]).returncode == 0
    assert host.shown("named-api.socket", "ActiveState") == "inactive"
    assert drop_ins(host) == ["named-api.service", "named-api.socket"]


@pytest.mark.soak
def test_the_evidence_has_the_journal_the_unit_and_its_properties(rebooted: ServedWorkload) -> None:
    folder = f"{rebooted.evidence}/{rebooted.incident()}/evidence/units/{rebooted.api}"
    assert "Unit now frozen" in rebooted.host.read(f"{folder}/journal.jsonl")
    assert "ExecStop=sh -c" in rebooted.host.read(f"{folder}/unit.txt")
    assert f"Id={rebooted.api}" in rebooted.host.read(f"{folder}/show.txt")


@pytest.mark.soak
def test_recovery_starts_the_service_itself_and_proves_it(rebooted: ServedWorkload) -> None:
    host = rebooted.host
    done = rebooted.evacuate("--incident", rebooted.incident(), "--recover")
    assert done.stdout.startswith("Verified: "), done.stdout + done.stderr
    recovery = rebooted.record(2)["recovery"]
    assert str(recovery["process"]["pid"]) == host.shown(rebooted.api, "MainPID")
    assert (host.shown(rebooted.api, "ActiveState"), drop_ins(host)) == ("active", [])
    assert host.shown("named-api.socket", "ActiveState") == "active"


@pytest.mark.soak
def test_a_service_that_systemd_does_not_know_is_refused_and_nothing_is_touched(
    host: BootedHost, tmp_path: Path
) -> None:
    workload = serve(host, tmp_path, "mistyped")
    host.write(workload.file, host.read(workload.file).replace('["mistyped-api', '["mistyped-apu'))
    done = workload.evacuate()
    assert done.returncode == 2
    assert "mistyped-apu.service, which systemd does not know" in done.stdout + done.stderr
    assert workload.states() == {"S"}
    host.run(["systemctl", "disable", "--quiet", "--now", workload.api], check=True)


@pytest.mark.soak
def test_a_training_of_the_flow_is_in_a_scope_of_its_own(host: BootedHost, tmp_path: Path) -> None:
    small = ServedWorkload(host, tmp_path, "trained")
    command = ["env", f"PYTHONPATH={PROJECT}", sys.executable, "-c", TRAINED, small.file]
    assert "an account other than root" in host.run(command).stderr
    host.write("/etc/evacuation/hosts.d/any.toml", 'user = "root"\n')
    assert "0::/system.slice/training-" in host.run(command, check=True).stdout
