"""Copy what the frozen processes have open and no other collector takes: for writing out of the root, or deleted.

A deleted file ends with its last process; of those that are only read the ones that lay in the root count. Nobody asked
for these files, so small ones are taken if they are known to be public, and models that are deleted. What is withheld
or left is listed with its reason, as is memory that is shared without a file's name. A deleted file that the block's
patterns name is taken unless it may hold a secret. What only a process sees in the root, by mounts of its own, is
lost, and told.
"""

import errno
import os
import re
import resource
import stat
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO, Final

from tasks.acquisition.acquire import is_named
from tasks.acquisition.collector import Collector, FunctionItems, Item, Taken, Target
from tasks.acquisition.content import FileContent, read_once
from tasks.acquisition.matching import UNREAD, names_a_secret
from tasks.acquisition.pouring import Endless, blocks
from tasks.acquisition.procfs import each_namespace, fields, numbers, still, text
from tasks.acquisition.remainder import LARGEST, Remainder, document
from tasks.acquisition.room import Room, size_on_disk
from tasks.acquisition.searching import why_withheld, withhold
from tasks.collectors.containers import store
from tasks.custody.evidence.acquisition import Loss, Outcome, StoredFile
from tasks.custody.evidence.keys import NOT_TAKEN, OPEN, quote, stored_name, unquote
from tasks.custody.evidence.last_write import LastWrite, link_to
from tasks.custody.evidence.room import places
from tasks.custody.models.inspection import is_named_as_model
from tasks.custody.store.manifest import canonical, digest
from tasks.host.mounted import find_unseen
from tasks.host.process.open_files import mapped_files
from tasks.system.files.open_beneath import pin_file

_MOST_FILES: Final = 1_000
_MOST_BYTES: Final = 64 << 20
_MOST_OF_MODELS: Final = 4 << 30
_SECONDS: Final = 10.0
_DELETED: Final = b" (deleted)"
_FILE: Final = ("mnt_id", "ino")
"""What of fdinfo tells which file is open, since Linux 5.14."""
_SHARED: Final = re.compile(r"^[^ ]+ .w.s .*", re.MULTILINE)
"""A line of a mapping by which a file is changed."""
_NO_FILE: Final = re.compile(rb"/(proc|sys)/.*|/dev/zero|/dev/shm/sem\..*", re.DOTALL)
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_UNSEEN: Final = (
    "process {pid} sees another place there than we do ({kind}): the files in it were not taken, and where they lie in "
    "memory they end with the process; mount it for the whole host, or let the process write beside it"
)
_MEMORY: Final = re.compile(rb"/memfd:.*|/SYSV[0-9a-f]{8}", re.DOTALL)


@dataclass(frozen=True)
class OpenFile:
    """One file, by a `link` to it in /proc, and the name that it has or had. It may be `written` there.

    Of one that is not to be read, `refused` says why.
    """

    link: Path
    name: bytes
    status: os.stat_result
    pid: int
    written: bool
    refused: str = ""

    @property
    def is_deleted(self) -> bool:
        """Return whether no folder has it any more."""
        return self.status.st_nlink == 0

    @property
    def is_memory(self) -> bool:
        """Return whether it is memory that was shared without a file's name."""
        return self.is_deleted and bool(_MEMORY.fullmatch(self.name))

    @property
    def last_name(self) -> str:
        """The name without the folder."""
        return PurePath(os.fsdecode(self.name)).name

    @property
    def is_last_model(self) -> bool:
        """Return whether it may be what was served, and lies nowhere else."""
        return self.is_deleted and is_named_as_model(self.last_name)

    @property
    def largest(self) -> int:
        """How many bytes it may have to be taken."""
        return _MOST_OF_MODELS if self.is_last_model else LARGEST

    @property
    def most(self) -> int:
        """How many bytes may be taken of all of its kind."""
        return _MOST_OF_MODELS if self.is_last_model else _MOST_BYTES

    @property
    def place(self) -> str:
        """Where it is stored: a deleted one by its inode too, as many may have had one name."""
        folder = b"deleted/%d" % self.status.st_ino if self.is_deleted else b"there"
        return f"{OPEN}/{stored_name(folder + b'/' + self.name)}"

    @property
    def source(self) -> bytes:
        """Its name in what lists it."""
        return self.name + _DELETED if self.is_deleted else self.name


