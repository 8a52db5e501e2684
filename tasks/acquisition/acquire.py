"""Run one collector's sources into a folder, in its own process; report each file or loss as soon as it is known."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from tasks.acquisition.collector import (
    Files,
    FunctionItems,
    FunctionOutput,
    Incomplete,
    Item,
    NothingThere,
    ProgramOutput,
    Source,
    Taken,
    Target,
    Unanswered,
)
from tasks.acquisition.command import run
from tasks.acquisition.copying import Copying
from tasks.acquisition.matching import find_names, left_over
from tasks.acquisition.procfs import still
from tasks.acquisition.room import Room
from tasks.acquisition.searching import why_withheld, withhold
from tasks.custody.evidence.acquisition import Loss, Outcome, StoredFile
from tasks.custody.evidence.artifact import unsteady
from tasks.custody.evidence.keys import quote
from tasks.custody.evidence.pattern import matches_any, patterns_of
from tasks.custody.store.manifest import digest_bytes

_IN_CONTAINERS: Final = (
    "; in a container a pattern counts from its working directory, or from its root if it begins with a slash "
    "コンテナの root からなら / で始める"
)
_NAMED: Final = 6
_WITHHELD: Final = "withheld, as no pattern of the block names it"
NO_SUCH_FOLDER: Final = "the block names it in folders, and the root has none of that name"


def take(sources: Iterable[Source], target: Target, folder: Path) -> Iterator[Item]:
    """Run the sources one after the other, and yield files and losses; a source that fails yields a Loss.

    Each may store what the earlier ones left of the limit.
    """
    room = target.limit
    for source in sources:
        for item in _try_source(source, replace(target, limit=room), folder):
            match item:
                case Taken():
                    room -= item.file.size
                case StoredFile():
                    room -= item.size
            yield item


def _try_source(source: Source, target: Target, folder: Path) -> Iterator[Item]:
    name = source.field if isinstance(source, Files) else source.stored
    try:
        yield from _from_source(source, target, folder)
    except NothingThere as reason:
        yield Loss(name, Outcome.MISSING, str(reason))
    except Incomplete as part:
        yield from _store(Room.of(target, folder), name, part.data, target.limit)
        yield Loss(name, part.outcome, str(part))
    except Unanswered as reason:
        yield Loss(name, reason.outcome, str(reason))
    except PermissionError as error:
        yield Loss(name, Outcome.DENIED, str(error))
    except Exception as error:  # noqa: BLE001  a collector may fail in any way; each failure is a loss
        yield Loss(name, Outcome.FAILED, f"{type(error).__name__}: {error}")


def _from_source(source: Source, target: Target, folder: Path) -> Iterator[Item]:
    room = Room.of(target, folder)
    match source:
        case FunctionOutput():
            yield from _store(room, source.stored, source.make(target), target.limit)
        case ProgramOutput():
            yield from _store(room, source.stored, run(source, target), target.limit)
        case Files() if source.beside:
            yield from _copy_left_over(target, source, room)
        case Files():
            yield from _copy_all(target, source, room)
        case FunctionItems():
            yield from source.gather(target, folder)


def _store(room: Room, stored: str, data: bytes, limit: int) -> Iterator[StoredFile | Loss]:
    """Store bytes that we made; of too many the first `limit`, with a Loss."""
    head = data[:limit]
    if head or not data:
        yield StoredFile(stored, "", len(head), digest_bytes(head), where=room.where(room.keep(stored, head)))
    if len(head) < len(data):
        yield Loss(stored, Outcome.TRUNCATED, f"the first {limit} of {len(data)} bytes: the limit is reached")


def _copying(target: Target, room: Room) -> Copying:
    patterns = patterns_of(target.globs)
    return Copying(os.fsencode(target.root), room, target.limit, owners_of(target), target.search_limit, patterns)


def _copy_all(target: Target, source: Files, room: Room) -> Iterator[Taken | Loss]:
    """Copy what patterns name."""
    patterns = source.patterns or target.globs[source.field]
    names, losses = find_names(os.fsencode(target.root), patterns)
    yield from losses
    nothing = not losses
    copying = _copying(target, room)
    for name in names:
        item = copying.take(name)
        if isinstance(item, Taken) and source.patterns and not is_named(target, name):
            why = why_withheld(item, target, room.folder)
            item = withhold(item, room.folder, _WITHHELD, why) if why else item
        if item:
            nothing = False
            yield from _with_unsteady(item)
    if nothing and source.field not in target.elsewhere:
        more = f" or {len(patterns) - _NAMED} other patterns" if len(patterns) > _NAMED else ""
        inside = _IN_CONTAINERS if target.container_selectors and not source.patterns else ""
        raise NothingThere(f"no file matches {', '.join(patterns[:_NAMED])}{more}{inside}")


def is_named(target: Target, name: bytes) -> bool:
    """Return whether a pattern or folder of the block names this file of the root."""
    return matches_any(os.fsdecode(name), patterns_of(target.globs))


def _copy_left_over(target: Target, source: Files, room: Room) -> Iterator[Taken | Loss]:
    """Copy what no pattern names and is not the evacuation's own."""
    beside = [each for field in source.beside for each in target.globs[field]]
    names, losses = left_over(os.fsencode(target.root), target.globs[source.field], beside)
    yield from losses
    for each in target.required_folders:
        if not os.path.lexists(Path(target.root, each)):
            yield Loss(quote(os.fsencode(each)), Outcome.FAILED, NO_SUCH_FOLDER)
    copying = _copying(target, room)
    for name in names[: source.max_files]:
        place = Path(os.path.realpath(Path(target.root, os.fsdecode(name))))
        if any(place.is_relative_to(each) for each in target.apart):
            continue
        if item := _left_out(target, name, place) or copying.take(name):
            yield from _with_unsteady(item)
    if len(names) > source.max_files:
        yield Loss(source.field, Outcome.TRUNCATED, f"the first {source.max_files} of {len(names)} files")


def _with_unsteady(item: Taken | Loss) -> Iterator[Taken | Loss]:
    """Yield an item; of a file that changed meanwhile, which is kept, also a loss."""
    yield item
    if isinstance(item, Taken) and (why := unsteady(item.file.stored, item.file.note)):
        yield Loss(item.file.source, Outcome.FAILED, f"{why}; what is kept of it mixes several moments")


def _left_out(target: Target, name: bytes, place: Path) -> Loss | None:
    """Return why a file is left out though nothing is lost: it has no content, or more than the block lets go along."""
    with suppress(OSError):  # what cannot be looked at is tried, and says why
        size = place.lstat().st_size
        if not place.is_relative_to(os.path.realpath(target.root)) or place.is_dir() or place.is_symlink():
            return None
        if not place.is_file():
            return Loss(quote(name), Outcome.WITHHELD, "left out: a socket, a pipe or a device, which has no content")
        if not target.goes_along(size):
            reason = f"{size} bytes, above the {target.largest} that the workload block lets go along"
            return Loss(quote(name), Outcome.WITHHELD, reason)
    return None


def owners_of(target: Target) -> frozenset[int]:
    """Return the users of the workload: the root's owner, and the users of its processes that still live."""
    owners = {target.owner}
    for pid, start in target.frozen:
        with suppress(OSError):
            uid = Path(f"/proc/{pid}").stat().st_uid
            owners |= {uid} if still(pid, start) else set()
    return frozenset(owners)
