"""Which files of the workload a pattern names: as glob knows it, but nothing is skipped in silence."""

import errno
import fnmatch
import glob
import os
from collections.abc import Iterable, Iterator

from tasks.below import real_name
from tasks.custody.evidence import Loss, Outcome
from tasks.custody.keys import quote
from tasks.custody.pattern import names_something

_WHOLE = b""
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP})


def found(root: bytes, patterns: Iterable[str]) -> tuple[list[bytes], list[Loss]]:
    """Names that any of the patterns matches, each once and sorted, and what could not be looked into."""
    items = dict.fromkeys(item for pattern in patterns for item in matches(root, os.fsencode(pattern)))
    losses = {item.source: item for item in items if isinstance(item, Loss)}
    names = sorted(item for item in items if isinstance(item, bytes) and quote(item) not in losses)
    return names, list(losses.values())


def matches(root: bytes, pattern: bytes) -> Iterator[bytes | Loss]:
    """Names that a pattern matches; a folder that cannot be read is a Loss and not a gap.

    A folder that a pattern names, and not just any folder, is taken whole: a model may be one. `**` goes into real
    folders only: links that lead into themselves would make it an endless walk. Outside the workload not even names
    are read.
    """
    places = [(b"", [part for part in pattern.split(b"/") if part not in {b"", b"."}])]
    while places:
        at, (first, *rest) = places.pop()
        if first == b"**" and rest:
            places.append((at, rest))
        try:
            if _leads_out(root, at):
                yield Loss(quote(at), Outcome.DENIED, "a folder that is a link leading out of the workload")
                continue
            names = _inside(os.path.join(root, at), first)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            yield lost(at, error)
            continue
        for name in (os.path.join(at, name) for name in names):
            onward = _onward(os.path.join(root, name), first, rest)
            if onward is None:
                yield name
            elif onward:
                places.append((name, onward))


def _onward(path: bytes, first: bytes, rest: list[bytes]) -> list[bytes] | None:
    """What of a pattern is for what lies in a name that fits its first part; None if the name itself is meant."""
    folder = (first == b"**" or not rest) and _is_real_folder(path)
    if folder and first in {b"**", _WHOLE}:
        return [first, *rest]
    if folder and names_something(os.fsdecode(first)):
        return [_WHOLE]
    if not rest:
        return None
    return [] if first == b"**" else rest


def _inside(folder: bytes, pattern: bytes) -> list[bytes]:
    """Names in a folder that fit one part of a pattern; hidden ones only if it begins with a dot."""
    if pattern == _WHOLE:
        return os.listdir(folder)
    if not glob.has_magic(pattern):
        os.lstat(os.path.join(folder, pattern))
        return [pattern]
    fitting = fnmatch.filter(os.listdir(folder), pattern)
    return [name for name in fitting if pattern.startswith(b".") or not name.startswith(b".")]


def _leads_out(root: bytes, folder: bytes) -> bool:
    """Asked of each folder on the way, so that only the last can be a link that was not looked at yet."""
    return bool(folder) and os.path.islink(os.path.join(root, folder)) and real_name(root, folder) is None


def _is_real_folder(path: bytes) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def lost(name: bytes, error: OSError) -> Loss:
    """The loss of one name, by what the kernel says of it."""
    outcome = Outcome.DENIED if error.errno in _DENIED else Outcome.FAILED
    return Loss(quote(name), outcome, error.strerror or str(error))