def find(target: Target, *, read_too: bool = True) -> Iterator[OpenFile | Loss]:
    """Yield each file once: open for writing, mapped so that a write changes it, or deleted, if it was the root's.

    Without `read_too` those that are only read are left out, and a deleted one may be empty: it may yet be written.
    Another thread may exchange what a descriptor leads to: each is pinned, judged, and linked to, until the next one.
    """
    root, seen, refused = PurePath(os.path.realpath(target.root)), dict[object, OpenFile](), dict[object, OpenFile]()
    apart = [root, *map(PurePath, target.apart)]
    for pid, start in target.frozen:
        try:
            ids, links = fields(text(pid, "status")), [*_links(pid, root if read_too else None)]
        except PermissionError:
            yield Loss(f"open files of process {pid}", Outcome.DENIED, "they may not be read")
            continue
        except (FileNotFoundError, ProcessLookupError):
            continue
        for link, written in sorted(links, key=lambda each: not each[1]) if still(pid, start) else ():
            with suppress(FileNotFoundError, ProcessLookupError, PermissionError), pin_file(link, follow=True) as pin:
                here, status = Path(f"/proc/self/fd/{pin}"), os.fstat(pin)
                key, name = (status.st_dev, status.st_ino), os.fsencode(here.readlink())
                name = name if status.st_nlink else name.removesuffix(_DELETED)
                nothing = (read_too and not (status.st_nlink or status.st_size)) or _NO_FILE.fullmatch(name)
                if nothing or not stat.S_ISREG(status.st_mode) or key in seen:
                    continue
                if _is_there(name, key) and any(PurePath(os.fsdecode(name)).is_relative_to(at) for at in apart):
                    continue
                file = OpenFile(here, name, status, pid, written, _refuse(link, here, status, ids))
                (refused if file.refused else seen)[key] = file
                if not file.refused:
                    yield file
    yield from (file for key, file in refused.items() if key not in seen)


def _refuse(link: Path, pin: Path, status: os.stat_result, ids: dict[str, str]) -> str:
    """Return why what a process has open is not read for it; empty if it is.

    `ids` are the lines of its status, read before the file was pinned: who has no right to read a file may have it open
    all the same, without reading (O_PATH).
    """
    user, groups = int(ids["Uid"].split()[0]), {*ids["Gid"].split()[:1], *ids["Groups"].split()}
    bit = stat.S_IRGRP if str(status.st_gid) in groups else stat.S_IROTH
    if user and status.st_uid != user and not status.st_mode & bit:
        return "the account of the process neither owns it nor may read it"
    if link.parent.name == "fd":
        infos = (Path(str(each).replace("/fd/", "/fdinfo/")).read_bytes() for each in (link, pin))
        at, ours = (fields(each.decode(errors="replace")) for each in infos)
        if [at.get(key) for key in _FILE] != [ours.get(key) for key in _FILE]:
            return "it was exchanged for another one as it was looked at"
        if int(at["flags"], 8) & os.O_PATH:
            return "the process has it open without reading it (O_PATH)"
    return ""


def _links(pid: int, root: PurePath | None) -> Iterator[tuple[Path, bool]]:
    """Yield a link to each file that a process may write, or that is deleted and was the root's; and which it is."""
    for number in numbers(f"{pid}/fd"):
        with suppress(FileNotFoundError):
            flags = int(fields(text(pid, f"fdinfo/{number}")).get("flags", "0"), 8)
            link, written = Path(f"/proc/{pid}/fd/{number}"), flags & os.O_ACCMODE != os.O_RDONLY
            if written or (root and _was_of(root, link)):
                yield link, written
    maps = text(pid, "maps")
    for mode, _, _, path in mapped_files(pid, maps if root else "\n".join(_SHARED.findall(maps))):
        link, written = Path(path), "s" in mode and "w" in mode
        if written or (root and _was_of(root, link)):
            yield link, written


def _was_of(root: PurePath, link: Path) -> bool:
    """Return whether a file is deleted and was the root's. No other is touched: its file system may not answer."""
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        name = os.fsencode(link.readlink())
        former = PurePath(os.fsdecode(name.removesuffix(_DELETED)))
        return name.endswith(_DELETED) and former.is_relative_to(root) and not link.stat().st_nlink
    return False


