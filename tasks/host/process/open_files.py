"""Read what processes hold from /proc: open and mapped files, what they were started by. Done after a freeze."""

import ctypes
import os
import re
import struct
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePath
from stat import S_IRUSR, S_ISREG, S_IWUSR
from typing import Final

from tasks.custody.containment.identity import Identity
from tasks.host.process.handles import FileId, Handles, PipeEnd
from tasks.host.process.known_programs import script_of
from tasks.host.process.matcher import is_below
from tasks.host.process.places import Places, View, file_id
from tasks.host.process.process import Process
from tasks.host.process.table import GONE, place_of, start_of
from tasks.host.process.waiting import ask_for_sockets, find_bound, find_waits
from tasks.system.kernel_tables import ENVIRONMENT, read_kernel, read_table
from tasks.system.unix_sockets import UnixSockets

_TRIES: Final = 3
_DELETED: Final = " (deleted)"
_WORDS: Final = 6
_LONGEST: Final = 4096
_THREADS_TRIED: Final = 9
_MODE, _DEVICE, _INODE, _PATH = 1, 3, 4, 5
_AT_EXECFN: Final = 31
_PAIR: Final = struct.calcsize("NN")
_SEARCHED: Final = (b"PYTHONPATH=", b"NODE_PATH=", b"PERL5LIB=", b"CLASSPATH=", b"LD_LIBRARY_PATH=")
_KCMP, _KCMP_FILES = {"x86_64": 312, "aarch64": 272}.get(os.uname().machine, -1), 2
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_NAMING: Final = (b"PWD=", b"VIRTUAL_ENV=", b"CONDA_PREFIX=")


def read_handles(
    processes: Iterable[Process], places: Places, models: Collection[FileId] = (), accounts: Collection[int] = ()
) -> dict[Identity, Handles]:
    """Return the handles of those processes that have not ended, `denied` for unreadable ones. 0.3 ms a process.

    `models` are the files of the workload's models, `accounts` its uids beside the folder's owner. No error of one
    process ends this: `unread` says it.
    """
    processes = [*processes]
    found, sockets, owners = {}, ask_for_sockets(processes), {places.contents.owner, *accounts}
    for process in processes:
        try:
            handles = _read_anew(process, places, models, sockets, is_owner=process.user in owners)
            if start_of(process.pid) == process.identity.start:
                found[process.identity] = handles
        except ProcessLookupError:
            continue
        except Exception as error:  # noqa: BLE001  whatever its account has put there, all others are read
            found[process.identity] = Handles(denied=True, unread=f"{type(error).__name__}: {error}")
    return found


def find_written(process: Process, places: Places) -> frozenset[FileId]:
    """Return the files that a process has open or mapped for writing, by device and inode, whatever they are called.

    Those that it calls by names of a network's file system, which may not answer, are left out. Empty if it ended.
    """
    found = set[FileId | None]()
    with suppress(OSError, ValueError):
        where = place_of(process.pid)
        view = places.view(where)
        for link in [f"/proc/{where}/fd/{name}" for name in os.listdir(f"/proc/{where}/fd")] + _files_of_threads(where):
            with suppress(OSError):
                path = os.readlink(link)
                if path[:1] == "/" and os.lstat(link).st_mode & S_IWUSR and not places.is_slow(view, path):
                    found.add(file_id(link))
        for mode, path, file, link in mapped_files(where, read_table(f"/proc/{where}/maps")):
            if "s" in mode and ("w" in mode or _may_be_written(link)):
                found |= {file, None if places.is_slow(view, path) else file_id(link)}
        if start_of(process.pid) != process.identity.start:
            return frozenset()
    return frozenset(filter(None, found))


def _read_anew(
    process: Process, places: Places, models: Collection[FileId], unix: UnixSockets, *, is_owner: bool
) -> Handles:
    """Read a process; at another of its threads if the one that was to be read has ended meanwhile."""
    for _ in range(_THREADS_TRIED):
        with suppress(ProcessLookupError):
            return _read(place_of(process.pid), process, places, models, unix, is_owner=is_owner)
        start_of(process.pid)
    return Handles(denied=True, unread="none of its threads lived long enough to be read")


