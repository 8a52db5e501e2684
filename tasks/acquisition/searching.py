"""Report what the search for secrets found in each file as it is acquired; hits name line and rule, never the value."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from tasks.acquisition.collector import Item, Taken, Target
from tasks.acquisition.reading import read_below
from tasks.custody.evidence.acquisition import Loss, Outcome, StoredFile
from tasks.custody.evidence.public_text import MOST_READ, why_private
from tasks.custody.evidence.secrets_in_files import Search, search

_ALL: Final = "all of it"


def search_items(
    items: Iterable[Item], target: Target, folder: Path, *, all_of_them: bool
) -> Iterator[StoredFile | Loss | Search]:
    """Yield what was acquired, each file followed by the findings in it, if there are any.

    Files that we make ourselves were redacted, and are searched only with `all_of_them`.
    """
    for item in items:
        if isinstance(item, Taken):
            yield from _pass_on(item, target, folder)
        elif isinstance(item, StoredFile) and all_of_them:
            try:
                with _copy(item, folder).open("rb") as copy:
                    found = search(copy, item.stored, target.search_limit)
            except OSError as error:
                found = Search(item.stored, unsearched=f"{_ALL}: {error.strerror or error}")
            yield from _pass_on(Taken(item, found), target, folder)
        else:
            yield item


def _pass_on(taken: Taken, target: Target, folder: Path) -> Iterator[StoredFile | Loss | Search]:
    if target.sensitive == "withhold" and is_sensitive(taken.search):
        yield withhold(taken, folder, "withheld, as the workload block asks")
        return
    yield taken.file
    if taken.search.hits or taken.search.unsearched:
        yield taken.search


def _copy(file: StoredFile, folder: Path) -> Path:
    return (Path(file.where) if file.where else folder) / file.stored


def is_sensitive(search_result: Search) -> bool:
    """Return whether a file that the block names holds what looks like a secret, or was not searched."""
    return bool(search_result.hits) or search_result.unsearched.startswith(_ALL)


def why_withheld(taken: Taken, target: Target, folder: Path, *, named: bool = False) -> str:
    """Return why a file that the block does not name is not known to be public; empty if it is, and may be kept.

    One that is `named` all the same may be kept unless a secret is found in it.
    """
    file = taken.file
    if named:
        return _tell(taken.search) if is_sensitive(taken.search) else ""
    try:
        if file.in_place:
            return why_private(file.stored, read_below(Path(target.root), file.path, MOST_READ + 1))
        with _copy(file, folder).open("rb") as copy:
            return why_private(file.stored, copy.read(MOST_READ + 1))
    except OSError as error:
        return f"not searched, {error.strerror or error}"


def withhold(taken: Taken, folder: Path, reason: str = "withheld", why: str = "") -> Loss:
    """Remove a file from the evidence; the loss has its digest and size, by which its owner can recognise it."""
    file = taken.file
    if not file.in_place:
        with suppress(FileNotFoundError):
            _copy(file, folder).unlink()
    reason = f"{reason}: {why or _tell(taken.search)}; {file.size} bytes, sha256 {file.sha256}"
    return Loss(file.source or file.stored, Outcome.WITHHELD, reason)


def _tell(search_result: Search) -> str:
    return search_result.summary or f"not searched, {search_result.unsearched}"
