"""The wheel on a bare host: from `evacuation install` to the doctor's answer, evacuated, upgraded, and away again.

The tests share one host, and come in the order in which an operator does it.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from uuid import uuid4

import pytest

from tasks.custody.incident.exit_codes import REFUSED
from tasks.system.priority import NICE, OOM
from tests.support.booted_host import PROJECT, BootedHost
from tests.support.served_workload import ServedWorkload
from tests.support.wheel import wheel
from tests.support.workloads import wait_until

pytestmark = pytest.mark.whole

SERVER, WORKER = "evacuation-server.service", "evacuation-worker.service"
GUARD, DOCTOR = "evacuation-guard@srv-served.evidence.service", "evacuation-doctor@etc-evacuation-served.toml"
UNITS = "/etc/systemd/system"
VENV = "/opt/pipx/venvs/evacuation"
LOCKED = "/opt/locked"
API = "http://127.0.0.1:4200/api"
LOSSES = {"host/spy", "store/signature", "store/clock", "people/drill", "people/notification", "workload/restart"}
"""What this host lacks: py-spy, a signing key, a daemon for its clock, a drill, somebody who is told, and an API whose
account is not root: the worker's service, which is the doctor's, has not all of root's rights to give back."""
ASK = """
import base64, json, os, sys, urllib.request
headers = {"Content-Type": "application/json"}
for line in open("/etc/evacuation/auth.env") if os.path.exists("/etc/evacuation/auth.env") else ():
    password = line.partition("=")[2].strip()
    headers["Authorization"] = f"Basic {base64.b64encode(password.encode()).decode()}"
request = urllib.request.Request(sys.argv[1], sys.argv[2].encode() or None, headers)
print(urllib.request.urlopen(request, timeout=5).read().decode())
"""
HOLD = """
import sys, time
from pathlib import Path
from tasks.incident.run_lock import take_ownership
print(take_ownership(Path(sys.argv[1])), flush=True)
time.sleep(600)
"""


@dataclass
class Site:
    """A host with a workload, its file, and the wheel in an environment as pipx makes it."""

    host: BootedHost
    workload: ServedWorkload

    def evacuation(self, *words: str, check: bool = True) -> CompletedProcess[str]:
        """Run a command of the installed wheel."""
        environment = ["env", "HOME=/root", f"PREFECT_API_URL={API}"]
        return self.host.run([*environment, f"{VENV}/bin/evacuation", *words], check=check)

    def put_wheel(self) -> None:
        """Install the wheel, in place of one that is there. What it needs lies in a folder: there is no network."""
        uv = [str(PROJECT / ".venv/bin/uv"), "pip", "install", "--quiet", "--offline", "--no-deps", "--reinstall"]
        self.host.run(["sh", "-c", '"$@" /wheels/*.whl', "sh", *uv, f"--python={VENV}/bin/python"], check=True)

    def asked(self, path: str, body: object = None) -> Any:
        """What the server answers; None as long as it does not."""
        done = self.host.run(["python3", "-c", ASK, f"{API}/{path}", json.dumps(body) if body is not None else ""])
        return json.loads(done.stdout) if done.returncode == 0 else None

    def answer(self, path: str, body: object = None) -> Any:
        """The same, asked until it answers: a busy server may take longer than it is given."""
        found: Any = None

        def there() -> bool:
            nonlocal found
            found = self.asked(path, body)
            return found is not None

        wait_until(there, what=f"an answer to {path}")
        return found

    def at_work(self) -> bool:
        """Whether the server knows of a worker on its pool."""
        workers = self.asked("work_pools/evacuation/workers/filter", {}) or []
        return any(worker["status"] == "ONLINE" for worker in workers)

    def triggered(self, **parameters: object) -> str:
        """Have the worker evacuate; the state in which the run ends, with its message."""
        deployment = self.answer("deployments/name/evacuate/evacuate-served")["id"]
        wanted = {"parameters": parameters, "idempotency_key": str(uuid4())}
        run = self.answer(f"deployments/{deployment}/create_flow_run", wanted)["id"]
        over = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
        wait_until(lambda: self.answer(f"flow_runs/{run}")["state_type"] in over, 120, what="the end of the run")
        state = self.answer(f"flow_runs/{run}")["state"]
        return f"{state['name']}: {state['message']}"


