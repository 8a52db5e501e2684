"""Find what of a process lies below a folder, by device and inode of the folders above it and by the mounts.

A path's text lies: a folder is renamed or named "x (deleted)", mounted elsewhere, deeper than the kernel can spell, or
in another mount namespace. What lies on a network's file system is not touched, unless the folder lies there too: one
that does not answer would delay the freeze.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path, PurePosixPath
from stat import S_ISDIR, S_ISLNK, S_ISREG, S_IWGRP, S_IWOTH, S_IWUSR
from threading import Lock, local
from typing import Final, NamedTuple, cast

from tasks.custody.containment.place import Place
from tasks.host.process.contents import LOWER, Contents
from tasks.host.process.handles import FileId
from tasks.host.process.known_programs import may_write, script_of
from tasks.system.files.open_beneath import pin_file
from tasks.system.kernel_tables import read_table, unescape
from tasks.system.look_budget import LookBudget, TooMuchWork
from tasks.system.unix_sockets import UnixSocket

_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_LEVELS: Final = 8192
_SHALLOW: Final = 256
_DEEP: Final = 20_000
"""Levels that a look climbs from folders that are not shallow, in all: an account may have thousands of levels."""
_NETWORKS: Final = ("nfs", "cifs", "smb", "ceph", "9p", "fuse", "gluster", "lustre", "afs", "beegfs", "gpfs", "gfs2")
_DELETED: Final = "//deleted"
_FEW_THREADS: Final = 64


class MountPoint(NamedTuple):
    """A line of mountinfo (proc(5)): device, which folder of it is mounted, and where.

    Of an overlay, `upper` is the folder in which lies what was written (upperdir).
    """

    device: str
    folder: PurePosixPath
    point: str
    kind: str
    read_only: bool
    upper: str = ""

    @property
    def of_network(self) -> bool:
        """Whether the file system may not answer."""
        return self.kind.startswith(_NETWORKS)


class View(NamedTuple):
    """How a process sees files: its name in /proc or a thread's, its mount namespace, and whether that is as we do."""

    where: int | str
    namespace: int
    ours: bool

    @property
    def process(self) -> str:
        """The process's name in /proc."""
        return str(self.where).partition("/")[0]

    def locate(self, path: str) -> str:
        """Return where we find what an absolute path is to the process."""
        return path if self.ours else f"/proc/{self.where}/root{path}"


def mounts_of(pid: int | str, budget: LookBudget | None = None) -> dict[int, MountPoint]:
    r"""Return the mounts that a process sees, by their ids, which no other namespace uses; none if not readable.

    Number, device, options and kind of a line are the kernel's; folder, point, source and the folders of an overlay are
    texts of who mounted, in which it writes what ends a field or a line as \ooo (proc(5)).
    Raises TooMuchWork if there is a budget, and no more of it.
    """
    block, check = (budget.check_now, budget.check) if budget else (None, bool)
    found = dict[int, MountPoint]()
    with suppress(OSError):
        for row in read_table(f"/proc/{pid}/mountinfo", block).split("\n"):
            check()
            with suppress(ValueError, IndexError):  # a mount that no line tells of counts as one that may be the root's
                number, _, device, folder, point, options, *words = row.split(" ")
                kind, inner = words[words.index("-") + 1], PurePosixPath(unescape(folder).removesuffix(_DELETED))
                read_only, more = "ro" in options.split(","), words[words.index("-") + 3].split(",")
                upper = next((unescape(each.removeprefix("upperdir=")) for each in more if each[:9] == "upperdir="), "")
                found[int(number)] = MountPoint(device, inner, unescape(point), kind, read_only, upper)
    return found


class RootMemory:
    """What a root was at every look: the one thing that the looks of several threads share.

    A folder that was the root stays one, and so does what was mounted below it. All else that a look keeps and spends
    is its thread's own.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        """Take the folder to which the path leads now."""
        self.path = os.path.realpath(root)
        self.paths = dict.fromkeys((self.path, os.path.abspath(root)))
        self.looks = count()
        self._tops, self._mounted = set[FileId](), set[tuple[str, PurePosixPath]]()
        self._one_at_a_time, self._thread = Lock(), local()
        self._thread.places = Places(self)  # which adds the folder as it is now

    @property
    def places(self) -> "Places":
        """The calling thread's own."""
        if not hasattr(self._thread, "places"):
            self._thread.places = Places(self)
        return cast("Places", self._thread.places)

    def add(
        self, tops: Collection[FileId], mounted: Collection[tuple[str, PurePosixPath]]
    ) -> tuple[set[FileId], set[tuple[str, PurePosixPath]]]:
        """Add what a look found. Return copies of all that was ever found: ids, and folders of devices."""
        with self._one_at_a_time:
            self._tops.update(tops)
            self._mounted.update(mounted)
            return set(self._tops), set(self._mounted)


