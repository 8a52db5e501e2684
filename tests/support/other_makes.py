"""Stores that speak S3 and are of other makes: moto and ministack of PyPI, s3rver of npm, by locked versions."""

import hashlib
import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.system.free_ports import free_ports
from tasks.system.managed_process import ManagedProcess
from tests.support.environments import REQUIREMENTS, environment
from tests.support.made_once import made_once

BUCKET, LOCKED = "evidence", "vault"


class OtherMake(ManagedProcess):
    """A store on loopback, which takes the keys that it is written to take."""

    ready_seconds = 60.0
    key = "testing"
    locks = True
    """Whether it has Object Lock."""

    def __init__(self, folder: Path) -> None:
        """Choose a port."""
        super().__init__(folder)
        self.port = free_ports("s3")["s3"]

    @property
    def endpoint(self) -> str:
        """URL of the service."""
        return f"http://127.0.0.1:{self.port}"

    def ready(self) -> bool:
        """Whether it takes connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Moto(OtherMake):
    """Compares no digest, tells what was claimed, and keeps no lock."""

    name = "moto"

    def command(self) -> Sequence[str]:
        """All in memory."""
        return [str(environment("stores-soak") / "bin/moto_server"), "-H", "127.0.0.1", "-p", str(self.port)]


class Ministack(OtherMake):
    """Compares digests, and tells them."""

    name = "ministack"

    def command(self) -> Sequence[str]:
        """All in memory."""
        return [str(environment("stores-soak") / "bin/ministack")]

    def environment(self) -> Mapping[str, str]:
        """S3 alone, on loopback."""
        where = {"BIND_HOST": "127.0.0.1", "MINISTACK_HOST": "127.0.0.1", "GATEWAY_PORT": str(self.port)}
        return {**super().environment(), **where, "SERVICES": "s3"}


class S3rver(OtherMake):
    """Compares no digest, tells none, keeps no condition and has no Object Lock."""

    name = "s3rver"
    key = "S3RVER"
    locks = False

    def command(self) -> Sequence[str]:
        """In a folder."""
        where = ["-d", str(self.folder / "data"), "-a", "127.0.0.1", "-p", str(self.port), "--no-vhost-buckets"]
        return ["node", str(_packages() / "node_modules/s3rver/bin/s3rver.js"), *where]


def _packages() -> Path:
    """The packages of the lock file, by their digests."""
    lock = (REQUIREMENTS / "s3rver/package-lock.json").read_bytes()

    def make(path: Path) -> None:
        shutil.copytree(REQUIREMENTS / "s3rver", path)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(command, cwd=path, check=True, env={**os.environ, "HOME": str(path)})

    return made_once(f"s3rver-{hashlib.sha256(lock).hexdigest()[:12]}", make)


MAKES = {each.name: each for each in (Moto, Ministack, S3rver)}
