"""The units of examples/systemd, installed as docs/speed.md says on a host with the checkout in /opt/evacuation."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.system.priority import NICE, OOM
from tests.support.booted_host import PROJECT, BootedHost
from tests.support.workloads import wait_until

SERVER, WORKER = "evacuation-server.service", "evacuation-worker.service"
HOME = "/opt/evacuation"
API = "http://127.0.0.1:4200/api"
ASK = """
import json, sys, urllib.request
request = urllib.request.Request(sys.argv[1], sys.argv[2].encode() or None, {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=5).read().decode())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootedHost]:
    """A host with the checkout in /opt/evacuation, its .venv made for that place, and the units enabled and started.

    The server's unit runs as a user of its own, who has to reach the interpreter, wherever this machine has it.
    """
    folder = tmp_path_factory.mktemp("installed")
    programs = folder / "bin"
    programs.mkdir()
    (programs / "python").symlink_to(Path(sys.executable).resolve())
    script = (PROJECT / ".venv/bin/prefect").read_text().partition("\n")[2]
    (programs / "prefect").write_text(f"#!{HOME}/.venv/bin/python\n{script}")
    (programs / "prefect").chmod(0o755)
    with BootedHost(folder / "host", {HOME: PROJECT, f"{HOME}/.venv/bin": programs}) as host:
        for above in Path(sys.base_prefix).parents:
            host.run(["chmod", "o+x", str(above)], check=True)
        host.run(["sh", "-c", f"cp {HOME}/examples/systemd/evacuation* /etc/systemd/system/"], check=True)
        host.run(["systemctl", "daemon-reload"], check=True)
        host.run(["systemctl", "enable", "--now", SERVER, WORKER], check=True)
        yield host


def asked(host: BootedHost, path: str, body: object = None) -> object:
    """What the server answers; None as long as it does not."""
    done = host.run(["python3", "-c", ASK, f"{API}/{path}", json.dumps(body) if body is not None else ""])
    return json.loads(done.stdout) if done.returncode == 0 else None


def at_work(host: BootedHost) -> bool:
    """Whether the server knows of a worker on its pool."""
    workers = asked(host, "work_pools/evacuation/workers/filter", {})
    return isinstance(workers, list) and any(worker["status"] == "ONLINE" for worker in workers)


def test_systemd_takes_them_as_they_are(installed: BootedHost) -> None:
    of_a_host = ("evacuation.slice", "evacuation-guard@.service", SERVER, WORKER)  # those of a fleet's server need more
    units = [f"/etc/systemd/system/{name}" for name in of_a_host]
    done = installed.run(["systemd-analyze", "verify", "--man=no", *units])
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    for unit in (SERVER, WORKER):
        assert installed.shown(unit, "UnitFileState") == "enabled"
        assert installed.shown(unit, "Slice") == "evacuation.slice"


def test_the_server_comes_up_as_it_is_and_the_worker_gets_to_it(installed: BootedHost) -> None:
    wait_until(lambda: at_work(installed), 240, what="the worker at its server")
    for unit in (SERVER, WORKER):
        installed.wait_for_unit(unit)
        pid = installed.shown(unit, "MainPID")
        assert installed.shown(unit, "OOMScoreAdjust") == str(OOM)  # a machine without CAP_SYS_RESOURCE ignores it
        assert installed.run(["ps", "-o", "ni=", "-p", pid], check=True).stdout.strip() == str(NICE)
        assert installed.shown(unit, "NRestarts") == "0"
    first, second = (int(installed.shown(unit, "InactiveExitTimestampMonotonic")) for unit in (SERVER, WORKER))
    assert first < second


@pytest.mark.soak
def test_after_a_reboot_they_are_at_work_again_by_themselves(installed: BootedHost) -> None:
    installed.reboot()
    wait_until(lambda: at_work(installed), 240, what="the worker at its server")
