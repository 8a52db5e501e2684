"""§7: find the files outside the root that the API's start names, or that are mounted into its container."""

import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from tasks.acquisition.remainder import ENVIRONMENT

_BETWEEN: Final = re.compile(r"""[\s=:,;"']+""")


def find_named(words: Iterable[str], folder: Path, root: Path) -> set[str]:
    """Return the files that words of a start in `folder` name, also in a list, and those of a folder that is named.

    Of a virtual environment that is named, or whose program is, its folder too, which ends in a slash.
    """
    paths = named_paths(words, folder)
    tops = {top for path in paths for top in (path, os.path.dirname(os.path.dirname(path)))}  # noqa: PTH120  as above
    of_packages = {f"{top}/" for top in tops if any(os.path.lexists(f"{top}/{each}") for each in ENVIRONMENT)}
    own = _own(root)
    files = {file for path in paths for file in _files(path) if not file.startswith(own)}
    return files | {top for top in of_packages if not top.startswith(own)}


def named_paths(words: Iterable[str], folder: Path) -> list[str]:
    """Return the paths that words of a start in `folder` name, also in a list, whether anything is there or not."""
    parts = {part for word in words for part in (word, *_BETWEEN.split(word)) if "/" in part}
    return [os.path.normpath(os.path.join(folder, part)) for part in parts if "\0" not in part]  # noqa: PTH118  any word


def find_mounted(sources: Iterable[str], root: Path) -> set[str]:
    """Return which of these are files, or folders, which end in a slash. What contains the root is left out."""
    own, found = _own(root), {os.path.normpath(each) for each in sources if each and not root.is_relative_to(each)}
    files = {each for each in found if os.path.isfile(each)}  # noqa: PTH113  a name of any bytes
    folders = {f"{each}/" for each in found if os.path.isdir(each)}  # noqa: PTH112  as above
    return {each for each in files | folders if not each.startswith(own)}


def _own(root: Path) -> tuple[str, str]:
    return f"{root}/", f"{os.path.realpath(root)}/"


def _files(path: str) -> Iterator[str]:
    """Yield this file, or the files of this folder."""
    if os.path.isfile(path):  # noqa: PTH113  a word of any length
        yield path
    for at, _, names in islice(os.walk(path), 1):
        yield from (file for name in names if os.path.isfile(file := f"{at}/{name}"))  # noqa: PTH113  as above
