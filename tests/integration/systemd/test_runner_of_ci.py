"""A runner of CI, of another project, has restarted while what a former job of it has detached goes on in its unit."""

from pathlib import Path

import pytest

from tests.support.booted_host import BootedHost
from tests.support.served_workload import ServedWorkload
from tests.support.workloads import wait_until

pytestmark = pytest.mark.whole

RUNNER = """
import os, subprocess
if not os.path.exists("/run/job"):
    open("/run/job", "w").close()
    train = ["{root}/venv/bin/python", "-u", "src/train.py", "--dataset", "builtin", "--mode", "full"]
    subprocess.run(["setsid", "--fork", *train], cwd="{root}")
subprocess.run(["sleep", "6000"])
"""


def test_the_runner_is_not_ended_with_what_a_former_job_of_it_has_left(host: BootedHost, tmp_path: Path) -> None:
    served, unit = ServedWorkload(host, tmp_path, "ci"), "actions.runner.other-project.service"
    host.write("/usr/local/lib/runner.py", RUNNER.replace("{root}", served.root))
    lines = ["[Service]", "ExecStart=/usr/bin/python3 /usr/local/lib/runner.py", "KillMode=process", ""]
    host.write(f"/etc/systemd/system/{unit}", "\n".join(lines))
    host.run(["systemctl", "daemon-reload"], check=True)
    host.run(["systemctl", "start", unit], check=True)
    wait_until(lambda: len(served.living()) == 3, what="the training")
    host.run(["systemctl", "restart", unit], check=True)
    before = host.shown(unit, "MainPID"), host.shown(unit, "ActiveState")
    done = served.evacuate("--reason", "test")
    assert not served.living(), done.stdout + done.stderr
    assert (host.shown(unit, "MainPID"), host.shown(unit, "ActiveState")) == before
