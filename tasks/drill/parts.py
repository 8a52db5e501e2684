"""The embedded real parts of a drill: an S3 store, a Prefect server, a worker. Loopback only, and gone with us."""

import contextlib
import json
import os
import random
import secrets
import socket
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

from tasks.drill.keeper import Part, PartError, outlive

__all__ = ["Part", "PartError", "PrefectServer", "SeaweedFS", "Worker", "outlive"]

_GRPC: Final = 10_000
_SERVICES: Final = ("master", "volume", "filer", "s3", "admin")
_QUIET: Final = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}


class SeaweedFS(Part):
    """A real S3 server with one bucket. Where a free port is lost to another program, others are tried."""

    name = "seaweedfs"
    tries = 3

    def __init__(self, folder: Path, bucket: str = "evidence") -> None:
        """Choose ports and make up credentials; they stay for the life of this object."""
        super().__init__(folder)
        self.bucket = bucket
        self.access_key, self.secret_key = secrets.token_hex(10).upper(), secrets.token_urlsafe(30)
        self.ports = _free_ports(*_SERVICES)

    @property
    def endpoint(self) -> str:
        """URL of the S3 service."""
        return f"http://127.0.0.1:{self.ports['s3']}"

    def command(self) -> Sequence[str]:
        """One process with all services, only on loopback, without telemetry and without surprises at deletion."""
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
        weed = Path(sys.executable).parent / "weed"
        return [
            str(weed),
            f"-logdir={self.folder}",
            "mini",
            *ports,
            *(f"-{name}={value}" for name, value in flags.items()),
        ]

    def ready(self) -> bool:
        """The S3 service answers, the filer, which needs no signature, knows the bucket, and there is room for data."""
        bucket = f"http://127.0.0.1:{self.ports['filer']}/buckets/{self.bucket}/"
        room = f"http://127.0.0.1:{self.ports['master']}/dir/assign"
        return _answers(f"{self.endpoint}/healthz") and _answers(bucket) and _answers(room)

    def start(self) -> None:
        """Start on ports that are free; only a store that has data already insists on its own."""
        (self.folder / "data").mkdir(parents=True, exist_ok=True, mode=0o700)
        self._write_identity()
        fresh = not self.log.exists()
        for attempt in range(1, self.tries + 1):
            try:
                super().start()
            except PartError:
                if not fresh or attempt == self.tries:
                    raise
                self.ports = _free_ports(*_SERVICES)
            else:
                return

    def stop(self) -> None:
        """Also remove the sockets that it opens, in its folder and in /tmp under its gRPC ports, and often forgets."""
        super().stop()
        for left in self.folder.glob("*.sock"):
            left.unlink()
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


class PrefectServer(Part):
    """A real Prefect server with a UI and a database of its own."""

    name = "prefect-server"
    ready_seconds = 240.0

    def __init__(self, folder: Path) -> None:
        """Choose a port; it stays for the life of this object."""
        super().__init__(folder)
        self.port = _free_ports("server")["server"]

    @property
    def ui(self) -> str:
        """URL for people."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> str:
        """URL for programs."""
        return f"{self.ui}/api"

    @property
    def env(self) -> dict[str, str]:
        """Environment of a client of this server. Its home is the server's, so that no profile of the user is read."""
        return {**super().environment(), "PREFECT_API_URL": self.api, "PREFECT_HOME": str(self.folder), **_QUIET}

    def command(self) -> Sequence[str]:
        """The server in the foreground, as the keeper needs it."""
        return [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]

    def environment(self) -> Mapping[str, str]:
        """Without a UI API URL the page would call port 4200."""
        database = f"sqlite+aiosqlite:///{self.folder / 'prefect.db'}"
        own = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database, "PREFECT_UI_API_URL": self.api}
        return {**self.env, **own}

    def ready(self) -> bool:
        """The API says that it is healthy."""
        return _ask(f"{self.api}/health") == b"true"


class Worker(Part):
    """A process worker that polls each second, so that a drill measures the evacuation and not the poll."""

    ready_seconds = 60.0
    grace_seconds = 15.0

    def __init__(self, folder: Path, server: PrefectServer, pool: str, env: Mapping[str, str] | None = None) -> None:
        """Serve one pool, which is made if there is none; `env` goes to the runs as well."""
        self.name = f"worker-{pool}"
        super().__init__(folder)
        self.server, self.pool, self._env, self._registered = server, pool, dict(env or {}), ""

    def command(self) -> Sequence[str]:
        """A new name each time: under an old one the server calls it online before it is."""
        self._registered = f"{self.name}-{secrets.token_hex(4)}"
        start = [sys.executable, "-m", "prefect", "worker", "start"]
        return [*start, "--pool", self.pool, "--type", "process", "--name", self._registered]

    def environment(self) -> Mapping[str, str]:
        """The server's, and the logs of our own packages."""
        own = {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,tasks,blocks"}
        return {**self.server.env, **own, **self._env}

    def ready(self) -> bool:
        """The server has heard from it."""
        answer = _ask(f"{self.server.api}/work_pools/{self.pool}/workers/filter", {})
        return any(
            worker["name"] == self._registered and worker["status"] == "ONLINE"
            for worker in json.loads(answer or b"[]")
        )


def _free_ports(*services: str) -> dict[str, int]:
    """A port a service, below the range that the kernel hands out; gRPC, where there is any, sits 10,000 above."""
    candidates = random.sample(range(12_000, 22_500), 200)
    free = [port for port in candidates if _free(port) and _free(port + _GRPC)]
    return dict(zip(services, free, strict=False))


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _answers(url: str) -> bool:
    return _ask(url) is not None


def _ask(url: str, body: Any = None) -> bytes | None:
    """The answer's content, None while there is no good one."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310  always http
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(OSError, HTTPException), opener.open(request, timeout=2) as answer:
        content: bytes = answer.read()
        return content
    return None
