"""§1: pause containers of the workload that are started under the cordon, and write them down."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tasks.custody.containment.identity import ContainerIdentity
from tasks.custody.errors import ContainerGone, EngineError
from tasks.host.container.docker_engine import DockerEngine
from tasks.host.container.membership import Container, belongs, find_living
from tasks.host.guard_config import GuardConfig
from tasks.incident.run_lock import at_work
from tasks.system.files.atomic_files import read_private, rows_of

_PAUSE_SECONDS: Final = 0.5
_MOST_SECONDS: Final = 2.0
_SHARE: Final = 20


class ContainerGuard:
    """Watch the engine in a thread of its own, because it may be slow, hang or be away."""

    def __init__(self, orders: GuardConfig, note: Callable[[dict[str, Any]], None]) -> None:
        """Take the configuration, and the function that is called with each newcomer."""
        self.orders, self.note = orders, note
        self.engine = DockerEngine(orders.docker_host)
        self.caught: set[ContainerIdentity] = set()

    def stand(self) -> None:
        """Watch for ever. An engine that does not answer is asked again after the shortest pause."""
        while True:
            began, pause = time.monotonic(), _PAUSE_SECONDS
            try:
                self.watch()
                pause = max(pause, (time.monotonic() - began) * (_SHARE - 1))
            except EngineError:
                self.engine.close()
            time.sleep(min(_MOST_SECONDS, pause))

    def watch(self) -> None:
        """Pause every newcomer, and every caught container that was resumed since."""
        living = find_living(self.engine, self.orders.containers)
        frozen, started = identities(self.orders.known_containers), identities(self.orders.started_containers)
        for container in living:
            held = container.identity in frozen and (container.state == "paused" or at_work(Path(self.orders.evidence)))
            if not held and container.identity not in started:
                self._pause(container)

    def _pause(self, container: Container) -> None:
        denied = ""
        try:
            if container.state != "paused":
                self.engine.pause(container.id)
        except ContainerGone:
            return
        except EngineError as error:
            denied = error.got
        if container.identity not in self.caught:
            self.caught.add(container.identity)
            row = {
                "at": datetime.now(UTC).isoformat(),
                "container": {"id": container.id, "started_at": container.identity.started_at},
                "role": "container",
                "why": next(entry for entry in self.orders.containers if belongs(container, entry)),
                "command": container.summary,
                "source": container.source,
                "stood": container.state == "paused",
                "denied": denied,
            }
            self.note(row)


def identities(journals: Iterable[Path | str]) -> set[ContainerIdentity]:
    """Return the containers that these journals name, each in an incident's folder."""
    found = set()
    for row in (row for journal in journals for row in rows_of(Path(journal), read_private)):
        with suppress(TypeError, AttributeError):
            found.add(ContainerIdentity(**row.get("identity", row)))
    return found
