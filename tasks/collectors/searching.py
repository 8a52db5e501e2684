"""Report what the search for secrets found in each file as it is acquired; hits name line and rule, never the value."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from tasks.collectors.collector import Item, Taken, Target
from tasks.custody.evidence.acquisition import Loss, Outcome, StoredFile
from tasks.custody.evidence.secrets import Search, search


def searched(
    items: Iterable[Item], target: Target, folder: Path, *, all_of_them: bool
) -> Iterator[StoredFile | Loss | Search]:
    """Yield what was acquired, each file followed by the findings in it, if there are any.

    Files that we make ourselves were redacted, and are searched only with `all_of_them`.
    """
    for item in items:
        if isinstance(item, Taken):
            yield from _told(item, target, folder)
        elif isinstance(item, StoredFile) and all_of_them:
            yield from _told(Taken(item, _search(item, target, folder)), target, folder)
        else:
            yield item


def _search(file: StoredFile, target: Target, folder: Path) -> Search:
    with _copy(file, folder).open("rb") as copy:
        return search(copy, file.stored, target.searched)


def _told(taken: Taken, target: Target, folder: Path) -> Iterator[StoredFile | Loss | Search]:
    if taken.search.hits and target.sensitive == "withhold":
        yield _withheld(taken, folder)
        return
    yield taken.file
    if taken.search.hits or taken.search.unsearched:
        yield taken.search


def _copy(file: StoredFile, folder: Path) -> Path:
    return (Path(file.where) if file.where else folder) / file.stored


def _withheld(taken: Taken, folder: Path) -> Loss:
    """Remove a file from the evidence; the loss has its digest and size, by which its owner can recognise it."""
    file = taken.file
    if not file.in_place:
        with suppress(FileNotFoundError):
            _copy(file, folder).unlink()
    reason = f"withheld, as the workload block asks: {taken.search.summary}; {file.size} bytes, sha256 {file.sha256}"
    return Loss(file.source or file.stored, Outcome.WITHHELD, reason)
