"""The small workload as an image: the base image and the standard library, built in a second."""

import io
import json
import pickle
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

from blocks.workload import Workload
from tests.support.docker_engine import BASE, DockerDaemon
from tests.support.workloads import API, SmallWorkload, free_port, wait_until

IMAGE = "mlops-sklearn-portfolio:test"
_OF_THE_CONTAINER = frozenset({"image", "name", "labels", "environment", "stop_signal", "working_dir"})
API_COMMAND = ["python3", "-m", "uvicorn", "api.app:app", "--host", "0.0.0.0", "--port", "8000"]  # noqa: S104
LOUD_API = API.replace('"127.0.0.1"', '"0.0.0.0"').replace("import json", "print('serving', flush=True)\nimport json")
STUBBORN = """
import os, signal, time
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: os.write(1, b"heard\\n"))  # print may be at work: it would raise
print("up", flush=True)
while True:
    time.sleep(0.05)
"""
COUNTER = """
import itertools, time
print("up", flush=True)
for number in itertools.count():
    print(number, flush=True)
    time.sleep(0.01)
"""
FILES = {
    "Dockerfile": f"FROM {BASE}\nWORKDIR /app\nCOPY . /app\nCMD {json.dumps(API_COMMAND)}\n".encode(),
    "uvicorn/__main__.py": LOUD_API.encode(),
    "stubborn.py": STUBBORN.encode(),
    "counter.py": COUNTER.encode(),
    "models/model_builtin.joblib": pickle.dumps({"weights": list(range(500))}),
    "logs/train-20260101_000000.log": b"iteration 1\n",
    "artifacts/summary_builtin.json": b'{"sklearn": "1.7.2"}',
    "artifacts/cv_results_builtin.csv": b"iter,score\n0,0.9\n",
}


def build(engine: DockerDaemon, tag: str, files: Mapping[str, bytes]) -> None:
    """Build an image from files that are nowhere on disk."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    context.seek(0)
    with closing(engine.client()) as client:
        told = list(client.build(fileobj=context, custom_context=True, tag=tag, rm=True, decode=True))
        assert client.images(tag), told


class Containers:
    """Containers of one test, under names of their own; all of them end with it."""

    def __init__(self, engine: DockerDaemon) -> None:
        """The image is built by the first who wants it."""
        self.engine, self.client = engine, engine.client()
        self.mark = f"t{uuid4().hex[:8]}"
        self.port = free_port()
        if not self.client.images(IMAGE):
            build(engine, IMAGE, FILES)

    def answers(self, path: str) -> Any:
        """What the API in a container says, None while it says nothing."""
        with suppress(OSError), urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as answer:
            return json.load(answer)
        return None

    @property
    def asked(self) -> str:
        """What the workload block says to have these containers and no other."""
        return f"label=test={self.mark}"

    def run(self, command: Sequence[str] | None = None, *, ports: bool = False, **options: Any) -> str:
        """As `docker run --detach`; waits for its first output. Its full id."""
        settings = {"port_bindings": {8000: ("127.0.0.1", self.port)}} if ports else {}
        host = {name: value for name, value in options.items() if name not in _OF_THE_CONTAINER}
        made = self.client.create_container(
            options.get("image", IMAGE),
            command,
            ports=[8000] if ports else None,
            name=options.get("name") or f"{self.mark}-{uuid4().hex[:4]}",
            labels={"test": self.mark, **options.get("labels", {})},
            environment=options.get("environment"),
            stop_signal=options.get("stop_signal"),
            working_dir=options.get("working_dir"),
            host_config=self.client.create_host_config(**settings, **host),
        )
        id_ = str(made["Id"])
        self.client.start(id_)
        wait_until(lambda: self.client.logs(id_) or self.state(id_) == "paused", what="its first output, or a guard")
        return id_

    def state(self, id_: str) -> str:
        """As `docker ps --all` tells; empty if it is gone."""
        found = self.client.containers(all=True, filters={"id": id_})
        return str(found[0]["State"]) if found else ""

    def block(self, small: SmallWorkload, **changes: object) -> Workload:
        """A workload block that asks for these containers."""
        fields: dict[str, object] = {
            "containers": [self.asked],
            "docker_host": self.engine.host,
            "api_url": f"http://127.0.0.1:{self.port}",
        }
        return small.block(**(fields | changes))

    def end(self) -> None:
        """Remove what is left of them, volumes too."""
        from docker.errors import APIError

        deadline = time.monotonic() + 20
        while found := self.client.containers(all=True, filters={"label": f"test={self.mark}"}):
            for container in found:
                with suppress(APIError):
                    self.client.remove_container(container["Id"], force=True, v=True)
            assert time.monotonic() < deadline, "the containers did not end"
        for volume in self.client.volumes(filters={"name": self.mark})["Volumes"] or []:
            self.client.remove_volume(volume["Name"], force=True)


@contextmanager
def containers_of(engine: DockerDaemon) -> Iterator[Containers]:
    """Containers that end with the block."""
    containers = Containers(engine)
    try:
        yield containers
    finally:
        containers.end()
        containers.client.close()
