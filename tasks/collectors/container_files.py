"""Collect logs and files of the paused containers (layer, volumes, mounts). `docker run --rm` loses both.

What a container changed in its own layer and no pattern names is taken if it is small, else listed with its reason.
Nobody asked for these files, so what is not known to be public is withheld, whatever the block says of the files that
it names.
"""

import os
import posixpath
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from tasks.acquisition.collector import TIB, Collector, FunctionItems, Item, Taken, Target
from tasks.acquisition.content import read_once
from tasks.acquisition.layer import Layer
from tasks.acquisition.matching import UNREAD, is_hidden
from tasks.acquisition.pouring import blocks
from tasks.acquisition.remainder import NO_CONTENT, document, why_unread
from tasks.acquisition.room import Room
from tasks.acquisition.searching import why_withheld, withhold
from tasks.collectors.containers import place, store, to_look_into
from tasks.custody.errors import ContainerGone, EngineError, EngineUnreachable
from tasks.custody.evidence.acquisition import Loss, Outcome, StoredFile
from tasks.custody.evidence.keys import (
    CHANGED,
    CONTAINER_FILES,
    CONTAINERS,
    FOLDERS,
    FROM_ROOT,
    IN_CONTAINER,
    NOT_TAKEN,
    placed_name,
    quote,
    stored_name,
)
from tasks.custody.evidence.pattern import fits, is_full, literal_folder, patterns_of
from tasks.custody.evidence.room import ContentPlace, places
from tasks.custody.store.manifest import canonical
from tasks.host.container.docker_engine import DockerEngine, Engine

_BLOCK: Final = 1 << 20
_SHARE: Final = 0.9
_NANO: Final = 1_000_000_000
_MOST_CHANGED: Final = 1_000
_CHANGED_BYTES: Final = 64 << 20
_CHANGED_SECONDS: Final = 30.0
"""Of all containers together, while they stand still: how much is asked for that no pattern names."""


def gather(target: Target, folder: Path) -> Iterator[Item]:
    """Yield for each container its log, then its files that the block's patterns match: below its working directory.

    A pattern that begins with a slash counts from its root.
    """
    taking = Taking(target, Room.of(target, folder), time.monotonic() + target.seconds * _SHARE, target.limit)
    with closing(DockerEngine(target.docker_host)) as engine:
        for id_, name in to_look_into(target, engine).items():
            yield from taking.log(engine, id_, name)
            yield from or_loss(taking.files(engine, id_, name), f"{name}: its files")
        for id_, layer in taking.layers.items():  # after all that somebody named
            one = ContainerFolder(engine, id_, layer.name, layer.workdir, "")
            yield from or_loss(taking.changes(one, layer), f"{layer.name}: what it changed")


def or_loss(items: Iterator[Item], source: str) -> Iterator[Item]:
    """Yield the items; an error of the engine costs the rest of them. Raises EngineUnreachable."""
    try:
        yield from items
    except EngineUnreachable:
        raise
    except EngineError as error:
        yield Loss(source, Outcome.FAILED, error.got)


