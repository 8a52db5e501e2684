"""Match names, without a disk, against the glob patterns of the workload block."""

import fnmatch
import glob
from collections.abc import Iterable


def fits(path: str, pattern: str) -> bool:
    """As the same pattern finds it on a disk: `**` stands for any folders, a hidden name wants a dot in the pattern.

    A folder that is named is meant with all that is in it.
    """
    return _fits(_parts(path), _parts(pattern))


def ends_with(path: str, patterns: Iterable[str]) -> bool:
    """True if a file at this place, in a folder that is not known, may have been found by one of them."""
    names = _parts(path)
    return any(_fits(names[start:], _parts(pattern)) for pattern in patterns for start in range(len(names)))


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
    """Whether a folder that fits is meant, with all that is in it: `*` and `*.*` mean files, and pass folders by."""
    return bool(part.strip("*?."))


def _one(name: str, part: str) -> bool:
    return fnmatch.fnmatchcase(name, part) and (part.startswith(".") or not name.startswith("."))


def literal_folder(pattern: str) -> str:
    """The folder that everything that fits lies below: the parts before the first with a wildcard, never the last."""
    parts = _parts(pattern)[:-1]
    wild = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return "/".join(parts[:wild])


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {"", "."}]
