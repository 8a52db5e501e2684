"""Two hosts that a real systemd has booted, each with the worker's unit of examples/: one fleet on its plant."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from blocks import EvidenceStore, Workload
from tasks.deployment.register import DeploymentTarget, deploy_all
from tasks.drill.deployment import POOL
from tasks.drill.fleet_host import FleetHost
from tasks.drill.show_retention import credentials
from tasks.drill.store_and_worker import SeaweedFS
from tests.e2e.plant.conftest import Site
from tests.support.booted_host import PROJECT, BootedHost, missing
from tests.support.workloads import wait_until

HOME: Final = "/opt/evacuation"
WORKER: Final = "evacuation-worker.service"
ROOT: Final = "/srv/portfolio"
WAY: Final = "/srv/way"
RELAY: Final = """
import os, socket, sys, threading
def opened(kind, place, make):
    one = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
    getattr(one, make)(place if kind == "unix" else ("127.0.0.1", int(place)))
    return one
def copy(source, sink):
    try:
        while piece := source.recv(65536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
near, far = sys.argv[1:3], sys.argv[3:5]
listening = opened(*near, "bind")
listening.listen(128)
while True:
    one = listening.accept()[0]
    other = opened(*far, "connect")
    for pair in ((one, other), (other, one)):
        threading.Thread(target=copy, args=pair, daemon=True).start()
"""
"""Passes connections on: a booted host has no network, so they go through sockets in a folder that it sees."""


@contextmanager
def way_out(folder: Path, ports: dict[int, int]) -> Iterator[None]:
    """Sockets in the folder that lead to ports of this machine, each named by the port that it has on the host."""
    folder.mkdir()
    started = [
        subprocess.Popen([sys.executable, "-c", RELAY, "unix", str(folder / str(there)), "tcp", str(here)])
        for there, here in ports.items()
    ]
    try:
        wait_until(lambda: all((folder / str(there)).exists() for there in ports), what="the way out")
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


@contextmanager
def booted(folder: Path, way: Path, ports: dict[int, int]) -> Iterator[BootedHost]:
    """A host with a training, a way to the server, and the worker's unit, enabled and started."""
    (programs := folder / "bin").mkdir(parents=True)
    (programs / "python").symlink_to(Path(sys.executable).resolve())
    (programs / "evacuation").write_text(f"#!{HOME}/.venv/bin/python -P\nfrom flows.cli import main\nmain()\n")
    (programs / "evacuation").chmod(0o755)
    with BootedHost(folder / "host", {HOME: PROJECT, f"{HOME}/.venv/bin": programs, WAY: way}) as host:
        for port in ports:
            relay = [sys.executable, "-c", RELAY, "tcp", str(port), "unix", f"{WAY}/{port}"]
            host.run(["systemd-run", "--quiet", f"--unit=way-{port}", *relay], check=True)
        FleetHost.lay_out(folder / "work")
        tar = subprocess.run(["tar", "-C", folder / "work", "-c", "."], capture_output=True, check=True).stdout
        host.run(["mkdir", "-p", ROOT], check=True)
        subprocess.run(host.inside(["tar", "-C", ROOT, "-x"]), input=tar, check=True)
        training = ["venv/bin/python", "-u", "src/train.py", "--dataset", "builtin", "--mode", "full"]
        command = f"cd {ROOT} && exec {' '.join(training)}"
        host.run(["systemd-run", "--quiet", "--unit=training", "sh", "-c", command], check=True)
        host.run(["sh", "-c", f"cp {HOME}/examples/systemd/evacuation* /etc/systemd/system/"], check=True)
        host.write("/etc/evacuation/worker.env", f"PYTHONPATH={HOME}\n")
        host.run(["systemctl", "mask", "--now", "evacuation-server.service"])
        host.run(["systemctl", "daemon-reload"], check=True)
        host.run(["systemctl", "enable", "--now", WORKER], check=True)
        yield host


def trainings(host: BootedHost) -> int:
    """How many processes of the training there are."""
    return len(host.run(["pgrep", "-f", "src/train.py --dataset"]).stdout.split())


@pytest.mark.soak
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_a_fleet_of_two_booted_hosts_ends_verified(site: Site, tmp_path: Path) -> None:
    with ExitStack() as parts:
        store = parts.enter_context(SeaweedFS(tmp_path / "s3"))
        ports = {4200: site.plant.server.port, store.ports["s3"]: store.ports["s3"]}
        way = tmp_path / "way"
        parts.enter_context(way_out(way, ports))
        with ThreadPoolExecutor(2) as pool:
            places = [tmp_path / name for name in ("one", "two")]
            hosts = [*pool.map(lambda place: parts.enter_context(booted(place, way, ports)), places)]
        names = [f"booted{number}" for number in (1, 2)]
        for name, host in zip(names, hosts, strict=True):
            place = f"s3://{store.bucket}/{name}"
            block = EvidenceStore(bucket=place, endpoint=store.endpoint, credentials=credentials(store))
            block.model_copy(update={"signing": site.key}).save(name)
            about = {"lock": "/srv/train.lock", "evidence_dir": "/srv/evidence", "watch_seconds": 0.5}
            Workload(root=ROOT, host=host.hostname, incident_suffix=name, grace_seconds=5, **about).save(name)
        targets = [DeploymentTarget(name, name, host.hostname) for name, host in zip(names, hosts, strict=True)]
        list(deploy_all(targets, POOL, f"{HOME}/.venv/bin/python"))
        site.fleet("booted", workloads=names)
        for host in hosts:
            host.run(["systemctl", "restart", WORKER], check=True)
        wait_until(lambda: site.workers() >= {host.hostname for host in hosts}, what="the workers")
        assert [trainings(host) for host in hosts] == [3, 3]
        name, message = site.ended(site.trigger("booted", reason="a leak"))
        assert name == "Verified"
        assert "2 of 2 hosts Verified: booted[1-2] Verified" in message
        assert [trainings(host) for host in hosts] == [0, 0]
