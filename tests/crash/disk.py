"""What a power loss leaves of a folder: what was flushed to disk by then, and of the last write whole sectors."""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any
from unittest.mock import patch

_SECTOR = 512
_OF_NAMES = ("rename", "replace", "link", "unlink", "remove", "mkdir", "rmdir")
_TO = {"rename", "replace", "link"}
_LARGE = 1 << 16


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

    `happens` is called with each event that a crash may follow: a flush (before it and after it) and a change of a
    name. What others tell of, as a signal, is in between.
    """

    folder: Path
    happens: Callable[[str], object]
    _data: dict[int, bytes] = field(default_factory=dict)
    _names: dict[int, dict[str, os.stat_result]] = field(default_factory=dict)
    _pinned: dict[int, int] = field(default_factory=dict)
    _read: dict[tuple[int, ...], bytes] = field(default_factory=dict)
    _lock: Any = field(default_factory=RLock)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch for the block. What is there at its begin counts as flushed."""
        for path in (self.folder, *self.folder.rglob("*")):
            self._flush(path)
        with ExitStack() as patches:
            for name in _OF_NAMES:
                patches.enter_context(patch.object(os, name, self._told(name, getattr(os, name))))
            patches.enter_context(patch.object(os, "fsync", self._fsync))
            yield
        for each in self._pinned.values():
            os.close(each)

    def _told(self, name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def told(*args: Any, **about: Any) -> Any:
            place = about.get("dst_dir_fd", about.get("dir_fd"))
            path = (Path() if place is None else _opened(place)) / os.fsdecode(args[name in _TO])
            with self._lock:
                result = act(*args, **about)
                if path.is_relative_to(self.folder):
                    self.happens(f"{name} {path.relative_to(self.folder)}")
            return result

        return told

    def _fsync(self, file: Any) -> None:
        number = file if isinstance(file, int) else file.fileno()
        path = _opened(number)
        if path.is_relative_to(self.folder):
            with self._lock:
                self.happens(f"before fsync {path.relative_to(self.folder)}")
                self._flush(Path(f"/proc/self/fd/{number}"))
                self.happens(f"fsync {path.relative_to(self.folder)}")

    def _flush(self, path: Path) -> None:
        about = path.stat()
        self._pin(path, about.st_ino)
        if not stat.S_ISDIR(about.st_mode):
            self._data[about.st_ino] = self._content(path)
            return
        self._names[about.st_ino] = {each.name: each.lstat() for each in path.iterdir()}
        for name, each in self._names[about.st_ino].items():
            self._pin(path / name, each.st_ino)

    def _pin(self, path: Path, number: int) -> None:
        """Keep it open, so that no other gets its number."""
        if number not in self._pinned:
            self._pinned[number] = os.open(path, os.O_PATH)

    def _content(self, path: Path) -> bytes:
        about = path.stat()
        key = about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns
        if key not in self._read or about.st_size < _LARGE:
            self._read[key] = path.read_bytes()
        return self._read[key]

    def kept(self) -> Image:
        """All of it as it is."""
        found = dict[str, Entry]()
        for path in self.folder.rglob("*"):
            about = path.stat()
            content = None if stat.S_ISDIR(about.st_mode) else self._content(path)
            found[str(path.relative_to(self.folder))] = Entry(about.st_mode, about.st_mtime_ns, content)
        return found

    def lost(self) -> Image:
        """What was flushed; of what was written last, the whole sectors too."""
        living = {(self.folder / name).stat().st_ino: each for name, each in self.kept().items()}
        waiting = {number: each for number, each in living.items() if each.content != self._data.get(number)}
        last = max((each.modified for each in waiting.values() if each.content is not None), default=0)
        found = dict[str, Entry]()

        def below(number: int, prefix: str) -> None:
            for name, about in self._names.get(number, {}).items():
                content = None if stat.S_ISDIR(about.st_mode) else self._data.get(about.st_ino, b"")
                written = waiting.get(about.st_ino)
                if content is not None and written and written.content and written.modified == last:
                    torn = written.content[: len(written.content) // _SECTOR * _SECTOR]
                    content = torn if torn.startswith(content) else content
                found[prefix + name] = Entry(about.st_mode, about.st_mtime_ns, content)
                if content is None:
                    below(about.st_ino, f"{prefix}{name}/")

        below(self.folder.stat().st_ino, "")
        return found


def _opened(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


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
    for name, each in reversed([*image.items()]):
        os.utime(folder / name, ns=(each.modified, each.modified))
