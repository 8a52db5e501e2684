"""Match path names, without a file system, against the workload block's glob patterns.

One that begins with a slash counts from the root of a container, and so matches full paths alone, never the root's.
"""

import fnmatch
import glob
import posixpath
from collections.abc import Iterable, Mapping, Sequence


def fits(path: str, pattern: str) -> bool:
    """Return whether a glob would find the path: `**` matches any folders, hidden names need a dot in the pattern.

    A pattern that names a folder includes everything in it.
    """
    return (is_full(path) or not is_full(pattern)) and _fits(_parts(path), _parts(pattern))


def is_full(path: str) -> bool:
    """Return whether a path or pattern counts from the root of a container."""
    return path.startswith("/")


def patterns_of(globs: Mapping[str, Sequence[str]], without: str = "") -> list[str]:
    """Return all patterns of a block, which has them by its fields, but for those of the field `without`."""
    return [each for field, patterns in globs.items() if field != without for each in patterns]


def of_root(patterns: Iterable[str]) -> list[str]:
    """Return the patterns that count from the workload's root, in a container from its working directory."""
    return [each for each in patterns if not is_full(each)]


def matches_inside(path: str, workdir: str, patterns: Sequence[str]) -> bool:
    """Return whether one of the globs would find a full path of a container that works in `workdir`."""
    return matches_any(posixpath.relpath(path, workdir), of_root(patterns)) or matches_any(
        path, filter(is_full, patterns)
    )


def matches_any(path: str, patterns: Iterable[str]) -> bool:
    """Return whether one of the globs would find the path."""
    return any(fits(path, pattern) for pattern in patterns)


def ends_with(path: str, patterns: Iterable[str]) -> bool:
    """Return whether the path, below an unknown folder, may match one of the patterns."""
    names = _parts(path)
    return any(
        fits(path, each) if is_full(each) else any(_fits(names[start:], _parts(each)) for start in range(len(names)))
        for each in patterns
    )


def _fits(names: list[str], parts: list[str]) -> bool:
    if not parts:
        return not names
    first, *rest = parts
    if first == "**":
        here = _fits(names, rest) if rest else len(names) == 1 and _one(names[0], "*")
        return here or (len(names) > 1 and _one(names[0], "*") and _fits(names[1:], parts))
    if not (names and _one(names[0], first)):
        return False
    return _fits(names[1:], rest) or (not rest and names_something(first))


def names_something(part: str) -> bool:
    """Return whether the part names folders too, with their content. `*` and `*.*` match files only."""
    return bool(part.strip("*?."))


def _one(name: str, part: str) -> bool:
    return fnmatch.fnmatchcase(name, part) and (part.startswith(".") or not name.startswith("."))


def literal_folder(pattern: str) -> str:
    """Return the folder above all matches: the parts before the first wildcard, without the last part."""
    parts = _parts(pattern)[:-1]
    wild = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return "/" * is_full(pattern) + "/".join(parts[:wild])


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {"", "."}]