@contextmanager
def bare_host(folder: Path) -> Iterator[Site]:
    """A host with a workload at work, and the wheel in an environment.

    The server's unit runs as a user of its own, who has to reach the interpreter, wherever this machine has it.
    """
    wheel(wheels := folder / "wheels")
    there = next((PROJECT / ".venv/lib").glob("python*/site-packages"))
    with BootedHost(folder / "host", {"/wheels": wheels, LOCKED: there}) as host:
        for above in Path(sys.base_prefix).parents:
            host.run(["chmod", "o+x", str(above)], check=True)
        host.run([str(Path(sys.executable).resolve()), "-m", "venv", "--without-pip", VENV], check=True)
        host.write(f"{VENV}/lib/{there.parent.name}/site-packages/locked.pth", f"{LOCKED}\n")
        site = Site(host, ServedWorkload(host, folder, "served", user="root"))
        site.put_wheel()
        site.workload.start_training()
        site.workload.install_api()
        yield site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One on which the wheel's units are installed, with a server of its own."""
    with bare_host(tmp_path_factory.mktemp("installed")) as site:
        site.evacuation("install", site.workload.file, "--server")
        yield site


def test_systemd_takes_them_as_they_are_and_starts_them_at_boot(site: Site) -> None:
    names = ("evacuation.slice", "evacuation-guard@.service", f"{DOCTOR}.service", f"{DOCTOR}.timer", SERVER, WORKER)
    done = site.host.run(["systemd-analyze", "verify", "--man=no", *names])
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    for unit in (SERVER, WORKER):
        assert site.host.shown(unit, "Slice") == "evacuation.slice"
    for unit in (SERVER, WORKER, GUARD, f"{DOCTOR}.timer"):
        assert site.host.run(["systemctl", "is-enabled", unit]).stdout == "enabled\n"
    secret = [f"/etc/evacuation/{name}" for name in ("worker.env", "auth.env", "profiles.toml")]
    assert site.host.run(["stat", "-c", "%a %U", *secret]).stdout == "600 root\n" * 3
    assert f"{site.workload.root}" in site.host.read("/etc/evacuation/hosts.d/served.toml")
    assert "/etc/evacuation/auth.env" in site.evacuation("status", site.workload.file).stdout


def test_the_server_answers_nobody_without_its_password(site: Site) -> None:
    wait_until(lambda: site.asked("health"), 240, what="the server")
    assert site.asked("flows/count", {}) == 0
    bare = ASK.replace("/etc/evacuation/auth.env", "/nowhere")
    done = site.host.run(["python3", "-c", bare, f"{API}/flows/count", "{}"])
    assert "HTTP Error 401" in done.stderr, done.stdout + done.stderr


def test_the_server_comes_up_as_it_is_and_the_worker_gets_to_it(site: Site) -> None:
    host = site.host
    wait_until(site.at_work, 240, what="the worker at its server")
    for unit in (SERVER, WORKER):
        host.wait_for_unit(unit)
        pid = host.shown(unit, "MainPID")
        assert host.shown(unit, "OOMScoreAdjust") == str(OOM)  # a machine without CAP_SYS_RESOURCE ignores it
        assert host.run(["ps", "-o", "ni=", "-p", pid], check=True).stdout.strip() == str(NICE)
        assert host.shown(unit, "NRestarts") == "0"
    first, second = (int(host.shown(unit, "InactiveExitTimestampMonotonic")) for unit in (SERVER, WORKER))
    assert first < second


@pytest.mark.soak
def test_after_a_reboot_they_are_at_work_again_by_themselves(site: Site) -> None:
    site.host.reboot()
    wait_until(site.at_work, 240, what="the worker at its server")


def test_what_is_not_as_install_writes_it_or_not_roots_alone_is_refused_and_left(site: Site) -> None:
    unit, file, host = f"{UNITS}/{WORKER}", site.workload.file, site.host
    before = host.read(unit)
    host.write(unit, f"{before}# mine\n")
    refused = site.evacuation("install", file, check=False)
    assert (refused.returncode, host.read(unit)) == (REFUSED, f"{before}# mine\n")
    assert f"changed, or by hand: {unit}. Nothing was touched. Move your changes into drop-ins" in refused.stderr
    host.write(unit, before)
    for change, back, said in (
        (["chown", "games"], ["chown", "root"], f"{file} lies in {file} of user 5"),
        (["chmod", "go+w"], ["chmod", "go-w"], f"{file} lies in {file} of mode 0666"),
    ):
        host.run([*change, file], check=True)
        refused = site.evacuation("install", file, check=False)
        host.run([*back, file], check=True)
        assert refused.returncode == REFUSED
        assert said in refused.stderr


