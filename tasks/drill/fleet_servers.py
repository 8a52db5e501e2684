"""Start the plant of a fleet: PostgreSQL, Redis, two API processes behind one address, and the services apart.

Its settings are those of examples/fleet/plant.env, its balancer's those of examples/fleet/haproxy.cfg; only addresses
are its own. It ends with the process that started it.
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Final, Self

from tasks.drill.plant_stores import Postgres, Redis, haproxy, postgresql, redis
from tasks.prefect_side.own_server import PrefectServer
from tasks.system.files.shared_files import SHARED
from tasks.system.managed_process import ManagedProcess

_EXAMPLES: Final = SHARED / "examples/fleet"
_FIRST: Final = (sys.executable, "-P", "-m", "tasks.system.priority")
_PREFECT: Final = (*_FIRST, sys.executable, "-P", "-m", "prefect")
_PORT: Final = 4200
"""In the example: the balancer's port; those of the API processes follow it."""
_READERS: Final = frozenset({"reactive-triggers", "task-run-recorder", "event-persister"})


def settings() -> dict[str, str]:
    """Return the settings of examples/fleet/plant.env."""
    lines = (_EXAMPLES / "plant.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


class Replica(PrefectServer):
    """An API process of the plant, which runs no services."""

    def __init__(self, folder: Path, name: str, plant: Mapping[str, str]) -> None:
        """Listen on a port of its own."""
        self.name = name
        super().__init__(folder)
        self._plant = plant

    def command(self) -> Sequence[str]:
        """Return the command, at the priority of the evacuation."""
        return [*_PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(self.port), "--no-services"]

    def environment(self) -> Mapping[str, str]:
        """Return the plant's settings."""
        return {**self.env, **self._plant}


class Services(Replica):
    """The server's services in one process, without a port."""

    def __init__(self, folder: Path, plant: Mapping[str, str], stream: Redis) -> None:
        """Be ready when the services read the stream of events."""
        super().__init__(folder, "services", plant)
        self._stream = stream

    def command(self) -> Sequence[str]:
        """Return the command."""
        return [*_PREFECT, "server", "services", "start"]

    def ready(self) -> bool:
        """Return whether triggers, recorder and persister listen: a services process may run without one of them."""
        return (self._stream.groups("events") or {}).keys() >= _READERS


class Balancer(PrefectServer):
    """The one address of the API, before the replicas."""

    name = "haproxy"

    def __init__(self, folder: Path, replicas: Sequence[Replica]) -> None:
        """Listen on a port of its own."""
        super().__init__(folder)
        self._replicas = replicas

    def command(self) -> Sequence[str]:
        """Return the command."""
        text = (_EXAMPLES / "haproxy.cfg").read_text()
        for place, port in enumerate([self.port, *(replica.port for replica in self._replicas)], _PORT):
            text = text.replace(f"127.0.0.1:{place}", f"127.0.0.1:{port}")
        (self.folder / "haproxy.cfg").write_text(text)
        return [*_FIRST, haproxy(), "-db", "-f", str(self.folder / "haproxy.cfg")]

    def environment(self) -> Mapping[str, str]:
        """Return ours."""
        return ManagedProcess.environment(self)


class Plant:
    """All of it. `server` is what clients are given."""

    def __init__(self, folder: Path, cache: Path) -> None:
        """Take the database from `cache`, which keeps one with the server's tables."""
        self.folder, self._cache = folder, cache
        self.replicas: list[Replica] = []

    def __enter__(self) -> Self:
        """Start everything; what takes seconds starts side by side. Raises Refused for a program that is missing."""
        postgresql(), redis(), haproxy()
        with ExitStack() as parts:
            self.database = parts.enter_context(Postgres(self.folder / "postgresql", cluster(self._cache)))
            self.stream = parts.enter_context(Redis(self.folder / "redis"))
            own = {
                **settings(),
                "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.database.url,
                "PREFECT_REDIS_MESSAGING_URL": self.stream.url(0),
                "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL": self.stream.url(0),
                "PREFECT_SERVER_DOCKET_URL": self.stream.url(1),
            }
            self.replicas = [Replica(self.folder / f"api-{n}", f"api-{n}", own) for n in (1, 2)]
            self.services = Services(self.folder / "services", own, self.stream)
            self.server = Balancer(self.folder / "haproxy", self.replicas)
            servers = [*self.replicas, self.services, self.server]
            for each in servers:
                parts.callback(each.stop)
            with ThreadPoolExecutor(len(servers)) as pool:
                list(pool.map(ManagedProcess.start, servers))
            self._parts = parts.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._parts.close()


def cluster(cache: Path) -> Path:
    """Return the files of a stopped PostgreSQL with the tables and block types of this Prefect; made once, in 35 s.

    Two API processes that register the block types in an empty database collide.
    """
    versions = f"{version('prefect')} {postgresql()} block types"
    folder = cache / f"plant-{hashlib.sha256(versions.encode()).hexdigest()[:12]}"
    if not folder.exists():
        part = folder.with_suffix(f".{os.getpid()}")
        with Postgres(cache / "plant-log") as database:
            with Replica(cache / "plant-api", "first", {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database.url}):
                pass
            database.stop()
            shutil.copytree(database.data, part)
        if folder.exists():
            shutil.rmtree(part)
        else:
            part.rename(folder)
    return folder
