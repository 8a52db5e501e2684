"""Collect what was written during the stop where only the look at the standing workload had looked.

In a container that stays, that is what is new or was written since; of one that the engine has removed, and of files
out of the root or deleted, what the run has kept open.
"""

import os
import posixpath
import shutil
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from tasks.acquisition.collector import TIB, Collector, FunctionItems, Item, Taken, Target
from tasks.acquisition.layer import Layer
from tasks.acquisition.remainder import MORE, read_other_list, why_unread
from tasks.acquisition.room import Room
from tasks.acquisition.searching import why_withheld, withhold
from tasks.collectors.container_files import ContainerFolder, Taking, name_changed, or_loss
from tasks.collectors.containers import place
from tasks.collectors.open_files import find_held, gather_last, read_writes
from tasks.custody.evidence.acquisition import Loss, Outcome
from tasks.custody.evidence.keys import CONTAINERS, FOLDERS, IN_CONTAINER, LAST_WRITES, NOT_TAKEN, OPEN, quote, unquote
from tasks.custody.evidence.last_write import LastWrite
from tasks.custody.evidence.pattern import fits, matches_inside, of_root, patterns_of
from tasks.custody.evidence.room import places
from tasks.host.container.docker_engine import DockerEngine

_BLOCK: Final = 1 << 20
_SHARE: Final = 0.9
_NANO: Final = 1_000_000_000
_TOLD: Final = 20
_NOT_TAKEN: Final = "written as it was stopped, and left 停止中の書き込み"


def gather(target: Target, folder: Path) -> Iterator[Item]:
    """Yield what containers have written and printed during their stop."""
    writes = read_writes(target, inside=True)
    if not writes and not target.ended:
        return
    until = time.monotonic() + target.seconds * _SHARE
    again = LookingAgain(target, Room.of(target, folder), until, target.limit)
    again.taken |= {stored for stored, *_ in target.copies_inside.values() if not stored.startswith(f"{CONTAINERS}/")}
    with closing(DockerEngine(target.docker_host)) as engine:
        for each in writes:
            yield from again.take_held(ContainerFolder(engine, "", each.container, each.folder, ""), each)
        for id_, name, again.since in target.ended:
            yield from again.log(engine, id_, name)
            yield from or_loss(again.files(engine, id_, name), f"{name}: its files")
        for id_, layer in again.layers.items():
            one = ContainerFolder(engine, id_, layer.name, layer.workdir, "")
            yield from or_loss(again.changes(one, layer), f"{layer.name}: what it changed")


@dataclass
class LookingAgain(Taking):
    """The second look: only what is new, or was written `since`, in seconds of the epoch, is taken, or told."""

    since: float = 0.0
    lists: bool = False

    def has_taken(self, one: ContainerFolder, path: str, member: tarfile.TarInfo) -> bool:
        """Return whether the first look has taken a file, or told of it, as it is. The engine tells whole seconds."""
        known = self.target.copies_inside.get(one.summary(path))
        if member.mtime >= int(self.since):
            return False
        return not member.isreg() or bool(known and [*known[1:]] == [member.size, int(member.mtime * _NANO)])

    def changes(self, one: ContainerFolder, layer: Layer) -> Iterator[Item]:
        """Store what the container has changed since, and tell what is left of it beside what was left before."""
        yield from super().changes(one, layer)
        lists = [Path(each) for each in self.target.other_lists if each.endswith(f"/{place(one.name, NOT_TAKEN)}")]
        before = [each for path in lists for each in read_other_list(path)]
        known, unlisted = {each.name for each in before}, sum(each.files for each in before if each.reason == MORE)
        new = [each for each in layer.remainders if each.name not in known]
        shown = [] if unlisted else new[:_TOLD]  # which of them is new, a list that was cut does not say
        for each in shown:
            yield Loss(quote(each.name), Outcome.WITHHELD, f"{_NOT_TAKEN}: {each.reason}")
        if (rest := sum(each.files for each in new) - sum(each.files for each in shown) - unlisted) > 0:
            yield Loss(f"container {one.name}", Outcome.WITHHELD, f"{_NOT_TAKEN}: {rest} more")

    def name(self, one: ContainerFolder, path: str) -> str:
        """Return where the first look has stored a file, or would have."""
        known = self.target.copies_inside.get(one.summary(path))
        return known[0] if known else super().name(one, path)

    def take_held(self, one: ContainerFolder, write: LastWrite) -> Iterator[Taken | Loss]:
        """Store what a container that is gone has written, which the run has kept open."""
        if write.reason:
            yield Loss(f"container {one.name}", Outcome.FAILED, write.reason)
            return
        full = unquote(write.name).decode(errors="surrogateescape")
        patterns = patterns_of(self.target.globs, without=FOLDERS)
        is_named = not full or matches_inside(full, one.workdir, patterns)
        try:
            with find_held(write) as link:
                size = link.stat().st_size
            if why := "" if is_named else why_unread(posixpath.basename(full), size):
                yield Loss(one.summary(full), Outcome.WITHHELD, f"{_NOT_TAKEN}: {why}")
                return
            item = self._copy_held(one, write, full, self._place(one, full, patterns) if is_named else "")
        except OSError as error:
            outcome = Outcome.FAILED if is_named else Outcome.WITHHELD
            yield Loss(one.summary(full), outcome, f"written as it was stopped 停止中の書き込み: {error.strerror}")
            return
        if private := "" if is_named else why_withheld(item, self.target, self.space.folder):
            why = withhold(item, self.space.folder, why=private).reason
            yield Loss(one.summary(full), Outcome.WITHHELD, f"{_NOT_TAKEN}: {why}")
        else:
            yield item

    def _place(self, one: ContainerFolder, full: str, patterns: list[str]) -> str:
        """Return the name of what a pattern names by one of its paths; an empty path is that of the output."""
        if not full:
            return place(one.name, "container.end.log")
        path = posixpath.relpath(full, one.workdir)
        return self.name(one, path if any(fits(path, each) for each in of_root(patterns)) else full)

    def _copy_held(self, one: ContainerFolder, write: LastWrite, full: str, stored: str) -> Taken:
        stored = stored or name_changed(one, full)
        with find_held(write) as link, link.open("rb") as content:
            status = os.fstat(content.fileno())

            def copy(out: BinaryIO) -> None:
                content.seek(0)
                shutil.copyfileobj(content, out, _BLOCK)

            where = self.space.put(stored, places(status.st_size, self.space.free)[:-1][:1], copy)
        if not full:
            return self.record_copy(stored, "", None, "", where)
        return self.record_copy(stored, full, status.st_mtime_ns, f"{IN_CONTAINER}{one.name}", where)


COLLECTOR = Collector(
    name=LAST_WRITES,
    answers="What did the workload write as it was stopped, out of its folder, in containers, or without a name?",
    order=24,
    sources=(FunctionItems(gather_last, OPEN), FunctionItems(gather, CONTAINERS)),
    needed=True,
    deadline=600.0,
    stalled=60.0,
    limit=TIB,
)
