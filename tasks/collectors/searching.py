"""Search each of the workload's own files for secrets as it is acquired; hits name line and rule, never the value."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from tasks.collectors.collector import Target
from tasks.custody.evidence.acquisition import Loss, Outcome, StoredFile
from tasks.custody.evidence.keys import unquote
from tasks.custody.evidence.secrets import LIMIT, Search, search
from tasks.system.open_beneath import open_below, real_name

Item = StoredFile | Loss


def searched(items: Iterable[Item], target: Target, folder: Path, *, all_of_them: bool) -> Iterator[Item | Search]:
    """Yield what was acquired, each of the workload's files followed by the findings in it, if there are any."""
    for item in items:
        if isinstance(item, StoredFile) and (item.source or all_of_them):
            yield from _told(item, target, folder)
        else:
            yield item


def _told(file: StoredFile, target: Target, folder: Path) -> Iterator[Item | Search]:
    withhold = target.sensitive == "withhold"
    try:
        descriptor = _open(file, target, folder)
        with os.fdopen(descriptor, "rb") as opened:
            found = search(opened, file.stored, None if withhold else LIMIT)
    except OSError as error:
        found = Search(file.stored, unsearched=f"all of it: {error.strerror or error}")
    if withhold and (found.hits or found.unsearched.startswith("all")):
        yield _withheld(file, found, folder)
        return
    yield file
    if found.hits or found.unsearched:
        yield found


def _open(file: StoredFile, target: Target, folder: Path) -> int:
    """Open its bytes: the copy, or the source itself if there was no room for one."""
    if not file.in_place:
        return os.open(_copy(file, folder), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    root = os.fsencode(target.root)
    name = real_name(root, unquote(file.source))
    if name is None:
        raise FileNotFoundError(file.source)
    return open_below(root, name)


def _copy(file: StoredFile, folder: Path) -> Path:
    return (Path(file.where) if file.where else folder) / file.stored


def _withheld(file: StoredFile, found: Search, folder: Path) -> Loss:
    """Remove a file from the evidence; the loss has its digest and size, by which its owner can recognise it."""
    if not file.in_place:
        with suppress(FileNotFoundError):
            _copy(file, folder).unlink()
    why = found.summary or f"not searched, {found.unsearched}"
    reason = f"withheld, as the workload block asks: {why}; {file.size} bytes, sha256 {file.sha256}"
    return Loss(file.source or file.stored, Outcome.WITHHELD, reason)