def _is_there(name: bytes, key: tuple[int, int]) -> bool:
    """Return whether a file lies at its name: another may have taken that name since."""
    with suppress(OSError):
        there = Path(os.fsdecode(name)).lstat()
        return (there.st_dev, there.st_ino) == key
    return False


def gather(target: Target, folder: Path) -> Iterator[Item]:
    """Copy the small files, then write the list of the others. Yields nothing if there are none."""
    room, remainders, files, taken = Room.of(target, folder), list[Remainder](), 0, Counter[bool]()
    until = time.monotonic() + _SECONDS
    yield from _find_lost(target)
    for each in find(target):
        if isinstance(each, Loss):
            yield each
            continue
        size, last = each.status.st_size, each.is_last_model
        why = each.refused or (UNREAD if names_a_secret(each.last_name) else "")
        why = why or ("" if size <= each.largest else f"above {each.largest >> 20} MiB")
        why = "no file, and no collector takes memory" if each.is_memory else why
        named = _is_named(each, target)
        late = not named and time.monotonic() > until
        if not why and (late or files >= _MOST_FILES or size > each.most - taken[last]):
            why = f"after the first {_MOST_FILES} files, {each.most >> 20} MiB or {_SECONDS:g} s that no pattern names"
        if not why:
            match _take(each, room, each.most - taken[last]):
                case Taken() as item if private := why_withheld(item, target, folder, named=named):
                    why = withhold(item, folder, why=private).reason
                case Taken() as item:
                    files += 1
                    taken[last] += item.file.size
                    yield item
                case Loss() as loss:
                    why = loss.reason
                    yield loss
        if why:
            remainders.append(Remainder(each.source, 1, size, f"{_tell(each)}: {why}", elsewhere=True))
    if remainders:
        yield store(room, f"{OPEN}/{NOT_TAKEN}", canonical(document(remainders)))


def _is_named(file: OpenFile, target: Target) -> bool:
    """Return whether the name that it had in the root is one that the block names, or else of a model that is lost."""
    name, root = PurePath(os.fsdecode(file.name)), os.path.realpath(target.root)
    return file.is_last_model or (name.is_relative_to(root) and is_named(target, os.fsencode(name.relative_to(root))))


def hold(target: Target) -> Iterator[LastWrite]:
    """Yield what processes may write into as they end, of what `find` finds, kept open by this process.

    What is mapped is told by its digest too: of what is written there the time of writing need not tell.
    """
    most, more = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4, 0
    mapped, room = _find_mapped(target), _MOST_BYTES
    for each in find(target, read_too=False):
        with suppress(OSError):
            if isinstance(each, OpenFile) and not (each.is_memory or each.refused):
                if not most:
                    more += 1
                    continue
                most -= 1
                link = link_to(os.open(each.link, os.O_RDONLY))
                at, status = (each.status.st_dev, each.status.st_ino), each.status
                name, size = quote(each.name), status.st_size
                is_read = each.name in mapped and size <= min(room, LARGEST)
                room -= size if is_read else 0
                content = digest(Path(link)) if is_read else ""
                yield LastWrite(name, link, "", "", *at, size, status.st_mtime_ns, each.pid, each.written, content)
    if more:
        yield LastWrite(reason=f"not compared after the stop: {more} more open files 停止中の書き込みは不明")


def _find_mapped(target: Target) -> frozenset[bytes]:
    """Return the names of the files that processes have mapped so that a write changes them."""
    found = set[bytes]()
    for pid, _ in target.frozen:
        with suppress(OSError):
            shared = "\n".join(_SHARED.findall(os.fsdecode(Path(f"/proc/{pid}/maps").read_bytes())))
            found |= {os.fsencode(path) for _, path, *_ in mapped_files(pid, shared)}
    return frozenset(found)


def gather_last(target: Target, folder: Path) -> Iterator[Item]:
    """Copy what has changed of the files that were held over the stop, as far as it was to be copied before."""
    room = Room.of(target, folder)
    for write in read_writes(target, inside=False):
        name = unquote(write.name)
        if write.reason:
            yield Loss(OPEN, Outcome.WITHHELD, write.reason)
            continue
        with ExitStack() as stack:
            try:
                link = stack.enter_context(find_held(write, os.fsdecode(name)))
            except OSError:
                reason = "deleted: what was written into it during the stop ended with the run that held it"
                yield Loss(quote(name), Outcome.FAILED, f"{reason} 停止中の書き込みは不明")
                continue
            if _is_as_before(write, link, status := link.stat()):
                continue
            each = OpenFile(link, name, status, write.pid, written=write.written)
            if names_a_secret(each.last_name) or write.size > each.largest:
                continue  # not taken before either, and listed so
            match _take(each, room, each.most):
                case Taken() as item if private := why_withheld(item, target, folder, named=_is_named(each, target)):
                    yield withhold(item, folder, why=private)
                case item:
                    yield item


