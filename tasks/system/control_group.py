"""Control groups of version 2: where they are mounted, and one group: fill it, freeze it, end all that is in it.

An act returns an empty text if it was done, else why not: what the kernel refused belongs in an incident's record.
"""

import os
import re
import select
import time
from contextlib import suppress
from dataclasses import dataclass
from errno import ENODEV, ENOENT, ESRCH
from pathlib import Path
from typing import Final

_GONE: Final = (ENOENT, ENODEV)
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")
_SECONDS: Final = 2.0


@dataclass(frozen=True)
class ControlGroup:
    """One group, by its directory, which may vanish at any moment."""

    place: Path

    @property
    def frozen(self) -> bool:
        """Whether somebody has asked for its freeze."""
        return self._text("cgroup.freeze").strip() == "1"

    @property
    def barred(self) -> str:
        """Why the group is of no use: nobody may be moved here out of the group above. Empty if some may."""
        usable = os.access(self.place.parent / "cgroup.procs", os.W_OK)
        return "" if usable else f"{self.place.parent}: nobody may be moved out of it by user {os.geteuid()}"

    def make(self) -> str:
        """Make the group, or take the one that is there."""
        try:
            self.place.mkdir(exist_ok=True)
        except OSError as error:
            return f"{self.place}: {error.strerror}"
        return ""

    def add(self, pid: int) -> str:
        """Move a process here with all its threads. One that has ended is not refused.

        Nor is a zombie, which the kernel accepts and leaves where it is.
        """
        return self._write("cgroup.procs", str(pid), ESRCH) if pid > 0 else ""  # 0 would move ourselves

    def freeze(self) -> str:
        """Stop all that is here and below, and all that will come, until `thaw`; SIGCONT does not help them."""
        return self._set_frozen("1")

    def thaw(self) -> str:
        """Let them run again, except those that a signal has stopped as well. A group that is gone holds nobody."""
        return self._set_frozen("0") if self.place.exists() else ""

    def kill(self) -> str:
        """End all that is here and below with SIGKILL, frozen or not. Refused before Linux 5.14."""
        return self._write("cgroup.kill", "1")

    def remove(self) -> str:
        """Remove the group and those below it, all of them empty."""
        for place, _, _ in os.walk(self.place, topdown=False):
            try:
                Path(place).rmdir()
            except OSError as error:
                if error.errno not in _GONE:
                    return f"{place}: {error.strerror}"
        return ""

    def _set_frozen(self, value: str) -> str:
        if self._text("cgroup.type").strip() == "threaded":
            return f"{self.place} is threaded: only the group above it that is not can be frozen"
        if reason := self._write("cgroup.freeze", value):
            return reason
        return "" if self._await(f"frozen {value}") else f"{self.place}: after {_SECONDS:g} s not `frozen {value}`"

    def _await(self, line: str) -> bool:
        """Wait until cgroup.events has this line."""
        deadline = time.monotonic() + _SECONDS
        with suppress(OSError), (self.place / "cgroup.events").open() as events:
            change = select.poll()
            change.register(events, select.POLLPRI)
            while line not in events.read().splitlines():
                if (left := deadline - time.monotonic()) <= 0:
                    return False
                change.poll(left * 1000)
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
    """Where version 2 is mounted, and the kernel's name for the group at that place."""

    place: Path
    root: str = "/"

    @classmethod
    def find(cls, mountinfo: str | None = None) -> "Hierarchy | None":
        """Find the first writable mount; None if there is none."""
        text = Path("/proc/self/mountinfo").read_text() if mountinfo is None else mountinfo
        for line in text.splitlines():
            left, _, right = line.partition(" - ")
            words, kind = left.split(), right.split()
            if kind[:1] == ["cgroup2"] and "ro" not in {*words[5].split(","), *kind[-1].split(",")}:
                root, place = (_ESCAPED.sub(lambda found: chr(int(found[1], 8)), word) for word in words[3:5])
                return cls(Path(place), root)
        return None

    def group(self, path: str) -> ControlGroup | None:
        """Return the group that the kernel calls by this path; None if it lies outside of what is mounted."""
        relative = os.path.relpath(path, self.root) if path.startswith("/") else ".."
        return None if ".." in f"{path}/{relative}".split("/") else ControlGroup(self.place / relative)
