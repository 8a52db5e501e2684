"""Keep the facts of an incident in journals: one file each, beside its evidence."""

import logging
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from tasks.custody.containment.answer import Answer
from tasks.custody.containment.identity import ContainerIdentity, Held, Identity
from tasks.custody.containment.receipt import (
    Frozen,
    FrozenContainer,
    Returned,
    Stopped,
    StoppedContainer,
    Unknown,
)
from tasks.custody.evidence.last_write import LastWrite
from tasks.incident import layout
from tasks.incident.paths import IncidentDirectory
from tasks.system.files.atomic_files import read_private

logger = logging.getLogger(__name__)

T = TypeVar("T")


_adapter_of: Final = cache(TypeAdapter)
"""Makes what reads and writes a type. One takes milliseconds to make, and each step has journals of its own."""


class Journal(Generic[T]):
    """A fact of an incident that later runs read."""

    def __init__(self, directory: IncidentDirectory, name: str, kind: type[T], late: "set[Journal[Any]]") -> None:
        """Set the file's name. Reads nothing. `late` are the journals of the same run that the disk has not taken."""
        self.path = directory.path / name
        self._directory, self._kind, self._late = directory, kind, late
        self._kept: T | None = None

    @property
    def _adapter(self) -> TypeAdapter[T]:
        return _adapter_of(self._kind)  # type: ignore[arg-type]  # hashable

    def read(self) -> T:
        """Return what was written last; the empty value of its type where nothing was."""
        if self._kept is not None:
            return self._kept
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            return self._adapter.validate_json(read_private(self.path))
        return self._kind()

    def of_boot(self, boot: str) -> T:
        """Return what another boot of this host wrote; the empty value, with a logged error, if that is damaged."""
        return self._load(self.path.with_name(layout.of_boot(self.path.name, boot)))

    def of_boots(self) -> list[T]:
        """Return what each boot of this host wrote, the oldest first."""
        there = self.path.parent.glob(layout.of_any_boot(self.path.name))
        return [self._load(path) for path in sorted(there, key=lambda path: path.stat().st_mtime)]

    def _load(self, path: Path) -> T:
        try:
            return self._adapter.validate_json(read_private(path))
        except FileNotFoundError:
            return self._kind()
        except (OSError, ValidationError) as error:
            logger.error("What a journal of an earlier boot says is not told: %s: %s", path, error)  # noqa: TRY400
            return self._kind()

    def write(self, value: T) -> None:
        """Write the value atomically.

        If the disk takes nothing, containment goes on: the value then lasts as long as this run, whose next write of
        any journal tries it again.
        """
        self._kept = value
        self._late.add(self)
        for each in [*self._late]:
            each._put()  # noqa: SLF001  of this class

    def _put(self) -> None:
        try:
            self._directory.write(self.path, self._adapter.dump_json(self.read(), indent=1))
            self._late.discard(self)
        except OSError as error:
            message = "%s could not be kept on disk: %s. This run goes on without it."
            logger.error(message, self.path, error)  # noqa: TRY400


class IncidentState:
    """The journals of an incident, described in `tasks.incident.layout`. Those of containment belong to one boot."""

    def __init__(self, directory: IncidentDirectory) -> None:
        """Create the journals. Reads nothing."""
        self.home, late = directory.path, set[Journal[Any]]()

        def journal(name: str, kind: type[T]) -> Journal[T]:
            return Journal(directory, name, kind, late)

        self.since = journal(layout.SINCE, int)
        self.frozen = journal(layout.FROZEN, list[Frozen])
        self.above = journal(layout.ABOVE, list[Identity])
        self.groups = journal(layout.GROUPS, list[Held])
        self.unknown = journal(layout.UNKNOWN, list[Unknown])
        self.answers = journal(layout.ANSWERS, list[Answer])
        self.listened = journal(layout.LISTENED, bool)
        self.sockets = journal(layout.SOCKETS, list[str])
        self.files = journal(layout.FILES, dict[str, int])
        self.held_files = journal(layout.HELD_FILES, list[LastWrite])
        self.container_ends = journal(layout.CONTAINER_ENDS, list[LastWrite])
        self.stopping = journal(layout.STOPPING, list[Stopped])
        self.stopping_units = journal(layout.STOPPING_UNITS, list[Identity])
        self.stopped = journal(layout.STOPPED, list[Stopped])
        self.returned = journal(layout.RETURNED, list[Returned])
        self.frozen_containers = journal(layout.FROZEN_CONTAINERS, list[FrozenContainer])
        self.stopping_containers = journal(layout.STOPPING_CONTAINERS, list[ContainerIdentity])
        self.stopped_containers = journal(layout.STOPPED_CONTAINERS, list[StoppedContainer])
        self.returned_containers = journal(layout.RETURNED_CONTAINERS, list[StoppedContainer])
        self.caught_logged = journal(layout.CAUGHT_LOGGED, int)
        self.container_files = journal(layout.CONTAINER_FILES, list[str])
        self.looked_again = journal(layout.LOOKED_AGAIN, list[ContainerIdentity])
        self.container_copies = journal(layout.CONTAINER_COPIES, dict[str, tuple[str, int, int]])
        self.claimed = journal(layout.CLAIMED, str)
        self.lost_in_place = journal(layout.LOST_IN_PLACE, list[str])
        self.written_since = journal(layout.WRITTEN_SINCE, list[str])
        self.unproven = journal(layout.UNPROVEN, list[str])
        self.turned = journal(layout.TURNED, dict[str, str])
        self.recovered = journal(layout.RECOVERED, list[Identity])
        self.recovered_containers = journal(layout.RECOVERED_CONTAINERS, list[ContainerIdentity])
        self.unlike = journal(layout.UNLIKE, list[Identity])
        self.opened = journal(layout.OPENED, list[str])
        self.newer = journal(layout.NEWER, list[str])
        self.started_by = journal(layout.STARTED_BY, str)
        self.let_in = journal(layout.LET_IN, bool)
        self.made_containers = journal(layout.MADE_CONTAINERS, list[str])
        self.ended = journal(layout.ENDED, dict[str, Any])

    @property
    def has_let_in(self) -> bool:
        """Whether a recovery of the incident has let in what runs: a training may have made new models since."""
        return self.let_in.read() or bool(self.recovered.read())

    def end_recovery(self) -> bool:
        """Count what recoveries of the incident have started as the workload again; False if there is nothing."""
        if not self.recovered.read() and not self.recovered_containers.read():
            return False
        self.let_in.write(True)
        self.recovered.write([])
        self.recovered_containers.write([])
        return True
