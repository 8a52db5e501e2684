"""Find what no pattern or folder of the block names, in the root above all: what to copy, what is left, and why."""

import errno
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from tasks.acquisition.matching import INSTEAD, UNREAD, build_loss, find_names, is_hidden, names_a_secret, read_link
from tasks.acquisition.reading import read_inside
from tasks.acquisition.room import size_on_disk
from tasks.custody.evidence.acquisition import Loss, Outcome
from tasks.custody.evidence.keys import CONTAINERS, FOLDERS, NOT_TAKEN, SNAPSHOT_FOLDERS, quote, unquote, volume_order
from tasks.custody.evidence.pattern import patterns_of
from tasks.custody.evidence.public_text import why_private
from tasks.custody.models.inspection import is_named_as_model
from tasks.custody.visible import visible
from tasks.system.files.atomic_files import HALF_WRITTEN
from tasks.system.files.open_beneath import folder_below, real_name

MOST_FILES: Final = 5_000
LARGEST: Final = 16 << 20
MOST_ENTRIES: Final = 100_000
_SHOWN: Final = 5
_UNCOUNTED: Final = 3
_ROWS: Final = 1_000
MORE: Final = "more than are listed"
_SECONDS: Final = 10.0
_CACHES: Final = re.compile(r"__pycache__|\.?cache|\..*_cache|node_modules|\.(tox|nox|eggs|ipynb_checkpoints)")
_TOPS: Final = {
    "data": "data, of which datasets.json has names and digests as far as they are known",
    **dict.fromkeys(SNAPSHOT_FOLDERS, "no pattern names it, nor does `folders`"),
}
ENVIRONMENT: Final = ("pyvenv.cfg", "conda-meta")
"""Of these a virtual environment has one at its top."""
NO_CONTENT: Final = "a socket, a pipe or a device, which has no content"
CACHE: Final = "a cache, by its name"


@dataclass(frozen=True)
class Remainder:
    """A file, or a whole folder (its name ends in a slash), that is left where it lies.

    Unless `complete` it has more files than these: the walk ended before. `reproducible` is what can be made again. One
    that lies `elsewhere` is in a container, or out of the root; `image` is what a container has of its image.
    """

    name: bytes
    files: int
    size: int
    reason: str
    complete: bool = True
    reproducible: bool = False
    elsewhere: bool = False
    image: bool = False