def _read(  # noqa: PLR0913  what a process is looked at beside
    where: int | str, process: Process, places: Places, models: Collection[FileId], unix: UnixSockets, *, is_owner: bool
) -> Handles:
    try:
        opened, unread = _links(where)
        text = read_table(f"/proc/{where}/maps")
    except PermissionError:
        return Handles(denied=True)
    except FileNotFoundError as error:
        raise ProcessLookupError(process.pid) from error
    maps, view, files = list(mapped_files(where, text)), places.view(where), _files(opened)
    shared = {path for mode, path, _, link in maps if "s" in mode and ("w" in mode or _may_be_written(link))}
    mapped = {path: file for _, path, file, _ in maps}
    links = {path: link for _, path, _, link in maps} | {path: link for path, (link, _) in files.items()}
    below = frozenset(path for path, link in links.items() if _is_below(view, path, link, places))
    mapped_models = [path for path, file in mapped.items() if file in models]
    open_models = [path for path, (link, _) in files.items() if models and file_id(link) in models]
    telling = {path: link for mode, path, _, link in maps if path in shared or "x" in mode}
    telling |= {path: link for path, (link, written) in files.items() if written}
    lost = (path for path, link in telling.items() if path not in below and _is_elsewhere(view, path, link, places))
    unread = unread or next((f"its file {path} lies at another place" for path in lost), "")
    written = {path for path, (_, written) in files.items() if written} | shared
    try:
        below |= {path for path in written - below if _is_linked(view, path, links[path], places)}
    except ValueError as error:
        unread = unread or str(error)
    waits, listens, code = "", "", frozenset(path for mode, path, *_ in maps if "x" in mode)
    try:
        listens = find_bound(view, opened, places, unix)
        waits = find_waits(view, opened, places, is_owner=is_owner)
    except (ValueError, OSError) as error:
        unread = unread or str(error)
    data = sorted(below & mapped.keys() - code)
    called, program, variables = _read_execfn(where), _link(where, "exe"), _read_variables(where)
    return Handles(
        program=file_id(f"/proc/{where}/exe"),
        trusted=places.is_roots_own(where, program),
        volatile=program.endswith(_DELETED) or program.startswith("/memfd:"),
        called=called,
        called_below=places.leads_below(view, process.cwd, called),
        called_found=_is_found(view, process, called),
        code=code,
        read=frozenset(path for path, (_, written) in files.items() if not written),
        written=frozenset(written),
        below=below,
        model=next(iter([*mapped_models, *open_models]), ""),
        mapped_model=bool(mapped_models),
        listens=listens,
        waits=waits,
        mapped=f"it has a file of the root mapped: {data[0]}" if data else "",
        sockets=frozenset(path for path, _ in opened if path.startswith("socket:")),
        names_root=_argument(process, places.paths) or _search_path(variables, places.paths),
        began_there=_find_start(variables, places.paths),
        lost=_lost(view, places),
        resolved=_is_resolved(view, process, called, places),
        read_only=bool(process.places) and places.is_read_only(view),
        stdin=_link(where, "fd/0"),
        pipes=_pipes(where),
        unread=unread,
    )


def _link(where: int | str, name: str) -> str:
    with suppress(OSError):
        return os.readlink(f"/proc/{where}/{name}")
    return ""


def _lost(view: View, places: Places) -> str:
    """Return the name of a working directory that leads there no more; empty if it does.

    The folder is deleted, covered by a mount, or in one that was taken away (umount -l). What lies on a network's file
    system is not touched: of that only the kernel's word counts.
    """
    name = ""
    for _ in range(_TRIES):  # it may be renamed meanwhile, or left for another
        name, top = _link(view.where, "cwd"), _link(view.where, "root").rstrip("/")
        if places.is_slow(view, name):
            return name.removesuffix(_DELETED) if name.endswith(_DELETED) else ""
        here = file_id(f"/proc/{view.where}/cwd")
        if here and here in {file_id(view.locate(name.removeprefix(top))), file_id(name)}:
            return ""
    return name.removesuffix(_DELETED)


