"""§7: find the files of the root that the API may read: all, but of folders that go whole those changed since.

So it is with a folder out of the root to which a link leads.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from itertools import islice
from math import inf
from pathlib import PurePath
from typing import Final

from blocks.workload import Workload
from tasks.acquisition.remainder import ENVIRONMENT, MOST_ENTRIES, is_cache
from tasks.collectors.code import survey
from tasks.custody.models.inspection import holds_a_model
from tasks.evidence.model_served import find_change
from tasks.incident.directory import find_own_places
from tasks.system.files.open_beneath import real_name

_VERSIONS: Final = frozenset({".git", ".hg", ".svn"})
_PACKAGES: Final = frozenset({"node_modules", ".tox", ".nox", ".eggs"})
"""Caches by their names, whose files programs run."""


def find_names(workload: Workload, since: datetime, outside: Iterable[str] = ()) -> tuple[set[str], list[str]]:
    """Return files of the root, of caches the models alone, and the folders of packages that have more than was seen.

    Of folders that go whole, such as an environment, or lie behind a link, only what was changed since. Version control
    is left out, and a folder that contains the root. So it is with folders `outside`, by their full paths. What an
    environment or such a folder has is no cache because that lies in one.
    """
    walk, root, unseen = survey(workload, find_own_places(workload)), workload.root, list[str]()
    names = {*map(os.fsdecode, walk.all_names)}
    for each in walk.remainders:
        name = os.fsdecode(each.name).rstrip("/")
        if not (root / name).is_dir():
            names.add(name)
        elif PurePath(name).name not in _VERSIONS and not root.resolve().is_relative_to((root / name).resolve()):
            found, is_whole = _find_changed(str(root), name, since, cached=any(map(_is_cache, PurePath(name).parts)))
            names.update(found)
            of_packages = each.reproducible or any((root / name / own).exists() for own in ENVIRONMENT)
            unseen += [] if is_whole or not of_packages else [f"{name}/"]
    for folder in outside:
        found, is_whole = _find_changed("/", folder.strip("/"), since)
        names |= {f"/{file}" for file in found}
        unseen += [] if is_whole else [folder]
    return names, unseen


def _find_changed(root: str, name: str, since: datetime, *, cached: bool = False) -> tuple[list[str], bool]:
    """Return the files below a folder, of caches the models, that were changed since, and whether that are all."""
    found, folders, remaining = list[str](), [(name, cached)], MOST_ENTRIES
    while folders and remaining > 0:
        (at, in_cache), entries = folders.pop(), list[os.DirEntry[str]]()
        with suppress(OSError), os.scandir(f"{root}/{at}") as listed:
            entries = [*islice(listed, remaining + 1)]
        remaining -= len(entries)
        is_moved = find_change(root, at, since)
        in_cache = in_cache and not any(each.name in ENVIRONMENT for each in entries)
        for each in entries:
            file = f"{at}/{each.name}"
            if each.is_dir(follow_symlinks=False):
                folders.append((file, in_cache or _is_cache(each.name)))
            elif not in_cache or holds_a_model(file):
                found += [file] if _changed_at(root, each, is_moved=bool(is_moved)) > since.timestamp() else []
    return found, remaining >= 0 and not folders


def _changed_at(root: str, entry: os.DirEntry[str], *, is_moved: bool) -> float:
    """Return when a file, or a link to one, was changed; of a link out of the root, as to Python, when that file was.

    Another environment has such a link too, and nobody sees by which of them the file was opened.
    """
    times = [0.0]
    with suppress(OSError):
        times.append(entry.stat().st_ctime)
        if not entry.is_symlink() or real_name(os.fsencode(root), os.fsencode(os.path.relpath(entry.path, root))):
            times += [entry.stat(follow_symlinks=False).st_ctime, *[inf] * is_moved]
    return max(times)


def _is_cache(name: str) -> bool:
    return name not in _PACKAGES and is_cache(name)
