"""Start a drill's S3 store and worker. They end with the process that started them."""

import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from tasks.prefect_side.own_server import PrefectServer
from tasks.system.free_ports import answers, ask, free_ports
from tasks.system.managed_process import ManagedProcess, ManagedProcessError

_GRPC: Final = 10_000
_SERVICES: Final = ("master", "volume", "filer", "s3", "admin")


class SeaweedFS(ManagedProcess):
    """A real S3 server with one bucket. If another program takes a free port first, other ports are tried."""

    name = "seaweedfs"
    tries = 3

    def __init__(self, folder: Path, bucket: str = "evidence") -> None:
        """Choose ports and credentials for the life of this object."""
        super().__init__(folder)
        self.bucket = bucket
        self.access_key, self.secret_key = secrets.token_hex(10).upper(), secrets.token_urlsafe(30)
        self.ports = free_ports(*_SERVICES, above=_GRPC)

    @property
    def endpoint(self) -> str:
        """URL of the S3 service."""
        return f"http://127.0.0.1:{self.ports['s3']}"

    def command(self) -> Sequence[str]:
        """Return the command: all services in one process, on loopback, no telemetry, no deletion of full buckets."""
        ports = [f"-{service}.port={port}" for service, port in self.ports.items()]
        flags = {
            "dir": "data",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "filer.localSocket": "filer.sock",
            "s3.localSocket": "s3.sock",
            "s3.config": "s3.json",
            "bucket": self.bucket,
            "webdav": "false",
            "admin.ui": "false",
            "s3.port.iceberg": "0",
            "s3.port.lance": "0",
            "master.telemetry": "false",
            "s3.allowDeleteBucketNotEmpty": "false",
            "s3.autoCreateBucket": "false",
            "volume.preStopSeconds": "0",
        }
        weed = str(Path(sys.executable).parent / "weed")
        return [weed, f"-logdir={self.folder}", "mini", *ports, *(f"-{name}={flags[name]}" for name in flags)]

    def ready(self) -> bool:
        """Return whether S3 answers, the filer (which needs no signature) knows the bucket, and there is free space."""
        bucket = f"http://127.0.0.1:{self.ports['filer']}/buckets/{self.bucket}/"
        room = f"http://127.0.0.1:{self.ports['master']}/dir/assign"
        return answers(f"{self.endpoint}/healthz") and answers(bucket) and answers(room)

    def start(self) -> None:
        """Start on free ports; a store with data keeps its own."""
        (self.folder / "data").mkdir(parents=True, exist_ok=True, mode=0o700)
        self._write_identity()
        for _ in range(0 if self.log.exists() else self.tries - 1):
            with suppress(ManagedProcessError):
                super().start()
                return
            self.ports = free_ports(*_SERVICES, above=_GRPC)
        super().start()

    def stop(self) -> None:
        """Stop, and remove the sockets that it often leaves in its folder and, by gRPC port, in /tmp."""
        super().stop()
        for socket in self.folder.glob("*.sock"):
            socket.unlink()
        for service, port in self.ports.items():
            Path(f"/tmp/seaweedfs-{service}-grpc-{port + _GRPC}.sock").unlink(missing_ok=True)  # noqa: S108  its own choice

    def _write_identity(self) -> None:
        keys = [{"accessKey": self.access_key, "secretKey": self.secret_key}]
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        config = json.dumps({"identities": [{"name": "drill", "credentials": keys, "actions": actions}]})
        path = self.folder / "s3.json"
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
            file.write(config)


class Worker(ManagedProcess):
    """A worker as an operator starts it."""

    ready_seconds = 60.0
    grace_seconds = 15.0

    def __init__(self, folder: Path, server: PrefectServer, pool: str, env: Mapping[str, str] | None = None) -> None:
        """Serve one pool, which is created if needed; `env` is passed to the runs too."""
        self.name = f"worker-{pool}"
        super().__init__(folder)
        self.server, self.pool, self._env, self._registered = server, pool, dict(env or {}), ""

    def command(self) -> Sequence[str]:
        """Return the command with a new worker name: the server would report an old one as online too early."""
        self._registered = f"{self.name}-{secrets.token_hex(4)}"
        return [sys.executable, "-P", "-m", "flows.cli", "worker", "--pool", self.pool, "--name", self._registered]

    def environment(self) -> Mapping[str, str]:
        """Return the server's environment, and what was given."""
        return {**self.server.env, **self._env}

    def ready(self) -> bool:
        """Return whether the server has heard from it."""
        known = json.loads(ask(f"{self.server.api}/work_pools/{self.pool}/workers/filter", {}) or b"[]")
        return any(worker["name"] == self._registered and worker["status"] == "ONLINE" for worker in known)