def _read_execfn(where: int | str) -> str:
    """Return the path by which the kernel started the program: it stays when argv and environment are overwritten."""
    with suppress(OSError, struct.error, UnicodeError):
        vector = Path(f"/proc/{where}/auxv").read_bytes()
        pairs = dict(struct.iter_unpack("NN", vector[: len(vector) // _PAIR * _PAIR]))
        with Path(f"/proc/{where}/mem").open("rb", buffering=0) as memory:
            memory.seek(pairs.get(_AT_EXECFN, 0))
            return os.fsdecode(memory.read(_LONGEST).partition(b"\0")[0])
    return ""


def _argument(process: Process, roots: Iterable[str]) -> str:
    """Return an argument that names the root; empty if none."""
    return next((word for word in process.command[1:] if _leads_to(word, roots)), "")


def _search_path(rows: Iterable[bytes], roots: Iterable[str]) -> str:
    """Return the first search path among these variables that names the root; empty if none does."""
    named = (os.fsdecode(row) for row in rows if row.startswith(_SEARCHED))
    return next((row for row in named if _leads_to(row, roots)), "")


def _find_start(rows: Iterable[bytes], roots: Iterable[str]) -> str:
    """Return the first of these variables that says that it was started in the root; empty if none does."""
    named = (os.fsdecode(row) for row in rows if row.startswith(_NAMING))
    tops = [PurePath(root) for root in roots]
    return next((row for row in named if any(is_below(row.partition("=")[2], top) for top in tops)), "")


def _read_variables(where: int | str) -> list[bytes]:
    with suppress(OSError):
        return read_kernel(f"/proc/{where}/environ", ENVIRONMENT).split(b"\0")
    return []


def _leads_to(word: str, roots: Iterable[str]) -> bool:
    return any(re.search(rf"{re.escape(root)}(?![\w.-])", word) for root in roots)


def _is_resolved(view: View, process: Process, called: str, places: Places) -> bool:
    """Return whether program and script are found, and none of them, nor the working directory, below the root."""
    if process.places or not process.executable:
        return False
    words = [word for word in (called, script_of(process.command)) if word]
    return all(_is_found(view, process, word) and not places.leads_below(view, process.cwd, word) for word in words)


def _is_found(view: View, process: Process, word: str) -> bool:
    if word.startswith("/"):
        return os.path.lexists(view.locate(word))
    module = word.partition(":")[0].replace(".", "/")
    base = f"/proc/{view.where}/cwd"
    return any(os.path.lexists(f"{base}/{name}") for name in (word, f"{module}.py", module)) and bool(process.cwd)


def _pipes(where: int | str) -> frozenset[PipeEnd]:
    found = set[PipeEnd]()
    with suppress(OSError):
        for name in os.listdir(f"/proc/{where}/fd"):
            if (pipe := _link(where, f"fd/{name}")).startswith("pipe:"):
                with suppress(OSError):  # closed meanwhile
                    mode = os.lstat(f"/proc/{where}/fd/{name}").st_mode
                    found.add(PipeEnd(pipe, int(name), bool(mode & S_IRUSR), bool(mode & S_IWUSR)))
    return frozenset(found)


def mapped_files(where: int | str, text: str) -> Iterator[tuple[str, str, FileId, str]]:
    r"""Yield mode, path and file of each mapping of a file, with the kernel's link to that.

    All fields are the kernel's but the last, the name. In it the kernel writes a newline as \012 and a backslash as it
    is (proc(5)): only the link tells which it was.
    """
    for line in text.split("\n"):
        words = line.split(" ", maxsplit=_PATH)
        if len(words) == _WORDS and words[_INODE] != "0":
            major, _, minor = words[_DEVICE].partition(":")
            file = (os.makedev(int(major, 16), int(minor, 16)), int(words[_INODE]))
            first, _, last = words[0].partition("-")
            link = f"/proc/{str(where).partition('/')[0]}/map_files/{int(first, 16):x}-{int(last, 16):x}"
            path = os.readlink(link) if "\\012" in words[_PATH] else words[_PATH].lstrip(" ")
            yield words[_MODE], path.removesuffix(_DELETED), file, link


def _may_be_written(link: str) -> bool:
    """Return whether a mapped file was opened for writing, as its link shows: mprotect(2) may give that right back."""
    with suppress(OSError):
        return bool(os.lstat(link).st_mode & S_IWUSR)
    return True


def _is_below(view: View, path: str, link: str, places: Places) -> bool:
    """Return whether an open or mapped file lies below: by its name, unless its mount shows nothing of the folder."""
    return path.startswith("/") and places.holds(view, path) and not places.is_apart(view, link)


def _is_linked(view: View, path: str, link: str, places: Places) -> bool:
    """Return whether an open or mapped file that is called by a name elsewhere has another one below, by a hard link.

    Asked of what may be written alone: a cache of packages has its files in many environments by such links.
    """
    with suppress(OSError):
        if path.startswith("/") and not places.is_slow(view, path):
            status = os.stat(link)
            return status.st_nlink > 1 and places.names(status)
    return False


def _is_elsewhere(view: View, path: str, link: str, places: Places) -> bool:
    """Return whether a file of the root's file system is not where its name leads: a mount hides it, or has no place.

    One without any name left lies nowhere. One that is closed or renamed meanwhile was where its name led.
    """
    if places.is_slow(view, path):
        return places.hides(view, path, link)
    return all(_seems_elsewhere(view, path, link, places) for _ in range(_TRIES))


def _seems_elsewhere(view: View, path: str, link: str, places: Places) -> bool:
    with suppress(OSError):
        status = os.stat(link)
        if not path.startswith("/") or not status.st_nlink or not places.may_hold(status.st_dev):
            return False
        for place in dict.fromkeys((view.locate(path), path)):
            with suppress(OSError):
                if os.path.samestat(status, os.lstat(place)):
                    return False
        if os.readlink(link).removesuffix(_DELETED) == path and not places.is_apart(view, link):
            # its number may be another file's by now, of the same name
            return os.path.samestat(status, os.stat(link)) and _may_be_named(status, places)
    return False


def _may_be_named(status: os.stat_result, places: Places) -> bool:
    """Return whether a file that is not where its name leads has, or may have, another name below."""
    try:
        return not S_ISREG(status.st_mode) or places.names(status)
    except ValueError:
        return True


def _links(where: int | str) -> tuple[list[tuple[str, str]], str]:
    """Return the open files by the kernel's names, with a link to each.

    With the reason why one of them is not known: the kernel does not spell a path of more than 4095 bytes.
    """
    found, unread = list[tuple[str, str]](), ""
    for link in [f"/proc/{where}/fd/{name}" for name in os.listdir(f"/proc/{where}/fd")] + _files_of_threads(where):
        try:
            found.append((os.readlink(link), link))
        except GONE:
            continue
        except PermissionError:
            raise
        except OSError as error:
            unread = f"its open file {link}: {error.strerror}"
    return found, unread


def _files(links: Iterable[tuple[str, str]]) -> dict[str, tuple[str, bool]]:
    """Return those that have a path, and whether one may write there: the link's mode shows it (proc(5))."""
    found = dict[str, tuple[str, bool]]()
    for path, link in links:
        with suppress(*GONE):
            if path.startswith("/"):
                name, written = path.removesuffix(_DELETED), bool(os.lstat(link).st_mode & S_IWUSR)
                found[name] = link, written or (name in found and found[name][1])
    return found


def _files_of_threads(where: int | str) -> list[str]:
    """Return links to the open files of threads with a table of their own, by unshare(CLONE_FILES).

    kcmp(2) tells which threads share one; where it does not, all are read.
    """
    pid, _, thread = str(where).partition("/task/")
    found = list[str]()
    for other in os.listdir(f"/proc/{pid}/task"):
        if other != (thread or pid) and _LIBC.syscall(_KCMP, int(thread or pid), int(other), _KCMP_FILES, 0, 0):
            with suppress(*GONE, PermissionError):  # a thread that has exited may be root's to read
                found += [f"/proc/{pid}/task/{other}/fd/{name}" for name in os.listdir(f"/proc/{pid}/task/{other}/fd")]
    return found


class _Statx(ctypes.Structure):
    """The begin of struct statx (statx(2)), as far as the time of birth, and room for the rest."""

    _fields_ = (
        ("mask", ctypes.c_uint32),
        ("before", ctypes.c_ubyte * 76),
        ("seconds", ctypes.c_int64),
        ("nanoseconds", ctypes.c_uint32),
        ("rest", ctypes.c_ubyte * 164),
    )


def birth_of(path: str) -> float:
    """Return when a file was made, in seconds of the epoch; infinite if that is not known: nobody is younger then."""
    status, mask = _Statx(), 0x800  # STATX_BTIME
    with suppress(OSError, AttributeError):
        failed = _LIBC.statx(-100, os.fsencode(path), 0, mask, ctypes.byref(status))
        if not failed and status.mask & mask and status.seconds > 0:
            return float(status.seconds + status.nanoseconds / 1e9)
    return float("inf")
