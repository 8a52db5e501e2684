"""What a power loss leaves of a folder: what was flushed to disk by then, and of the last write whole sectors."""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any
from unittest.mock import patch

_SECTOR = 512
_OF_NAMES = ("rename", "replace", "link", "unlink", "remove", "mkdir", "rmdir")


@dataclass(frozen=True)
class Entry:
    """A file with its content, or a folder (None), as a crash leaves it."""

    mode: int
    modified: int
    content: bytes | None


Image = Mapping[str, Entry]
"""All below a folder, by names relative to it; a folder comes before what is in it."""


@dataclass
class Disk:
    """Watches what this process does below a folder, through the functions of `os`.

    `happens` is called with each event that a crash may follow: a flush (before it and after it), a change of a name,
    and a signal, which others report.
    """

    folder: Path
    happens: Callable[[str], object]
    _data: dict[int, bytes] = field(default_factory=dict)
    _names: dict[int, dict[str, tuple[int, int, int]]] = field(default_factory=dict)
    _pinned: dict[int, int] = field(default_factory=dict)
    _lock: Any = field(default_factory=RLock)
    _reading: dict[tuple[int, ...], bytes] = field(default_factory=dict)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch for the block. What is there at its begin counts as flushed."""
        for place, *_ in os.walk(self.folder):
            self._flush_folder(place)
            for each in os.scandir(place):
                if each.is_file(follow_symlinks=False):
                    self._flush_file(each.path)
        with ExitStack() as patches:
            for name in _OF_NAMES:
                patches.enter_context(patch.object(os, name, self._told(name, getattr(os, name))))
            patches.enter_context(patch.object(os, "fsync", self._fsync))
            yield
        for each in self._pinned.values():
            os.close(each)

    def _told(self, name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def done(*args: Any, **about: Any) -> Any:
            last = os.fsdecode(args[-1] if len(args) > 1 and name in {"rename", "replace", "link"} else args[0])
            place = about.get("dst_dir_fd", about.get("dir_fd"))
            path = os.path.join(os.readlink(f"/proc/self/fd/{place}"), last) if place is not None else last
            with self._lock:
                result = act(*args, **about)
                if path.startswith(f"{self.folder}/"):
                    self.happens(f"{name} {os.path.relpath(path, self.folder)}")
            return result

        return done

    def _fsync(self, descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        path = os.readlink(f"/proc/self/fd/{number}")
        if not f"{path}/".startswith(f"{self.folder}/"):
            return
        flush = self._flush_folder if stat.S_ISDIR(os.fstat(number).st_mode) else self._flush_file
        with self._lock:
            self.happens(f"before fsync {os.path.relpath(path, self.folder)}")
            flush(f"/proc/self/fd/{number}")
            self.happens(f"fsync {os.path.relpath(path, self.folder)}")

    def _flush_folder(self, path: str) -> None:
        found = dict[str, tuple[int, int, int]]()
        for each in os.scandir(path):
            about = each.stat(follow_symlinks=False)
            self._pin(each.path, about.st_ino)
            found[each.name] = about.st_ino, about.st_mode, about.st_mtime_ns
        number = os.stat(path).st_ino
        self._pin(path, number)
        self._names[number] = found

    def _flush_file(self, path: str) -> None:
        about = os.stat(path)
        self._pin(path, about.st_ino)
        self._data[about.st_ino] = self._content(path, about)

    def _pin(self, path: str, number: int) -> None:
        """Keep it open, so that no other gets its number."""
        if number not in self._pinned:
            self._pinned[number] = os.open(path, os.O_PATH)

    def _content(self, path: str, about: os.stat_result) -> bytes:
        key = about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns
        if key not in self._reading or about.st_size < 1 << 16:
            with open(path, "rb") as file:
                self._reading[key] = file.read()
        return self._reading[key]

    def kept(self) -> Image:
        """All of it as it is."""
        found = dict[str, Entry]()
        for place, folders, files in os.walk(self.folder):
            for name in sorted(folders):
                path = os.path.join(place, name)
                about = os.stat(path)
                found[os.path.relpath(path, self.folder)] = Entry(about.st_mode, about.st_mtime_ns, None)
            for name in files:
                path = os.path.join(place, name)
                about = os.stat(path)
                content = self._content(path, about)
                found[os.path.relpath(path, self.folder)] = Entry(about.st_mode, about.st_mtime_ns, content)
        return found

    def lost(self) -> Image:
        """What was flushed; of what was written last, the whole sectors too."""
        living = {os.stat(self.folder / name).st_ino: each for name, each in self.kept().items()}
        waiting = {n: each for n, each in living.items() if each.content is not None and each.content != self._data.get(n)}
        last = max((each.modified for each in waiting.values()), default=0)
        found = dict[str, Entry]()

        def below(number: int, prefix: str) -> None:
            for name, (inner, mode, modified) in self._names.get(number, {}).items():
                if stat.S_ISDIR(mode):
                    found[prefix + name] = Entry(mode, modified, None)
                    below(inner, f"{prefix}{name}/")
                    continue
                content = self._data.get(inner, b"")
                if inner in waiting and waiting[inner].modified == last:
                    written = waiting[inner].content or b""
                    torn = written[: len(written) // _SECTOR * _SECTOR]
                    content = torn if len(torn) > len(content) and torn.startswith(content) else content
                found[prefix + name] = Entry(mode, modified, content)

        below(os.stat(self.folder).st_ino, "")
        return found


def rebuild(folder: Path, image: Image) -> None:
    """Make the folder anew as the image has it."""
    folder.mkdir()
    for name, each in image.items():
        path = folder / name
        if each.content is None:
            path.mkdir()
        else:
            path.write_bytes(each.content)
        path.chmod(stat.S_IMODE(each.mode))
    for name, each in reversed(image.items()):
        with suppress(OSError):
            os.utime(folder / name, ns=(each.modified, each.modified))