class RootWalk:
    """The walk through one root: `names` to copy, which take `size` bytes, `remainders`, `losses` of the unreadable."""

    def __init__(
        self,
        root: bytes,
        globs: Mapping[str, Sequence[str]],
        apart: Iterable[str] = (),
        others: Sequence[str] = (),
        seconds: float = _SECONDS,
    ) -> None:
        """Begin with what patterns and folders take; the walk may take so many seconds from now on."""
        self.root, self.globs, self.size = root, globs, 0
        self.names, self.remainders, self.losses = list[bytes](), list[Remainder](), list[Loss]()
        self._entries_left, self._until = MOST_ENTRIES, time.monotonic() + seconds
        self._device, self._real = os.stat(root).st_dev, os.path.realpath(root)
        self._apart = frozenset(map(os.fsencode, apart))
        names, losses = find_names(root, [*others, *patterns_of(globs, without=FOLDERS)])
        self._others_names = frozenset(names)
        self._whole = frozenset(map(os.fsencode, globs[FOLDERS]))
        self._folders_names, unread = find_names(root, globs[FOLDERS])
        self._name_links(names, [*losses, *unread])

    def walk(self) -> "RootWalk":
        """Walk once; no link is followed, no other file system entered, nothing read but names and sizes."""
        folders = [b""]
        while folders:
            folders += reversed(list(self._look(folders.pop())))
        return self

    def _name_links(self, names: Sequence[bytes], losses: Sequence[Loss]) -> None:
        """Name the links to folders that no copy has: a program may find its files by them."""
        reasons = {unquote(each.source): f": {each.reason}" for each in losses if each.outcome is Outcome.MISSING}
        for name in names:
            path = os.path.join(self.root, name)
            if name.partition(b"/")[0] not in self._whole and os.path.islink(path) and os.path.isdir(path):
                reasons[name] = ", a folder, which this pattern does not take"
        for name, reason in reasons.items():
            self.remainders.append(Remainder(name, 1, 0, f"{_tell_link(self.root, name)}{reason}", reproducible=True))

    def _look(self, at: bytes) -> Iterator[bytes]:
        """Yield the folders to look into."""
        if self._over():
            late = "not looked into: the walk had reached its limit"
            self.remainders.append(Remainder(at + b"/", 0, 0, late, complete=False))
            return
        try:
            entries = self._list(at)
        except OSError as error:
            self.losses.append(build_loss(at, error))
            return
        for name, status in entries:
            if name in self._others_names or self._is_apart(name):
                continue
            if not at and name in self._whole:  # a link too, which that collector follows within the root
                continue
            if not stat.S_ISDIR(status.st_mode):
                self._file(name, status)
            elif reason := self._why_whole(name, status):
                self._count(name, *reason)
            else:
                yield name

    def _is_apart(self, name: bytes) -> bool:
        """Return whether this is ours, or what is being written to become so."""
        path = os.path.join(self._real, name)
        return path in self._apart or HALF_WRITTEN.sub(rb"\1", path) in self._apart

    def _list(self, at: bytes) -> list[tuple[bytes, os.stat_result]]:
        with folder_below(self.root, at) as (folder, real):
            if os.path.normpath(at or b".") != real:  # a link by now
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            entries = []
            for name in sorted(os.listdir(b"/proc/self/fd/%d" % folder)):
                with suppress(FileNotFoundError):
                    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    entries.append((os.path.join(at, name), status))
        self._entries_left -= len(entries)
        return entries

    def _over(self) -> bool:
        return self._entries_left <= 0 or time.monotonic() > self._until

    def _file(self, name: bytes, status: os.stat_result) -> None:
        last, size = os.fsdecode(os.path.basename(name)), status.st_size
        if stat.S_ISLNK(status.st_mode):
            self.remainders.append(_remainder_of_link(self.root, name))
        elif not stat.S_ISREG(status.st_mode):
            self.remainders.append(Remainder(name, 1, 0, NO_CONTENT))
        elif why := why_unread(last, size):
            other = self.tell_other(status) if status.st_nlink > 1 else ""
            self.remainders.append(Remainder(name, 1, size, f"{why}{other}"))
        elif len(self.names) >= MOST_FILES:
            why = f"after the first {MOST_FILES} files that no pattern names"
            self.remainders.append(Remainder(name, 1, size, why))
        else:
            self.names.append(name)
            self.size += size_on_disk(status)

    def tell_other(self, status: os.stat_result) -> str:
        """Return under which other name, by a link or hard link, the block has a file taken; empty if it has not."""
        patterns = patterns_of(self.globs)
        for name in self._names_taken.get((status.st_dev, status.st_ino), ()):
            if (real := real_name(self.root, name)) and not is_hidden(name, real, patterns):
                return f"; taken as {quote(name)}, which the block names: the same file"
        return ""

    @property
    def left_over(self) -> list[bytes]:
        """What lies in the folders that go whole to the snapshot, and no pattern names."""
        return [name for name in self._folders_names if name not in self._others_names]

    @property
    def all_names(self) -> set[bytes]:
        """What is taken of the root by patterns, with folders, or unnamed, before sizes are looked at."""
        return {*self.names, *self._folders_names, *self._others_names}

    @cached_property
    def _names_taken(self) -> dict[tuple[int, int], list[bytes]]:
        """What patterns and folders take, by device and inode. It is asked for of few files alone."""
        names = dict[tuple[int, int], list[bytes]]()
        for name in (*self._others_names, *self._folders_names):
            with suppress(OSError):
                status = os.stat(os.path.join(self.root, name))
                names.setdefault((status.st_dev, status.st_ino), []).append(name)
        return names

    def _why_whole(self, name: bytes, status: os.stat_result) -> tuple[str, bool] | None:
        """Return why a folder is left whole, and whether it can be made again; None if it is looked into."""
        top, last = b"/" not in name, os.fsdecode(os.path.basename(name))
        if status.st_dev != self._device:
            return "another file system", False
        if last in {".git", ".hg", ".svn"}:
            return "version control: the collector git tells commit and changes", True
        if is_cache(last):
            return CACHE, True
        if any(os.path.lexists(os.path.join(self.root, name, os.fsencode(each))) for each in ENVIRONMENT):
            return "a virtual environment: the collector packages lists it", True
        reason = _TOPS.get(last, "") if top else ""
        return (reason, False) if reason else None

    def _count(self, name: bytes, reason: str, reproducible: bool) -> None:  # noqa: FBT001  one pair with the reason
        files = size = 0
        folders, unreadable = [name], False
        while folders and not self._over():
            try:
                entries = self._list(folders.pop())
            except OSError:
                unreadable = True
                continue
            folders += [each for each, status in entries if stat.S_ISDIR(status.st_mode)]
            others = (status for each, status in entries if each not in self._others_names)
            rest = [status.st_size for status in others if not stat.S_ISDIR(status.st_mode)]
            files, size = files + len(rest), size + sum(rest)
        complete = not (folders or unreadable)
        if files or not complete:
            self.remainders.append(Remainder(name + b"/", files, size, reason, complete, reproducible))