def test_the_doctor_of_the_timer_finds_nothing_but_what_this_host_lacks(site: Site) -> None:
    site.evacuation("deploy", site.workload.file)
    site.host.run(["systemctl", "start", f"{DOCTOR}.service"], check=True)
    said = site.host.run(["journalctl", "--output=cat", f"--unit={DOCTOR}.service"], check=True).stdout
    assert {line.split()[1] for line in said.splitlines() if line.startswith("  ◐ ")} <= LOSSES, said
    assert "○" not in said
    assert "Degraded: " in said
    assert "● prefect/canary " in said


def test_an_upgrade_is_refused_while_a_run_is_at_work_and_the_worker_goes_on(site: Site) -> None:
    before = site.host.shown(WORKER, "MainPID")
    site.host.run(["mkdir", "-p", site.workload.evidence], check=True)
    run = ["systemd-run", "--quiet", "--unit=run", f"{VENV}/bin/python", "-c", HOLD, site.workload.evidence]
    site.host.run(run, check=True)
    wait_until(lambda: site.evacuation("status", site.workload.file).stdout.count("at work"), what="the run")
    refused = site.evacuation("install", site.workload.file, check=False)
    site.host.run(["systemctl", "stop", "run.service"], check=True)
    assert refused.returncode == REFUSED
    assert "got served: evacuation. Nothing was touched. Wait until it has ended" in refused.stderr
    assert site.host.shown(WORKER, "MainPID") == before


def test_an_upgrade_under_an_open_incident_leaves_the_guard_and_the_incident_is_carried_on(site: Site) -> None:
    workload, host = site.workload, site.host
    host.run(["mv", workload.store, f"{workload.store}.away"], check=True)
    ended = site.triggered(reason="a drill")
    assert ended.startswith("Unverified: "), ended
    guard, worker, incident = workload.guard(), host.shown(WORKER, "MainPID"), workload.incident()
    refused = site.evacuation("uninstall", check=False)
    assert refused.returncode == REFUSED
    assert f"served: {incident} is not finished" in refused.stderr
    host.write(f"{UNITS}/{WORKER}.d/mine.conf", "[Service]\nEnvironment=MINE=1\n")
    site.put_wheel()
    told = site.evacuation("install", workload.file).stdout
    assert f"served: {incident} is not finished" in told
    assert workload.guard() == guard
    assert host.run(["flock", "--nonblock", f"{workload.root}.lock", "true"]).returncode == 1
    assert host.shown(WORKER, "MainPID") != worker
    assert "MINE=1" in host.shown(WORKER, "Environment")
    host.run(["mv", f"{workload.store}.away", workload.store], check=True)
    ended = site.triggered()
    assert ended.startswith("Verified: "), ended
    assert (workload.incident(), workload.living()) == (incident, [])


def test_uninstall_is_refused_under_the_cordon_and_then_leaves_nothing_but_what_is_not_its_own(site: Site) -> None:
    host = site.host
    refused = site.evacuation("uninstall", check=False)
    assert refused.returncode == REFUSED
    assert "served: a cordon stands: /srv/served.evidence/cordon.json" in refused.stderr
    assert host.shown(WORKER, "ActiveState") == "active"
    site.evacuation("uncordon", site.workload.file)
    told = site.evacuation("uninstall").stdout
    names = ["(", "-name", "*evacuation*", "-o", "-name", "prefect", ")"]
    places = ["/etc", "/run/systemd", "/var/lib", "-not", "-path", "*/journal/*"]
    found = host.run(["find", *places, *names], check=True).stdout.split()
    left = [f"{UNITS}/{WORKER}.d", "/var/lib/evacuation-server", "/var/lib/private/evacuation-server"]
    assert sorted(found) == sorted(["/etc/evacuation", *left])
    assert all(f"left: rm -r {place}" in told for place in left)
    assert host.run(["ls", "/etc/evacuation"]).stdout == "served.toml\n"
    units = host.run(["systemctl", "list-units", "--all", "--no-legend", "--plain", "evacuation*"]).stdout
    assert [line.split()[0] for line in units.splitlines()] == ["evacuation.slice"]  # empty, and gone at the next boot
    assert host.run(["pgrep", "-f", VENV]).stdout == ""
    assert "evacuation" not in host.run(["systemctl", "--failed"]).stdout
