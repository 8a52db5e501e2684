"""§7: find the files outside the root that the API's start names, or that are mounted into its container."""

import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from tasks.acquisition.remainder import ENVIRONMENT, MOST_ENTRIES

_BETWEEN: Final = re.compile(r"""[\s=:,;"']+""")


def find_named(words: Iterable[str], folder: Path, root: Path) -> set[str]:
    """Return the files that words of a start in `folder` name, also in a list, and those of a folder that is named.

    Of a virtual environment that is named, or whose program is, its folder too, which ends in a slash.
    """
    parts = {part for word in words for part in (word, *_BETWEEN.split(word)) if "/" in part}
    paths = [os.path.normpath(os.path.join(folder, part)) for part in parts if "\0" not in part]  # noqa: PTH118  any word
    tops = {top for path in paths for top in (path, os.path.dirname(os.path.dirname(path)))}  # noqa: PTH120  as above
    own = {f"{top}/" for top in tops if any(os.path.lexists(f"{top}/{each}") for each in ENVIRONMENT)}
    return _outside(paths, root, deep=False) | {top for top in own if not top.startswith(_own(root))}


def find_mounted(sources: Iterable[str], root: Path) -> set[str]:
    """Return the files that are these or lie below them. What contains the root is left out."""
    return _outside((each for each in sources if each and not root.is_relative_to(each)), root, deep=True)


def _outside(paths: Iterable[str], root: Path, *, deep: bool) -> set[str]:
    own = _own(root)
    named = {os.path.normpath(path) for path in paths if "\0" not in path}
    return {
        file for path in named for file in islice(_files(path, deep=deep), MOST_ENTRIES) if not file.startswith(own)
    }


def _own(root: Path) -> tuple[str, str]:
    return f"{root}/", f"{os.path.realpath(root)}/"


def _files(path: str, *, deep: bool) -> Iterator[str]:
    if os.path.isfile(path):  # noqa: PTH113  a word of any length
        yield path
    for at, folders, names in os.walk(path):
        yield from (file for name in names if os.path.isfile(file := f"{at}/{name}"))  # noqa: PTH113  as above
        folders[:] = folders if deep else []