class Places:
    """Says which parts of processes lie below one folder, to one thread.

    What was found of folders is kept until `forget`: within one look they do not move.
    """

    def __init__(self, root: str | os.PathLike[str] | RootMemory) -> None:
        """Take the folder as it is now; of one that is not there, nothing lies below it."""
        self._memory = root if isinstance(root, RootMemory) else RootMemory(root)
        self.root, self.paths = self._memory.path, self._memory.paths
        self._namespace, self._top = _inode("/proc/self/ns/mnt"), file_id("/")
        self.budget = LookBudget(self._memory.looks)
        self._begin()

    def forget(self) -> None:
        """Begin a new look. A folder that was the root stays one, and so does what was mounted below it."""
        self.budget.begin_look()
        self._begin()

    def _begin(self) -> None:
        self._mounts, self._deep = mounts_of("self"), _DEEP
        self._tops, self._mounted = set[FileId](), set[tuple[str, PurePosixPath]]()
        self._find_tops(self.root)
        self._tops, self._mounted = self._memory.add(self._tops, self._mounted)
        self._devices = {device for device, _ in self._tops}
        self._above = {found for folder in Path(self.root).parents if (found := file_id(folder))}
        self._home = {device for device, _ in self._mounted}
        self._folders: dict[FileId, bool] = {}
        self._words: dict[tuple[FileId, str], bool] = {}
        self._named: dict[tuple[int | str, str], bool] = {}
        self._slow: dict[int, tuple[tuple[str, str], ...]] = {}
        self._own: dict[int, str] = {}
        self.contents = Contents(self.root, self._tops, self._find_slow_points)
        self._guesses = 0

    def _find_tops(self, root: str) -> None:
        """Note the folder and what is mounted below it: by their ids, and as folders of devices."""
        if (top := file_id(root)) is None:
            return
        self._tops.add(top)
        with suppress(OSError, KeyError):
            with pin_file(root, follow=True) as folder:
                mount = self._mounts[_mount_id(folder)]
            inner = mount.folder / os.path.relpath(root, mount.point)
            self._mounted.add((mount.device, inner))
            # who works in the upper folder of an overlay works in the folder, too
            if mount.upper.startswith("/") and (upper := file_id(f"{mount.upper}{inner}")):
                self._tops.add(upper)
        for mount in self._mounts.values():
            if mount.point.startswith(f"{root.rstrip('/')}/"):
                self._mounted.add((mount.device, mount.folder))
                if not mount.of_network and (top := file_id(mount.point)):
                    self._tops.add(top)

    def view(self, where: int | str) -> View:
        """Return how a process, or a thread, sees files."""
        namespace = _inode(f"/proc/{where}/ns/mnt") or 0
        return View(where, namespace, namespace == self._namespace and file_id(f"/proc/{where}/root") == self._top)

    def of(self, where: int | str, command: Sequence[str], executable: str, cwd: str, threads: int) -> frozenset[Place]:
        """Return the places of a process that lie below the folder. `where` is its name in /proc, or a thread's.

        `executable` and `cwd` are what the kernel calls them, which only decides what is not touched. Raises
        TooMuchWork, with what was found until then, if its account has no more of the look's time.
        """
        found = set[Place]()
        try:
            found.update(self._find(self.view(where), command, executable, cwd, threads) if self._tops else ())
        except TooMuchWork as error:
            error.places = frozenset(found)
            raise
        return frozenset(found)

    def _find(self, view: View, command: Sequence[str], executable: str, cwd: str, threads: int) -> Iterator[Place]:
        """Yield them, the dearest to find last."""
        if works := self._link(view, "cwd", cwd):
            yield Place.CWD
        if not view.ours and file_id(f"/proc/{view.where}/root") != self._top and self._link(view, "root", ""):
            yield Place.ROOT
        if self.hides(view, executable, f"/proc/{view.where}/exe"):
            raise ValueError("a mount of its own hides where its program lies")
        if executable and self._holds(view, executable):
            yield Place.PROGRAM
        if command and "/" in command[0] and self.leads_below(view, cwd, command[0]):
            yield Place.CALLED
        if self.leads_below(view, cwd, script_of(command)):
            yield Place.SCRIPT
        if not works and threads > 1 and self._thread_works_below(view, cwd, threads):
            yield Place.CWD
        if may_write(executable) and self._writes_below(view):
            yield Place.OUTPUT

    def _link(self, view: View, name: str, text: str) -> bool:
        """Return whether the folder that a link of /proc leads to is below."""
        path = f"/proc/{view.where}/{name}"
        if self.hides(view, text, path):
            raise ValueError(f"a mount of its own hides where its {name} lies")
        if self.is_slow(view, text):
            return False
        with suppress(OSError):
            known = os.stat(path)
            if (found := self._folders.get((known.st_dev, known.st_ino))) is not None:
                return found
            return self._climb(os.open(path, _FOLDER), view)
        return False

    def _thread_works_below(self, view: View, cwd: str, threads: int) -> bool:
        """Return whether a thread with a working directory of its own, by unshare(CLONE_FS), works below."""
        if threads > _FEW_THREADS:
            self.budget.require()
        own = None if self.is_slow(view, cwd) else file_id(f"/proc/{view.where}/cwd")
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{view.process}/task"):
                self.budget.check()
                place = f"{view.process}/task/{thread}"
                if own is not None and file_id(f"/proc/{place}/cwd") in {None, own}:
                    continue
                with suppress(OSError):
                    if self._link(view._replace(where=place), "cwd", os.readlink(f"/proc/{place}/cwd")):
                        return True
        return False

    def _writes_below(self, view: View) -> bool:
        """Return whether one of its open files is below, and may be written there: the link's mode shows it."""
        with suppress(OSError):
            for name in os.listdir(f"/proc/{view.where}/fd"):
                self.budget.check()
                with suppress(OSError):
                    link = f"/proc/{view.where}/fd/{name}"
                    path = os.readlink(link)
                    if path[:1] != "/" or not os.lstat(link).st_mode & S_IWUSR:
                        continue
                    if self._holds(view, path) and not self.is_apart(view, link):
                        return True
        return False

    def leads_below(self, view: View, cwd: str, word: str) -> bool:
        """Return whether a word of a command line names a file below, by its own place or that of what it links to."""
        if not word or (not word.startswith("/") and self.is_slow(view, cwd)):
            return False
        if word.startswith(("/dev/fd/", "/proc/self/fd/")):  # its own, not ours of that number
            word = f"/proc/{view.where}/fd/{word.rpartition('/')[2]}"
        whole, link = word.startswith("/"), f"/proc/{view.where}/cwd"
        here = (0, view.namespace if view.ours else hash(view.where)) if whole else file_id(link)
        if here is None:
            return False
        if (known := self._words.get((here, word))) is not None:
            return known
        guesses = self._guesses
        found = self._names_below(view, word) if whole else self._leads_below(view, word)
        # what a thread told that ended meanwhile is not kept for those of its folder that live
        if guesses == self._guesses and (whole or file_id(link) == here):
            self._words[here, word] = found
        return found

    def _names_below(self, view: View, word: str) -> bool:
        target = _target(None, view.locate(word))
        return (self._holds(view, word) and _has(None, view.locate(word))) or bool(target and self._holds(view, target))

    def _leads_below(self, view: View, word: str) -> bool:
        folder, _, name = word.rpartition("/")
        with suppress(OSError):
            with pin_file(f"/proc/{view.where}/cwd", follow=True) as cwd:
                inner = os.open(folder or ".", _FOLDER, dir_fd=cwd)
            there, target = _has(inner, name), _target(inner, name)
            return (self._climb(inner, view) and there) or bool(target and self._holds(view, target))
        return False

    def _holds(self, view: View, path: str) -> bool:
        """Return whether the folder of a file that a process names by an absolute path is below."""
        folder = os.path.dirname(path)
        key = (view.namespace if view.ours else view.where, folder)
        if (known := self._named.get(key)) is not None:
            return known
        found = False
        if not self.is_slow(view, folder):
            for place in dict.fromkeys((view.locate(folder), folder)):
                with suppress(OSError):
                    found = found or self._climb(os.open(place, _FOLDER), view)
        self._named[key] = found
        return found

    def holds(self, view: View, path: str) -> bool:
        """Return whether an open or mapped file, by the name that the kernel gives it, lies below."""
        return bool(self._tops) and self._holds(view, path)

    def names(self, status: os.stat_result) -> bool:
        """Return whether a regular file has a name below, whatever it was opened by.

        Raises ValueError if the folder holds more than a look has time for, so that this is not known.
        """
        if not S_ISREG(status.st_mode) or not self.may_hold(status.st_dev):
            return False
        return self.contents.has((status.st_dev, status.st_ino))

    def find_socket(self, view: View, socket: UnixSocket) -> str:
        """Return a path below the folder of the file that a socket has; empty if it has none there.

        Its name only says where to look first: there must lie what the kernel tells. Raises ValueError if it is not
        known: of a folder with too many files, or of a file that is gone and may have been there.
        """
        device, number = socket.file or (0, 0)
        if not self.may_hold(device) and f"{os.major(device)}:{os.minor(device)}" not in self._home:
            return ""
        with suppress(OSError):
            path = os.path.join(os.readlink(f"/proc/{view.where}/cwd"), socket.name)
            if not self.is_slow(view, os.path.dirname(path)):
                with pin_file(os.path.dirname(view.locate(path)), follow=True) as folder:
                    status = os.stat(os.path.basename(path), dir_fd=folder, follow_symlinks=False)
                    if (status.st_dev, status.st_ino & LOWER, status.st_nlink) == (device, number, 1):
                        return path if self._climb(os.dup(folder), view) else ""
        if found := self.contents.find_socket(number):
            return found
        if socket.name.startswith("/") and self._holds(view, socket.name):
            raise ValueError(f"its socket {socket.name} has no file any more, and may have had one in the root")
        return ""

    def _find_slow_points(self) -> set[str]:
        """Return where file systems of a network are mounted that the folder has no part in."""
        return {each.point for each in self._mounts.values() if each.of_network and each.device not in self._home}

    def may_hold(self, device: int) -> bool:
        """Return whether something of the folder is on this file system."""
        return device in self._devices

    def is_roots_own(self, where: int | str, program: str) -> bool:
        """Return whether only root can have put a program there: by owner and mode, and no mount of another hides it.

        An upgrade may have deleted it since.
        """
        with suppress(OSError):
            if not self.is_slow(self.view(where), program):
                status = os.stat(f"/proc/{where}/exe")
                same = not status.st_nlink or os.path.samestat(status, os.stat(program))
                return same and not status.st_uid and not status.st_mode & (S_IWGRP | S_IWOTH)
        return False

    def is_read_only(self, view: View) -> bool:
        """Return whether the working directory is on a mount that may not be written, in our own user namespace."""
        if _inode(f"/proc/{view.where}/ns/user") != _inode("/proc/self/ns/user"):
            return False
        with suppress(OSError):
            mount = self._mount_of(f"/proc/{view.where}/cwd", view)
            return mount is not None and mount.read_only
        return False

    def _climb(self, descriptor: int, view: View) -> bool:
        """Return whether an open folder is the root, or in it, or in a mount of a part of it. Closes the descriptor.

        Raises ValueError if that is not known, because it lies too deep.
        """
        passed = list[FileId]()
        found, guesses = False, self._guesses
        try:
            mount = _mount_id(descriptor)
            for _ in self._levels():
                self.budget.check()
                here = id_of(descriptor)
                if here in self._folders or here in self._tops:
                    found = here in self._tops or self._folders[here]
                    break
                passed.append(here)
                above = os.open("..", _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor, beyond = above, _mount_id(above)
                top = id_of(above) == here
                if beyond != mount or top:
                    if self._is_mounted(mount, view, here):
                        found = True
                        break
                    mount = beyond
                if top:
                    break
            else:
                raise ValueError("a folder of it lies too deep to be told apart from the root")
        finally:
            os.close(descriptor)
        if guesses == self._guesses:
            self._folders |= dict.fromkeys(passed, found)
        return found

    def _levels(self) -> Iterator[int]:
        """Yield a number for each level that may be climbed: those of a shallow folder, and so many more in a look."""
        for level in range(_LEVELS):
            if level >= _SHALLOW:
                if not self._deep:
                    return
                self._deep -= 1
            yield level

    def _is_mounted(self, number: int, view: View, top: FileId) -> bool:
        """Return whether a mount, of which a folder that was climbed from is the `top`, shows a part of the folder.

        One of a folder above it does not, or it would have been met. A process in a chroot has such mounts, and no
        table lists them. Of another that no table lists it is whether it could: a guess, held against this process
        alone, as it may have ended meanwhile, and its folders are others' too.
        """
        if top in self._above:
            return False
        mount = self._mount(number, view)
        if mount is None:
            os.stat(f"/proc/{view.where}")  # of one that has ended meanwhile there is nothing to guess
            self._guesses += 1
            return top[0] in self._devices
        return self._shows_part(mount)

    def _shows_part(self, mount: MountPoint) -> bool:
        return any(mount.device == one and mount.folder.is_relative_to(folder) for one, folder in self._mounted)

    def _mount_of(self, link: str, view: View) -> MountPoint | None:
        """Return the mount that a link of /proc leads to, without asking its file system; None if no table has it."""
        with pin_file(link, follow=True) as pin:
            return self._mount(_mount_id(pin), view)

    def _mount(self, number: int, view: View) -> MountPoint | None:
        """Return a mount by its id: as we, the process, or a thread of it sees it; None if no table has it.

        A thread may have a mount namespace of its own, by unshare(CLONE_NEWNS): an engine unpacks images in one.
        """
        for where in dict.fromkeys((view.where, view.process)):
            if number not in self._mounts:
                self._mounts |= mounts_of(where, self.budget)
        if number not in self._mounts:
            self._add_mounts_of_threads(number, view.process)
        return self._mounts.get(number)

    def _add_mounts_of_threads(self, number: int, process: str) -> None:
        seen = {self._namespace, _inode(f"/proc/{process}/ns/mnt")}
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{process}/task"):
                self.budget.check()
                where = f"{process}/task/{thread}"
                if (namespace := _inode(f"/proc/{where}/ns/mnt")) in seen:
                    continue
                seen.add(namespace)
                self._mounts |= mounts_of(where, self.budget)
                if number in self._mounts:
                    return

    def is_apart(self, view: View, link: str) -> bool:
        """Return whether the mount by which a link of /proc leads to a file shows no part of the folder.

        Whatever the file is called: a name of another mount namespace says nothing in ours. Only of the folder's own
        file systems that is known: another may be stacked on one of them.
        """
        with suppress(OSError):
            mount = self._mount_of(link, view)
            return mount is not None and mount.device in self._home and not self._overlaps(mount)
        return False

    def _overlaps(self, mount: MountPoint) -> bool:
        """Return whether a mount shows the folder, a part of it, or a folder above it."""
        return any(
            mount.device == device and (mount.folder.is_relative_to(top) or top.is_relative_to(mount.folder))
            for device, top in self._mounted
        )

    def find_mount_of_part(self, view: View) -> str:
        """Return where a process has a part of the folder in a mount of its own that may be written; empty if nowhere.

        What is mounted below the folder's own path is there for all.
        """
        if view.namespace in {0, self._namespace}:
            return ""
        if view.namespace not in self._own:
            parts = (each for each in mounts_of(view.process, self.budget).values() if self._shows_part(each))
            points = (each.point for each in parts if not each.read_only)
            here = tuple(f"{path}/" for path in self.paths)
            self._own[view.namespace] = next((each for each in points if not f"{each}/".startswith(here)), "")
        return self._own[view.namespace]

    def hides(self, view: View, text: str, link: str) -> bool:
        """Return whether only the name of what a link of /proc leads to is on a network's file system.

        Any account can mount FUSE in a namespace of its own, above what it has open. No file system is asked.
        """
        if view.namespace == self._namespace or not self.is_slow(view, text, ("fuse",)):
            return False
        with suppress(OSError):
            mount = self._mount_of(link, view)
            return mount is None or self._overlaps(mount)
        return False

    def is_slow(self, view: View, text: str, kinds: tuple[str, ...] = _NETWORKS) -> bool:
        """Return whether a path, by its name, lies on a network's file system that the folder has no part in."""
        if view.namespace not in self._slow:
            seen = self._mounts if view.namespace == self._namespace else mounts_of(view.process, self.budget)
            points = (each for each in seen.values() if each.of_network and each.device not in self._home)
            self._slow[view.namespace] = tuple({(each.point.rstrip("/"), each.kind) for each in points})
        slow = self._slow[view.namespace] if text else ()
        return any(f"{text}/".startswith(f"{point}/") and kind.startswith(kinds) for point, kind in slow)


def _target(folder: int | None, name: str) -> str:
    """Return the file that a link leads to, by the kernel's name for it; empty if it is no link or leads nowhere."""
    with suppress(OSError):
        if S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            with pin_file(name, folder, follow=True) as pin:
                return os.readlink(f"/proc/self/fd/{pin}")
    return ""


def _has(folder: int | None, name: str) -> bool:
    """Return whether a name leads to something in an open folder, and to no folder."""
    with suppress(OSError):
        return not S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    return False


def id_of(descriptor: int) -> FileId:
    """Return device and inode of what is open there."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def file_id(path: str | Path) -> FileId | None:
    """Return device and inode of the file that a path leads to; None if there is none, or it is not readable."""
    with suppress(OSError):
        status = os.stat(path)
        return status.st_dev, status.st_ino
    return None


def _inode(path: str) -> int | None:
    with suppress(OSError):
        return os.stat(path).st_ino
    return None


def _mount_id(descriptor: int) -> int:
    info = os.open(f"/proc/self/fdinfo/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(info, 4096).partition(b"mnt_id:\t")[2].split(maxsplit=1)[0])
    finally:
        os.close(info)
