"""A service around the workload that `units` does not name: what a doctor says of it is what the run then meets."""

import json
import sys
from pathlib import Path

import pytest

from tests.support.booted_host import BootedHost
from tests.support.served_workload import ServedWorkload
from tests.support.workloads import wait_until

pytestmark = pytest.mark.whole

WAITS = "cd {root}\nvenv/bin/python -u src/train.py --dataset builtin --mode full\n"
BECOMES = WAITS.replace("venv", "exec venv")
"""Scripts that start a training, of which a unit names neither root nor command line."""


@pytest.mark.parametrize(
    ("restart", "script", "weight", "ends"),
    [
        ("always", BECOMES, "fatal", ("NotContained",)),
        pytest.param("always", WAITS, "fatal", ("NotContained",), marks=pytest.mark.soak),
        pytest.param("on-failure", BECOMES, "loss", ("Verified", "Partial", "NotContained"), marks=pytest.mark.soak),
        pytest.param("no", BECOMES, "sound", ("Verified", "Partial"), marks=pytest.mark.soak),
    ],
    ids=["always, what a script became", "always, a script", "on failure", "never"],
)
def test_a_doctor_says_of_a_service_that_is_not_named_what_the_run_then_meets(  # noqa: PLR0913, PLR0917  a scene
    host: BootedHost, tmp_path: Path, restart: str, script: str, weight: str, ends: tuple[str, ...]
) -> None:
    workload = ServedWorkload(host, tmp_path, f"unnamed{restart.replace('-', '')}{len(script)}")
    unit, program = f"around{workload.name}.service", f"/opt/start{workload.name}"
    host.write(program, script.format(root=workload.root))
    lines = [f"ExecStart=/bin/sh {program}", f"Restart={restart}", "RestartSec=0.2", "Environment=WORKERS=0"]
    host.write(f"/etc/systemd/system/{unit}", "\n".join(["[Service]", *lines, ""]))
    host.run(["systemctl", "daemon-reload"], check=True)
    host.run(["systemctl", "start", unit], check=True)
    wait_until(lambda: any("train.py" in each["command"] for each in workload.living()), what="the training")
    asked = [sys.executable, "-m", "flows.cli", "doctor", workload.file, "--json"]
    found = {each["name"]: each for each in json.loads(host.run(asked).stdout)["findings"]}
    assert found["workload/units"]["weight"] == weight, found["workload/units"]
    assert weight == "sound" or f'units = ["{unit}"]' in found["workload/units"]["cure"]
    done = workload.evacuate()
    assert done.stdout.partition(":")[0] in ends, done.stdout + done.stderr
    host.run(["systemctl", "stop", unit])