@dataclass
class Taking:
    """One attempt: its deadline, the bytes left, the names that are used already, and what was matched."""

    target: Target
    space: Room
    until: float
    room: int
    taken: set[str] = field(default_factory=set)
    seen: set[tuple[str, str]] = field(default_factory=set)
    layers: dict[str, Layer] = field(default_factory=dict)
    requests: int = _MOST_CHANGED
    changed_room: int = _CHANGED_BYTES
    changed_seconds: float = _CHANGED_SECONDS
    lists: bool = True

    def log(self, engine: Engine, id_: str, name: str) -> Iterator[Taken | Loss]:
        """Store the container's output, each line with its time; not redacted, like every log file."""
        stored, cut = place(name, "container.log"), list[Loss]()

        def write(out: BinaryIO) -> None:
            cut[:] = []
            for chunk in engine.logs(id_):
                out.write(chunk[: self.room - out.tell()])
                if out.tell() >= self.room:
                    cut.append(Loss(stored, Outcome.TRUNCATED, f"its first {self.room} bytes: the limit is reached"))
                elif time.monotonic() > self.until:
                    cut.append(Loss(stored, Outcome.TIMED_OUT, "the rest of the log: the time was used up"))
                if cut:
                    break

        try:
            where = self.space.put(stored, places(0, self.space.free)[:-1], write)
            yield self.record_copy(stored, "", None, "", where)
            yield from cut
        except (EngineError, OSError) as error:
            yield Loss(stored, Outcome.FAILED, getattr(error, "got", str(error)))

    def files(self, engine: Engine, id_: str, name: str) -> Iterator[Taken | Loss]:
        """Store the matched files, folder by folder, each requested once."""
        inspection = engine.inspect(id_)
        workdir = inspection["Config"]["WorkingDir"] or "/"
        patterns = patterns_of(self.target.globs, without=FOLDERS)
        layer, walked = Layer(name, workdir, self.target.root, inspection["Mounts"], patterns), list[str]()
        for below in sorted({literal_folder(pattern) for pattern in patterns}):
            inside = posixpath.normpath(posixpath.join(workdir, below))
            walked.append(inside)
            if not is_full(below) and self._is_of_root(below, inside, layer):
                continue
            one = ContainerFolder(engine, id_, name, workdir, below)
            try:
                matching = [each for each in patterns if literal_folder(each) == below]
                yield from self._folder(one, inside, matching, layer)
            except ContainerGone:
                raise
            except (EngineError, tarfile.TarError, OSError) as error:
                yield Loss(one.summary(below), Outcome.FAILED, getattr(error, "got", str(error)))
        layer.leave_mounts(inspection, walked)
        layer.leave_image(inspection)
        self.layers[id_] = layer

    def _is_of_root(self, below: str, inside: str, layer: Layer) -> bool:
        """Return whether the root's own folder is mounted there, and shows all: what else is mounted below it too."""
        there, mounts = str(Path(self.target.root) / below), layer.mounts
        ours = any(mount["Destination"] == inside and mount.get("Source") == there for mount in mounts)
        return ours and not any(mount["Destination"].startswith(f"{inside}/") for mount in mounts)

    def changes(self, one: "ContainerFolder", layer: Layer) -> Iterator[Item]:
        """Store what the container has changed in its own layer and no pattern names, within bounds, and a list."""
        began = time.monotonic()
        end = min(self.until, began + self.changed_seconds)
        bounds = f"{_MOST_CHANGED} files and {_CHANGED_SECONDS:g} s"
        for path in layer.select(one.engine.diff(one.id)):
            if not self.requests or time.monotonic() > end:
                layer.leave(path, 1, 0, f"after the {bounds} for what no pattern names; its size was not asked for")
                continue
            self.requests -= 1
            try:
                yield from self._change(one, layer, path)
            except (ContainerGone, EngineUnreachable):
                raise
            except (EngineError, tarfile.TarError, OSError) as error:
                reason = getattr(error, "got", str(error))
                layer.leave(path, 1, 0, reason)
                yield Loss(one.summary(path), Outcome.FAILED, reason)
        self.changed_seconds -= time.monotonic() - began
        if self.lists:
            yield store(self.space, place(one.name, NOT_TAKEN), canonical(document(layer.remainders)))

    def has_taken(self, one: "ContainerFolder", path: str, member: tarfile.TarInfo) -> bool:  # noqa: ARG002
        """Return whether an earlier look has taken a file as it is; there is none."""
        return False

    def _change(self, one: "ContainerFolder", layer: Layer, path: str) -> Iterator[Taken | Loss]:
        archive = one.engine.archive(one.id, path)
        if archive is None:
            layer.leave(path, 1, 0, "it vanished, or its name is no UTF-8, by which the engine could be asked for it")
            return
        if archive.link:
            layer.leave(path, 1, 0, f"a link to {quote(archive.link.encode())}, which is not followed")
            return
        with archive.open_tar() as tar:
            member = tar.next()
            if member is not None and member.isdir():  # what was changed in it has a path of its own
                return
            if member and self.has_taken(one, path, member):
                return
            if why := self._why_left(one, path, member):
                layer.leave(path, 1, member.size if member else 0, why)
            elif member:
                yield from self._take_changed(one, layer, path, tar, member)

    def _why_left(self, one: "ContainerFolder", path: str, member: tarfile.TarInfo | None) -> str:
        if member is None:
            return "the engine sent nothing of it"
        if not member.isreg():
            return NO_CONTENT
        if member.size > self.changed_room:
            return f"after the first {_CHANGED_BYTES >> 20} MiB that no pattern names"
        if name_changed(one, path) in self.taken:
            return "its name in the evidence is that of another file"
        return why_unread(posixpath.basename(path), member.size)

    def _take_changed(
        self, one: "ContainerFolder", layer: Layer, path: str, tar: tarfile.TarFile, member: tarfile.TarInfo
    ) -> Iterator[Taken | Loss]:
        stored = name_changed(one, path)
        self.taken.add(stored)
        self.changed_room -= member.size
        match self._take(one, path, tar, member, stored):
            case Taken() as item if why := why_withheld(item, self.target, self.space.folder):
                layer.leave(path, 1, item.file.size, withhold(item, self.space.folder, why=why).reason)
            case Taken() as item:
                yield item
            case Loss() as loss:
                layer.leave(path, 1, member.size, loss.reason)
                yield loss

    def _folder(self, one: "ContainerFolder", inside: str, patterns: list[str], layer: Layer) -> Iterator[Taken | Loss]:
        archive = one.engine.archive(one.id, inside)
        if archive is None:
            return
        if archive.link:
            yield Loss(one.summary(one.below), Outcome.DENIED, f"a link, to {quote(archive.link.encode())}")
            return
        links = []
        with archive.open_tar() as tar:
            for member in tar:
                path = posixpath.join(one.below, *member.name.split("/")[1:])
                if member.isdir():
                    continue
                if not any(fits(path, pattern) for pattern in patterns):
                    layer.leave_mounted(one.inside(path), member.size)
                    continue
                if (one.id, one.inside(path)) in self.seen or self.has_taken(one, path, member):
                    continue
                self.seen.add((one.id, one.inside(path)))
                if time.monotonic() > self.until:
                    yield Loss(one.summary(path), Outcome.TIMED_OUT, "this file and all after it: the time was used up")
                    return
                if member.issym() or member.islnk():
                    links.append(path)
                else:
                    yield self._take(one, path, tar, member)
        for path in links:
            yield self._store_link_target(one, path)

    def _store_link_target(self, one: "ContainerFolder", path: str) -> Taken | Loss:
        """Store what a link leads to, if that belongs to the workload."""
        archive = one.engine.archive(one.id, one.inside(path))
        if archive and archive.link:
            if not one.holds(posixpath.normpath(archive.link), path):
                reason = f"a link that leads out of the workload, to {quote(archive.link.encode())}"
                return Loss(one.summary(path), Outcome.DENIED, reason)
            real = archive.link if is_full(path) else posixpath.relpath(archive.link, one.workdir)
            if is_hidden(os.fsencode(path), os.fsencode(real), patterns_of(self.target.globs)):
                reason = f"left out, a link to {quote(archive.link.encode())}, which is {UNREAD}"
                return Loss(one.summary(path), Outcome.WITHHELD, reason)
            archive = one.engine.archive(one.id, archive.link)
        if archive is None:
            return Loss(one.summary(path), Outcome.FAILED, "it vanished, or is a link to nothing")
        with archive.open_tar() as tar:
            if member := tar.next():
                return self._take(one, path, tar, member)
            return Loss(one.summary(path), Outcome.FAILED, "the engine sent nothing")

    def _take(
        self, one: "ContainerFolder", path: str, tar: tarfile.TarFile, member: tarfile.TarInfo, stored: str = ""
    ) -> Taken | Loss:
        content = tar.extractfile(member) if member.isreg() else None
        if content is None:
            return Loss(one.summary(path), Outcome.FAILED, "not a regular file: a pipe, a socket or a device")
        if member.size > self.room:
            reason = f"{member.size} bytes where {self.room} may still be stored"
            return Loss(one.summary(path), Outcome.TRUNCATED, reason)
        stored = stored or self.name(one, path)

        def write(out: BinaryIO) -> None:
            while block := content.read(_BLOCK):
                out.write(block)

        try:
            where = self.space.put(stored, places(member.size, self.space.free)[:-1][:1], write)
        except OSError as error:
            return Loss(one.summary(path), Outcome.FAILED, f"{member.size} bytes: {error.strerror}")
        return self.record_copy(stored, one.inside(path), int(member.mtime * _NANO), f"{IN_CONTAINER}{one.name}", where)

    def name(self, one: "ContainerFolder", path: str) -> str:
        """Return the name that it would have in the root, or one below the container's if that is used already.

        What a pattern names from the container's root has no name in the workload's.
        """
        raw = path.encode(errors="surrogateescape")
        if is_full(path):
            return f"{CONTAINERS}/{stored_name(one.name.encode())}/{FROM_ROOT}/{stored_name(raw)}"
        stored = placed_name(raw)
        if stored in self.taken or self._in_root(path):
            stored = f"{CONTAINERS}/{stored_name(one.name.encode())}/{stored_name(raw)}"
        self.taken.add(stored)
        return stored

    def _in_root(self, path: str) -> bool:
        """Return whether the root has this path, or no folder to hold it; True if that cannot be asked."""
        try:
            (Path(self.target.root) / path).stat()
        except OSError as error:
            return not isinstance(error, FileNotFoundError)
        return True

    def record_copy(self, stored: str, source: str, mtime_ns: int | None, note: str, where: ContentPlace) -> Taken:
        """Return the record of a copy that was put there, and what the search for secrets found in it."""
        path = self.space.path(stored, where)
        size = path.stat().st_size
        with path.open("rb") as copy:
            content = read_once(blocks(copy.fileno(), size, size), size, stored, self.target.search_limit)
        self.room -= size
        named = quote(source.encode(errors="surrogateescape"))
        file = StoredFile(
            stored, named, size, content.sha256, mtime_ns, note=note, where=self.space.where(where), parts=content.parts
        )
        return Taken(file, content.search)


