"""A host that was booted again between the evacuation and the recovery: what was changed before still counts."""

import sys
from pathlib import Path

import pytest

from tasks.custody.incident.exit_codes import EXIT_CODES
from tests.support.booted_host import BootedHost
from tests.support.served_workload import ServedWorkload

pytestmark = pytest.mark.soak  # runs by hand on a booted host: a minute

CODE = "uvicorn/__main__.py"


def test_after_a_reboot_what_was_edited_while_the_api_ran_is_told_and_a_new_mount_is_not(tmp_path: Path) -> None:
    """The start of the API was known in its own boot alone: it came back as Recovered, with other code."""
    with BootedHost(tmp_path / "host") as host:
        names = ["edited", "as-it-was"]
        edited, same = workloads = [
            ServedWorkload(host, tmp_path, name, units=[f"{name}-api.service"]) for name in names
        ]
        models = f"{same.root}/models"
        mount = ["mount", "--bind", f"{same.root}.models", models]
        host.run(["cp", "-a", models, f"{same.root}.models"], check=True)
        host.run(mount, check=True)
        host.run(["sleep", "1"], check=True)  # to which the log rounds how long a process had run
        for each in workloads:
            each.install_api()
        host.write(f"{edited.root}/{CODE}", f"{host.read(f'{edited.root}/{CODE}')}\n")
        for each in workloads:
            done = each.evacuate()
            assert done.returncode == EXIT_CODES["Verified"], done.stdout + done.stderr
            host.run(["systemctl", "disable", "--quiet", each.api], check=True)
        host.reboot()
        host.run(mount, check=True)
        told = [host.run([sys.executable, "-m", "flows.cli", "recover", each.file]) for each in workloads]
    partly, whole = (each.stdout + each.stderr for each in told)
    assert f"{CODE} was changed at " in partly
    assert [each.returncode for each in told] == [EXIT_CODES["PartlyRecovered"], 0], partly + whole
    assert "Recovered" in whole
