"""A service that systemd will start later has no process now; its cordon and its word are tried on a booted host."""

from pathlib import Path

import pytest

from tests.support.booted_host import BootedHost
from tests.support.served_workload import ServedWorkload
from tests.support.workloads import wait_until


def waiting(host: BootedHost, workload: ServedWorkload) -> str:
    """A service of the root between two starts."""
    unit = f"{workload.name}-again.service"
    lines = ["ExecStart=/bin/false", "Restart=always", "RestartSec=3600", f"WorkingDirectory={workload.root}"]
    host.write(f"/etc/systemd/system/{unit}", "\n".join(["[Service]", *lines, ""]))
    host.run(["systemctl", "daemon-reload"], check=True)
    host.run(["systemctl", "start", unit])
    wait_until(lambda: host.shown(unit, "SubState") == "auto-restart", what="its wait")
    return unit


@pytest.mark.soak
@pytest.mark.parametrize("allowed", [False, True])
def test_a_service_between_two_starts_is_named_until_it_is_stopped(
    host: BootedHost, tmp_path: Path, *, allowed: bool
) -> None:
    workload = ServedWorkload(host, tmp_path, f"waiting{allowed:d}", stop_supervisors=allowed)
    unit = waiting(host, workload)
    done = workload.evacuate()
    if not allowed:
        assert done.stdout.startswith("NotContained: "), done.stdout + done.stderr
        assert f"systemctl stop {unit}" in done.stdout
        host.run(["systemctl", "stop", unit], check=True)
        done = workload.evacuate("--incident", workload.incident())
    assert host.shown(unit, "ActiveState") == "inactive"
    assert done.stdout.startswith(("Verified: ", "Partial: ")), done.stdout + done.stderr
