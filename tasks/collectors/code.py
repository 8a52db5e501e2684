"""Collect what no pattern or folder of the block names: code and configuration. Name what is left, and why.

Nobody asked for these files, so what is not known to be public is withheld, whatever the block says of the files that
it names. So it is with those that the collector lockfiles takes; what that withholds is named here too.

See docs/adr/0052.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.acquisition.acquire import is_named, owners_of, take
from tasks.acquisition.collector import MIB, Collector, FunctionItems, FunctionOutput, Item, Taken, Target
from tasks.acquisition.copying import Copying
from tasks.acquisition.matching import find_names
from tasks.acquisition.remainder import Remainder, RootWalk, document, in_a_line, judge, read_other_list
from tasks.acquisition.room import Room
from tasks.acquisition.searching import why_withheld, withhold
from tasks.collectors.lockfiles import PATTERNS
from tasks.custody.evidence.acquisition import Loss, Outcome
from tasks.custody.evidence.keys import CODE, CONTAINERS, FOLDERS, NOT_TAKEN, unquote
from tasks.custody.store.manifest import canonical

if TYPE_CHECKING:
    from blocks.workload_fields import WorkloadFields


def globs_of(block: "WorkloadFields") -> dict[str, list[str]]:
    """Return the patterns and folders of a block, by its fields."""
    return {"logs": block.logs, "artifacts": block.artifacts, "models": block.models, FOLDERS: block.folders}


def survey(block: "WorkloadFields", apart: Iterable[str]) -> RootWalk:
    """Walk through a workload's root, by names and sizes alone. What is ours in it stays `apart`."""
    return _walk(str(block.root), globs_of(block), apart)


def _walk(root: str, globs: Mapping[str, Sequence[str]], apart: Iterable[str]) -> RootWalk:
    return RootWalk(root.encode(errors="surrogateescape"), globs, apart, PATTERNS).walk()


def gather(target: Target, folder: Path) -> Iterator[Item]:
    """Copy what may be copied, then write what is left, and tell it in one line."""
    walk, room = _walk(target.root, target.globs, target.apart), Room.of(target, folder)
    remainders = [*walk.remainders, *(Remainder(unquote(each.source), 1, 0, each.reason) for each in walk.losses)]
    yield from walk.losses
    remainders += _too_large(target, walk.left_over)
    found_by_lockfiles = [name for name in find_names(walk.root, PATTERNS)[0] if not is_named(target, name)]
    remainders += filter(None, (judge(Path(target.root), name) for name in found_by_lockfiles))
    for each in map(Path, target.other_lists):
        try:
            remainders += read_other_list(each)
        except (OSError, ValueError, LookupError, TypeError) as error:
            place = "/".join(each.parts[-3:] if each.parts[-3] == CONTAINERS else each.parts[-2:])
            yield Loss(place, Outcome.FAILED, str(error))
    copying = Copying(walk.root, room, max(0, target.limit - MIB), owners_of(target), searched=None)
    for name in walk.names:
        match copying.take(name):
            case Taken() as item if why := why_withheld(item, target, folder):
                reason = withhold(item, folder, why=why).reason
                with suppress(OSError):
                    reason += walk.tell_other((Path(target.root) / os.fsdecode(name)).lstat())
                remainders.append(Remainder(name, 1, item.file.size, reason))
            case Taken() as item:
                yield item
            case Loss() as loss:
                remainders.append(Remainder(name, 1, 0, loss.reason))
                if loss.outcome in {Outcome.DENIED, Outcome.FAILED}:
                    yield loss
    rest = replace(target, limit=min(target.limit, copying.limit + MIB))
    yield from take([FunctionOutput(lambda _: canonical(document(remainders)), NOT_TAKEN)], rest, folder)
    if line := in_a_line(remainders):
        yield Loss(NOT_TAKEN, Outcome.WITHHELD, line)


def _too_large(target: Target, names: Iterable[bytes]) -> Iterator[Remainder]:
    """Yield those of these files that are above the size that the block lets go along."""
    for name in names if target.largest is not None else ():
        with suppress(OSError):
            status = (Path(target.root) / os.fsdecode(name)).lstat()
            if stat.S_ISREG(status.st_mode) and not target.goes_along(status.st_size):
                reason = f"above the {target.largest} bytes that the block lets go along (folder_file_mb)"
                yield Remainder(name, 1, status.st_size, reason)


COLLECTOR = Collector(
    name=CODE,
    answers="From which code and configuration did it run, and what of its folder was not taken?",
    order=66,
    sources=(FunctionItems(gather, NOT_TAKEN),),
    needed=True,
    deadline=300.0,
    stalled=60.0,
    limit=64 * MIB,
)