def _remainder_of_link(root: bytes, name: bytes) -> Remainder:
    """Return a link: what lies behind one out of the root is not looked at, and how much that is not known."""
    reason, leads_out = f"{_tell_link(root, name)}, which is not followed", False
    with suppress(OSError):
        leads_out = real_name(root, name) is None
    return Remainder(name, 0, 0, f"{reason}: {INSTEAD}", complete=False) if leads_out else Remainder(name, 1, 0, reason)


def _tell_link(root: bytes, name: bytes) -> str:
    to = read_link(root, name)
    return f"a link{f' to {quote(to)}' if to else ''}"


def is_cache(name: str) -> bool:
    """Return whether a folder is a cache, by its name."""
    return bool(_CACHES.fullmatch(name))


def why_unread(name: str, size: int = 0) -> str:
    """Return why a file that nobody named is left, by its own name and size in bytes; empty if it may be copied."""
    if names_a_secret(name):
        return UNREAD
    if is_named_as_model(name):
        return "a model by its name, which `models` does not name"
    return f"above the {LARGEST >> 20} MiB that a file may have unnamed" if size > LARGEST else ""


def judge(root: Path, name: bytes) -> Remainder | None:
    """Read a file of the root. Return it as left, with its digest, if it is not known to be public; else None."""
    path = root / os.fsdecode(name)
    try:
        size, data = path.stat().st_size, read_inside(root, path, LARGEST + 1)
    except OSError as error:
        return Remainder(name, 1, 0, f"withheld unread: {error.strerror or error}")
    if why := why_unread(path.name, size) or why_private(path.name, data):
        digest = f"; {size} bytes, sha256 {hashlib.sha256(data).hexdigest()}" if len(data) <= LARGEST else ""
        return Remainder(name, 1, size, f"{why if why.startswith('withheld') else f'withheld: {why}'}{digest}")
    return None


def document(remainders: Sequence[Remainder]) -> dict[str, Any]:
    """Return the content of not_taken.json: a row for each file and whole folder; of very many the first."""
    ordered = _sort(remainders)
    rows = [
        {"name": quote(each.name), "files": each.files, "bytes": each.size, "reason": each.reason}
        | ({} if each.complete else {"counted": "not counted to its end"})
        | ({"image": True} if each.image else {})
        for each in ordered[:_ROWS]
    ]
    more = ordered[_ROWS:]
    added = {"rows": len(more), "files": sum(e.files for e in more), "bytes": sum(e.size for e in more)}
    rest = {"more": added | ({} if all(e.complete for e in more) else {"counted": "not counted to its end"})}
    return {"not_taken": rows, **(rest if more else {})}


def read_other_list(path: Path) -> list[Remainder]:
    """Read what a collector has left elsewhere, from a file with such content. Raises OSError or ValueError."""
    listed = json.loads(path.read_bytes())
    rows = [
        Remainder(
            unquote(row["name"]),
            row["files"],
            row["bytes"],
            row["reason"],
            complete="counted" not in row,
            reproducible="image" in row,
            elsewhere=True,
            image="image" in row,
        )
        for row in listed["not_taken"]
    ]
    if more := listed.get("more"):
        inside = f"{CONTAINERS}/" if path.parent.parent.name == CONTAINERS else ""
        name = os.fsencode(f"{inside}{path.parent.name}/")
        rows.append(Remainder(name, more["files"], more["bytes"], MORE, elsewhere=True))
    return rows


