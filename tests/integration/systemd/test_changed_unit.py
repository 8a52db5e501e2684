"""A service comes back as it ran, or by name otherwise: what its unit says, or reads, may have been changed since."""

from pathlib import Path

import pytest

from tests.support.booted_host import BootedHost
from tests.support.served_workload import ServedWorkload

pytestmark = pytest.mark.whole

CHANGES = {
    "environment": ("[Service]\nLimitNOFILE=4321", "THRESHOLD=7\nADDED=1\n", ["ADDED, THRESHOLD, Max open files"]),
    "command": ("[Service]\nExecStart=\nExecStart={command} --workers 1", "THRESHOLD=5\n", ["missing"]),
}


@pytest.mark.sample(1)
@pytest.mark.parametrize("changed", CHANGES)
def test_a_service_whose_unit_or_its_file_was_changed_comes_back_otherwise_than_it_ran(
    host: BootedHost, tmp_path: Path, changed: str
) -> None:
    """It was Recovered, with another threshold."""
    workload = ServedWorkload(host, tmp_path, f"changed-{changed}", units=[f"changed-{changed}-api.service"])
    host.write(f"{workload.root}.env", "THRESHOLD=5\n")
    workload.install_api(f"EnvironmentFile={workload.root}.env")
    lines, variables, told = CHANGES[changed]
    first, *rest = workload.small.api_command
    command = f"{workload.root}/{first} {' '.join(rest)}"
    host.write(f"/etc/systemd/system/{workload.api}.d/ours.conf", f"{lines.format(command=command)}\n")
    host.write(f"{workload.root}.env", variables)
    host.run(["systemctl", "daemon-reload"], check=True)
    done = workload.evacuate("--recover")
    assert "PartlyRecovered" in done.stdout, done.stdout + done.stderr
    doubts = workload.record()["recovery"]["unproven"]
    (doubt,) = (each for each in doubts if each.startswith("that it runs as it ran"))
    assert all(words in doubt for words in told), doubt
    assert f"systemctl restart {workload.api}" in doubt
    host.run(["systemctl", "disable", "--quiet", "--now", workload.api], check=True)