@dataclass(frozen=True)
class ContainerFolder:
    """A container, and the folder below which its files are taken."""

    engine: Engine
    id: str
    name: str
    workdir: str
    below: str

    def summary(self, path: str) -> str:
        """Return the name of one of its files, for a loss."""
        return f"{self.name}:{quote(self.inside(path).encode(errors='surrogateescape'))}"

    def holds(self, path: str, link: str) -> bool:
        """Return whether a full path is the workload's: where its `link` is looked for, or in the working directory."""
        folders = [self.workdir, *([self.below] if is_full(link) else [])]
        return any(path.startswith(each.rstrip("/") + "/") for each in folders)

    def inside(self, path: str) -> str:
        """Return the full path of one of its files."""
        return posixpath.normpath(posixpath.join(self.workdir, path))


def name_changed(one: ContainerFolder, path: str) -> str:
    """Return where a file that the container has changed is stored."""
    return place(one.name, f"{CHANGED}/{stored_name(path.encode(errors='surrogateescape'))}")


COLLECTOR = Collector(
    name=CONTAINER_FILES,
    answers="What did each container of the workload write: its log, models, artifacts, log files, and what else?",
    order=19,
    sources=(FunctionItems(gather, "containers"),),
    deadline=600.0,
    stalled=60.0,
    limit=TIB,
    while_frozen=True,
    unhurried=True,
    of_containers=True,
)