def describe_not_taken(*homes: Path) -> str:
    """Return how much an incident's last collection of code has left, and the file that lists it.

    Empty if it has left nothing, or if that file is not there. `homes` are the incident's folders: that on the fallback
    disk has what did not fit.
    """
    lists = (path for home in homes for path in home.glob(f"evidence*/{NOT_TAKEN}"))
    found = sorted(lists, key=lambda path: volume_order(path.parent.name))
    try:
        listed = json.loads(found[-1].read_bytes())
        rows = [*listed["not_taken"], *filter(None, [listed.get("more")])]
        files, size = (sum(int(row[name]) for row in rows) for name in ("files", "bytes"))
        unknown = [row for row in rows if "counted" in row and not row["files"] and "name" in row]
        places = [_tell_uncounted(unquote(row["name"]), row["reason"]) for row in unknown]
        images = sum("image" in row for row in rows)
    except (IndexError, OSError, ValueError, KeyError, TypeError):
        return ""
    more = ", and more that was not counted" if any("counted" in row and row not in unknown for row in rows) else ""
    parts = [f"{_number(files)} of {size:,} bytes{more}"] if files or size or more or not (images or places) else []
    parts += [*places[:_UNCOUNTED], *([f"{len(places) - _UNCOUNTED} more, not counted"] if places[_UNCOUNTED:] else [])]
    parts += [f"the files of {images} image{'s'[: images != 1]}"] if images else []
    return f"{', '.join(parts)}; {found[-1]} lists what and why" if rows else ""


def in_a_line(remainders: Sequence[Remainder]) -> str:
    """Return what is left in one line: files, then whole folders, what can be made again last. Empty if nothing is."""
    ordered = _sort(remainders)
    rows = [each for each in ordered if not each.image]
    images = [f"{visible(os.fsdecode(each.name))} ({each.reason})" for each in ordered if each.image]
    folders = [each for each in rows if each.name.endswith(b"/")]
    single = [each for each in rows if not each.name.endswith(b"/")]
    files = [visible(os.fsdecode(each.name)) for each in single if each.complete and not each.reproducible]
    again = [visible(os.fsdecode(each.name)) for each in single if each.reproducible]
    links = [visible(os.fsdecode(each.name)) for each in single if not each.complete]
    parts = [f"{_number(len(files))} ({_list_first(files)})"] if files else []
    parts += [_words(each) for each in folders[:_SHOWN]]
    parts += [f"{len(folders) - _SHOWN} more in not_taken.json"] if folders[_SHOWN:] else []
    in_root = parts and not all(each.elsewhere for each in rows)
    cures = ["name what is needed in logs, artifacts, models or folders"] if in_root else []
    if links:
        parts.append(f"{len(links)} link{'s'[: len(links) != 1]} out of the root, not counted ({_list_first(links)})")
        cures.append(f"of a link out of the root, {INSTEAD}")
    if again:
        parts.append(f"{len(again)} link{'s'[: len(again) != 1]}, to be made again by hand ({_list_first(again)})")
    parts += [*images[:_SHOWN], *([f"{len(images) - _SHOWN} more images"] if images[_SHOWN:] else [])]
    return f"not taken 未採取: {'; '.join([', '.join(parts), *cures])}" if parts else ""


def _tell_uncounted(name: bytes, reason: str) -> str:
    return f"{visible(os.fsdecode(name))}, not counted ({visible(reason.partition(':')[0])})"


def _words(folder: Remainder) -> str:
    if not (folder.complete or folder.files):
        return _tell_uncounted(folder.name, folder.reason)
    more = "" if folder.complete else ", not counted to its end"
    return f"{visible(os.fsdecode(folder.name))} {_number(folder.files)} {folder.size:,} bytes{more}"


def _list_first(names: Sequence[str]) -> str:
    return f"{', '.join(names[:_SHOWN])}{' …' * bool(names[_SHOWN:])}"


def _number(files: int) -> str:
    return f"{files} file{'s'[: files != 1]}"


def _sort(remainders: Sequence[Remainder]) -> list[Remainder]:
    return sorted(remainders, key=lambda each: (each.reproducible, each.name.endswith(b"/"), each.name))
