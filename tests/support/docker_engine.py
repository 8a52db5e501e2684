"""A real Docker engine for drills and tests, beside whatever engine the machine has, and gone with us.

It has folders, a socket, a bridge, a mount namespace and a cgroup of its own, and leaves the firewall alone: ports are
published by Docker's own proxy on loopback. No image registry is asked: the base image is made from Debian's packages.
"""

import ipaddress
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from tasks.system.managed_process import ManagedProcess, ManagedProcessError
from tests.support.debian_root import BUNDLE, debian_tar

BASE: Final = "python:3.13-slim"
PROGRAMS: Final = ("dockerd", "debootstrap", "ip", "unshare")
_PACKAGES: Final = ("python3", "python3-venv", "libgomp1", "ca-certificates")
_NETS: Final = ipaddress.IPv4Network("10.192.0.0/10")
_RUN: Final = """
bridge=$1 address=$2; shift 2
trap 'kill -TERM $engine 2>/dev/null' TERM INT HUP
mkdir -p /run/containerd && mount -t tmpfs tmpfs /run/containerd
ip link add "$bridge" type bridge && ip address add "$address" dev "$bridge" && ip link set "$bridge" up || exit 1
"$@" & engine=$!
while kill -0 $engine 2>/dev/null; do wait $engine; done
ip link delete "$bridge"
"""


class DockerDaemon(ManagedProcess):
    """A Docker engine with the base image. Needs root."""

    name = "dockerd"
    grace_seconds = 20.0

    def __init__(self, folder: Path) -> None:
        """Choose a name for the bridge and the cgroup, and a net that no route leads to."""
        super().__init__(folder)
        self.mark = f"evd{secrets.token_hex(4)}"
        self.address = _free_net()

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / "docker.sock"

    @property
    def host(self) -> str:
        """Its address, as in DOCKER_HOST."""
        return f"unix://{self.socket}"

    def command(self) -> Sequence[str]:
        """The engine in a mount namespace of its own, between the making and the end of its bridge."""
        places = {
            "data-root": str(self.folder / "data"),
            "exec-root": str(self.folder / "exec"),
            "pidfile": str(self.folder / "docker.pid"),
            "host": self.host,
            "bridge": self.mark,
            "cgroup-parent": f"/{self.mark}",
            "ip": "127.0.0.1",
            "iptables": "false",
            "ip6tables": "false",
            "ip-forward": "false",
            "ip-masq": "false",
            "shutdown-timeout": "2",
        }
        options = [f"--{name}={value}" for name, value in places.items()]
        alone = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", _RUN, self.name]
        return [*alone, self.mark, self.address, "dockerd", *options]

    def environment(self) -> Mapping[str, str]:
        """Without an address of another engine."""
        return {name: value for name, value in super().environment().items() if not name.startswith("DOCKER_")}

    def ready(self) -> bool:
        """It answers."""
        if not self.socket.exists():
            return False
        with suppress(Exception), closing(self.client()) as client:
            return bool(client.ping())
        return False

    def client(self, seconds: float = 60) -> Any:
        """The SDK's client for it."""
        from docker import APIClient

        return APIClient(base_url=self.host, timeout=seconds)

    def start(self) -> None:
        """Start it, with the base image."""
        super().start()
        try:
            self._require_base()
        except BaseException:
            self.stop()
            raise

    def _require_base(self) -> None:
        with closing(self.client()) as client:
            if client.images(BASE):
                return
            name, _, tag = BASE.partition(":")
            settings = ["CMD python3", *_index_settings()]
            with base_rootfs().open("rb") as rootfs:
                answer = client.import_image_from_data(rootfs, repository=name, tag=tag, changes=settings)
        if "error" in answer:
            raise ManagedProcessError(f"expected the base image {BASE} to be taken; got {answer}. Read {self.log}.")

    def stop(self) -> None:
        """End every container first, then the engine; whatever outlived it after a violent end, by pid."""
        if self.socket.exists():
            with suppress(Exception), closing(self.client(10)) as client:
                for container in client.containers(all=True, quiet=True):
                    client.remove_container(container["Id"], force=True, v=True)
        super().stop()
        for pid in self.leftovers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _ip("link", "delete", self.mark)
        self._remove_cgroups()

    def leftovers(self) -> list[int]:
        """Processes of its containers, known by their cgroup, and their shims, known by the socket that they serve."""
        return [int(place.name) for place in Path("/proc").glob("[0-9]*") if self._is_ours(place)]

    def _is_ours(self, place: Path) -> bool:
        with suppress(OSError):
            words = (place / "cmdline").read_bytes().split(b"\0")
            shim = words[0].startswith(b"/usr/bin/containerd-shim") and os.fsencode(self.folder / "exec") in b" ".join(
                words
            )
            return shim or f"/{self.mark}/" in (place / "cgroup").read_text()
        return False

    def _remove_cgroups(self) -> None:
        for cgroup in Path("/sys/fs/cgroup").glob(f"**/{self.mark}"):
            for folder in (*sorted(cgroup.glob("**/"), reverse=True), cgroup):
                with suppress(OSError):
                    folder.rmdir()


def _free_net() -> str:
    """An address in a net of 256 that overlaps with none that this machine routes to."""
    routes = json.loads(_ip("-json", "-4", "route"))
    routed = [ipaddress.IPv4Network(route["dst"]) for route in routes if route["dst"] != "default"]
    nets = list(_NETS.subnets(new_prefix=24))
    net = next(net for net in random.sample(nets, 200) if not any(net.overlaps(other) for other in routed))
    return f"{net[1]}/24"


def _ip(*words: str) -> bytes:
    program = shutil.which("ip") or "/usr/sbin/ip"
    return subprocess.run([program, *words], stdin=subprocess.DEVNULL, capture_output=True, check=False).stdout


def _index_settings() -> list[str]:
    """How this machine reaches its package index, as part of the base image: no Dockerfile has to know."""
    names = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_DEFAULT_TIMEOUT")
    settings = {name: os.environ[name] for name in names if name in os.environ}
    return [f"ENV {name}={value}" for name, value in {**settings, "PIP_CERT": BUNDLE}.items()]


def base_rootfs() -> Path:
    """The base image's files as a tar, made once a checkout."""
    return debian_tar(_PACKAGES)
