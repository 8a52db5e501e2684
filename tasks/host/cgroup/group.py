"""Control groups (cgroup v2): find the mount; create, fill, freeze and kill one group.

Actions return an empty text on success, else the reason, which goes into an incident's record.

See docs/adr/0026.
"""

import os
import select
import time
from contextlib import suppress
from dataclasses import dataclass
from errno import ENODEV, ENOENT, ESRCH
from pathlib import Path
from typing import Final

from tasks.system.kernel_tables import read_table, unescape

_SECONDS: Final = 2.0


@dataclass(frozen=True)
class ControlGroup:
    """One group, by its directory, which may vanish at any moment."""

    place: Path

    @property
    def is_frozen(self) -> bool:
        """Whether a freeze was requested."""
        return self._text("cgroup.freeze").strip() == "1"

    @property
    def obstacle(self) -> str:
        """Why no process can be moved here from the parent group; empty if that is possible."""
        usable = os.access(self.place.parent / "cgroup.procs", os.W_OK)
        return "" if usable else f"{self.place.parent}: user {os.geteuid()} may not move processes out of it"

    def make(self) -> str:
        """Create the group, or use an existing one."""
        try:
            self.place.mkdir(exist_ok=True)
        except OSError as error:
            return f"{self.place}: {error.strerror}"
        return ""

    def add(self, pid: int) -> str:
        """Move a process with all its threads here. A process that has ended is no error.

        Nor is a zombie, which the kernel accepts but does not move.
        """
        return self._write("cgroup.procs", str(pid), ESRCH) if pid > 0 else ""  # 0 would move ourselves

    def freeze(self) -> str:
        """Freeze all processes here and below, and later ones, until `thaw`. SIGCONT does not wake them."""
        return self._set_frozen("1")

    def thaw(self) -> str:
        """Let the processes run again, except those that a signal has stopped too. A missing group is no error."""
        return self._set_frozen("0") if self.place.exists() else ""

    def kill(self) -> str:
        """Kill all processes here and below, frozen or not. Fails before Linux 5.14."""
        return self._write("cgroup.kill", "1")

    def remove(self) -> str:
        """Remove the group and those below it, which must be empty."""
        for place, _, _ in os.walk(self.place, topdown=False):
            try:
                Path(place).rmdir()
            except OSError as error:
                if error.errno not in {ENOENT, ENODEV}:
                    return f"{place}: {error.strerror}"
        return ""

    def _set_frozen(self, value: str) -> str:
        if self._text("cgroup.type").strip() == "threaded":
            return f"{self.place} is threaded: only a group above it that is not threaded can be frozen"
        if reason := self._write("cgroup.freeze", value):
            return reason
        return "" if self._await(f"frozen {value}") else f"{self.place}: not `frozen {value}` after {_SECONDS:g} s"

    def _await(self, line: str) -> bool:
        deadline = time.monotonic() + _SECONDS
        with suppress(OSError), (self.place / "cgroup.events").open() as events:
            change = select.poll()
            change.register(events, select.POLLPRI)
            while line not in events.read().splitlines():
                if (remaining := deadline - time.monotonic()) <= 0:
                    return False
                change.poll(remaining * 1000)
                events.seek(0)
            return True
        return False

    def _text(self, name: str) -> str:
        with suppress(OSError):
            return (self.place / name).read_text()
        return ""

    def _write(self, name: str, value: str, *accepted: int) -> str:
        try:
            with os.fdopen(os.open(self.place / name, os.O_WRONLY | os.O_CLOEXEC), "wb", 0) as file:
                file.write(value.encode())
        except OSError as error:
            return "" if error.errno in accepted else f"{self.place / name}: {error.strerror}"
        return ""


@dataclass(frozen=True)
class Hierarchy:
    """The mount point of cgroup v2, and the kernel's path of the group there."""

    place: Path
    root: str = "/"

    @classmethod
    def find(cls, mountinfo: str | None = None) -> "Hierarchy | None":
        """Return the first writable mount; None if there is none.

        What follows " - " is the kernel's: in the texts before it a space is escaped.
        """
        text = read_table("/proc/self/mountinfo") if mountinfo is None else mountinfo
        for line in text.split("\n"):
            fields, _, filesystem = line.partition(" - ")
            words, kind = fields.split(" "), filesystem.split(" ")
            if kind[:1] == ["cgroup2"] and "ro" not in {*words[5].split(","), *kind[-1].split(",")}:
                root, place = map(unescape, words[3:5])
                return cls(Path(place), root)
        return None

    def group(self, path: str) -> ControlGroup | None:
        """Return the group of a kernel path; None if it is outside the mount."""
        relative = os.path.relpath(path, self.root) if path.startswith("/") else ".."
        return None if ".." in f"{path}/{relative}".split("/") else ControlGroup(self.place / relative)
