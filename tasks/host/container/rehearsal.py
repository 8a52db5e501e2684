"""Stand in for the container engine in a dry run: read the real one and record what would be changed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tasks.custody.incident.log import CustodyLog
from tasks.host.container.archive import Archive
from tasks.host.container.docker_engine import Engine
from tasks.host.container.membership import Container


class RehearsalEngine:
    """Answer as if each act had been done."""

    def __init__(self, engine: Engine, log: CustodyLog, states: dict[str, str]) -> None:
        """Take the real engine, the log for what would be done, and where to keep the states that would follow."""
        self._engine, self._log, self._states = engine, log, states

    @property
    def place(self) -> str:
        """The real address."""
        return self._engine.place

    def close(self) -> None:
        """Close the real engine."""
        self._engine.close()

    def _would(self, act: str, subject: str) -> None:
        self._log.write("would", subject, act=act)

    def _as_if(self, container: Container) -> Container:
        return replace(container, state=self._states.get(container.id, container.state))

    def containers(self, entries: Sequence[str], *, others: bool = False) -> tuple[Container, ...]:
        """Return the real ones, without those that would have ended."""
        seen = (self._as_if(container) for container in self._engine.containers(entries, others=others))
        return tuple(container for container in seen if container.alive)

    def get_container(self, id_: str) -> Container | None:
        """Return one container as it would be."""
        container = self._engine.get_container(id_)
        return self._as_if(container) if container else None

    def pause(self, id_: str) -> None:
        """Record the pause."""
        self._would("pause the container", id_[:12])
        self._states[id_] = "paused"

    def unpause(self, id_: str) -> None:
        """Record the thaw."""
        self._would("thaw the container", id_[:12])
        self._states[id_] = "running"

    def forbid_restart(self, id_: str) -> None:
        """Record the change."""
        self._would("take its restart policy from the container", id_[:12])

    def allow_restart(self, id_: str, policy: Mapping[str, Any]) -> None:
        """Record the change."""
        self._would(f"give the container its restart policy {policy.get('Name')}", id_[:12])

    def signal(self, id_: str, name: str) -> None:
        """Record the signal; the container counts as ended by it."""
        self._would(f"{name} to the container", id_[:12])
        self._states[id_] = "exited"

    def end_of(self, id_: str, seconds: float) -> int | None:
        """Return at once."""
        del id_, seconds
        return None

    def inspect(self, id_: str) -> dict[str, Any]:
        """Ask the real engine."""
        return self._engine.inspect(id_)

    def top(self, id_: str) -> dict[str, Any]:
        """Ask the real engine."""
        return self._engine.top(id_)

    def logs(self, id_: str) -> Iterator[bytes]:
        """Ask the real engine."""
        return self._engine.logs(id_)

    def follow(self, id_: str) -> Iterator[bytes]:
        """Ask the real engine."""
        return self._engine.follow(id_)

    def diff(self, id_: str) -> list[dict[str, Any]]:
        """Ask the real engine."""
        return self._engine.diff(id_)

    def archive(self, id_: str, path: str) -> Archive | None:
        """Ask the real engine."""
        return self._engine.archive(id_, path)

    def start(self, id_: str) -> None:
        """Record the start."""
        self._would("start the container", id_[:12])
        self._states[id_] = "running"

    def remove(self, id_: str) -> None:
        """Record the removal."""
        self._would("remove the container", id_[:12])

    def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Record the container."""
        del config
        self._would("make the container", name)
        return ""

    def image(self, name: str) -> dict[str, Any] | None:
        """Ask the real engine."""
        return self._engine.image(name)