def _is_as_before(write: LastWrite, link: Path, status: os.stat_result) -> bool:
    """Return whether a held file is as it was before the stop."""
    if (status.st_size, status.st_mtime_ns) != (write.size, write.mtime_ns):
        return False
    with suppress(OSError):
        return not write.sha256 or digest(link) == write.sha256
    return False


def read_writes(target: Target, *, inside: bool) -> list[LastWrite]:
    """Return what was held over the stop: of what containers wrote, or of the host's files."""
    return [each for each in (LastWrite(**row) for row in target.last_writes) if bool(each.container) == inside]


@contextmanager
def find_held(write: LastWrite, *names: str) -> Iterator[Path]:
    """Yield where a held file can be read: by the run that holds it, or by one of its names. OSError if nowhere."""
    with ExitStack() as stack:
        for path in (write.link, *names):
            with suppress(OSError):
                pin = stack.enter_context(pin_file(path, follow=path == write.link))
                if write.is_of(os.fstat(pin)):
                    break
        else:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), write.name)
        yield Path(f"/proc/self/fd/{pin}")


def _find_lost(target: Target) -> Iterator[Loss]:
    """Yield each folder of the root where processes see, by their own mounts, what may hold files and we do not see."""
    for pid in each_namespace("mnt", target.frozen).values():
        try:
            unseen = find_unseen(pid, target.root)
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError as error:
            yield Loss(f"mounts of process {pid}", Outcome.FAILED, error.strerror or str(error))
            continue
        for point, kind in unseen.items():
            if kind not in _IN_MEMORY or _may_hold_files(f"/proc/{pid}/root{point}"):
                yield Loss(quote(os.fsencode(point)), Outcome.FAILED, _UNSEEN.format(pid=pid, kind=kind))


def _may_hold_files(place: str) -> bool:
    """Return whether there may be content. Only memory is asked: another file system may not answer."""
    unread = list[OSError]()
    with suppress(OSError):
        status = os.lstat(place)
        if not stat.S_ISDIR(status.st_mode):
            return stat.S_ISREG(status.st_mode) and status.st_size > 0
        return any(names for _, _, names in os.walk(place, onerror=unread.append)) or bool(unread)
    return True  # covered by another mount, or gone with its process


def _tell(file: OpenFile) -> str:
    place = "deleted, and with the process gone" if file.is_deleted else "out of the root"
    place = "shared memory" if file.is_memory else place
    return f"open{' for writing' * file.written} in process {file.pid}, {place}"


def _take(file: OpenFile, room: Room, limit: int) -> Taken | Loss:
    read, size = list[FileContent](), file.status.st_size

    def write(out: BinaryIO) -> None:
        read[:] = [read_once(blocks(source.fileno(), size, limit), size, file.place, None, out)]

    try:
        with file.link.open("rb") as source:
            where = room.put(file.place, places(size_on_disk(file.status), room.free)[:-1], write)
    except OSError as error:
        return Loss(quote(file.source), Outcome.FAILED, error.strerror or str(error))
    except Endless:
        return Loss(quote(file.source), Outcome.TRUNCATED, f"it yields more than the {limit} bytes that may be stored")
    content, status = read[0], file.status
    stored = StoredFile(
        file.place,
        quote(file.source),
        content.size,
        content.sha256,
        status.st_mtime_ns,
        note=_tell(file),
        where=room.where(where),
        access=f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid}",
        parts=content.parts,
    )
    return Taken(stored, content.search)


COLLECTOR = Collector(
    name="open_files",
    answers="What was the workload writing out of its folder, or into files that had no name any more?",
    order=11,
    sources=(FunctionItems(gather, OPEN),),
    needed=True,
    deadline=30.0,
    limit=2 * _MOST_BYTES + _MOST_OF_MODELS,
    while_frozen=True,
    unhurried=True,
)
