"""Find the workload's files that a glob pattern names, and report everything that is skipped."""

import errno
import fnmatch
import glob
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from tasks.custody.evidence.acquisition import Loss, Outcome
from tasks.custody.evidence.keys import quote
from tasks.custody.evidence.pattern import matches_any, names_something, of_root
from tasks.system.files.open_beneath import folder_below, real_name

_WHOLE = b""
INSTEAD = "naming it does not take it; in its place put a copy, or a mount (mount --bind) that `folders` names"
"""The cure for a link out of the root."""
_KEYS: Final = re.compile(
    r"\.env(\..*|rc)?|.*\.(env|pem|key|p12|pfx|jks|keystore|gpg|kdbx)|id_(rsa|dsa|ecdsa|ed25519).*|\.(netrc|pgpass|npmrc|pypirc)"
    r"|(.*[._-])?(secrets?|tokens?|credentials?|passw(or)?ds?|htpasswd|headers)([._-](?!py$).*)?",
    re.IGNORECASE,
)
UNREAD: Final = "withheld unread: by its name it may hold a secret"
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP})


def find_names(root: bytes, patterns: Iterable[str]) -> tuple[list[bytes], list[Loss]]:
    """Return the names that any of the patterns matches, each once and sorted, and the losses of what is unreadable.

    Patterns that count from the root of a container match nothing here.
    """
    items = dict.fromkeys(item for pattern in of_root(patterns) for item in matches(root, os.fsencode(pattern)))
    losses = {item.source: item for item in items if isinstance(item, Loss)}
    names = sorted(item for item in items if isinstance(item, bytes) and quote(item) not in losses)
    return names, list(losses.values())


def left_over(root: bytes, patterns: Iterable[str], beside: Iterable[str]) -> tuple[list[bytes], list[Loss]]:
    """Return what `find_names` does for the patterns, without the names that the patterns `beside` match."""
    names, losses = find_names(root, patterns)
    others = frozenset(find_names(root, beside)[0])
    return [name for name in names if name not in others], losses


def matches(root: bytes, pattern: bytes) -> Iterator[bytes | Loss]:
    """Yield the names that a pattern matches; a folder that cannot be read is a Loss.

    A folder that a pattern matches by name is taken whole, because a model may be one. So is the folder that a matched
    link leads to, under the link's name, unless it was taken by another name. `a/**/b` enters real folders only.
    Nothing outside of the workload is read, not even names.
    """
    parts = [part for part in pattern.split(b"/") if part not in {b"", b"."}]
    yield from _Walk(root, [(b"", parts)]).names()


@dataclass
class _Walk:
    """Folders still to be read, each with its rest of the pattern. Matched links to folders come last.

    So real names win. The walk ends: a folder (by its inode and rest of the pattern) is read once.
    """

    root: bytes
    places: list[tuple[bytes, list[bytes]]]
    links: list[tuple[bytes, list[bytes]]] = field(default_factory=list)
    walked: set[tuple[int, int, bytes]] = field(default_factory=set)
    by_link: bool = False

    def names(self) -> Iterator[bytes | Loss]:
        while self.places or self.links:
            if not self.places:
                self.by_link = True
                self.places.append(self.links.pop())
            at, (first, *rest) = self.places.pop()
            if first == b"**" and rest:
                self.places.append((at, rest))
            try:
                yield from self._look(at, first, rest)
            except (FileNotFoundError, NotADirectoryError) as error:
                if first == _WHOLE:
                    yield build_loss(at, error)
            except OSError as error:
                yield build_loss(at, error)

    def _look(self, at: bytes, first: bytes, rest: list[bytes]) -> Iterator[bytes | Loss]:
        with folder_below(self.root, at) as (folder, real):
            if real is None:
                to = quote(os.readlink(b"/proc/self/fd/%d" % folder))
                reason = f"a folder that is a link leading out of the workload, to {to}: {INSTEAD}"
                yield Loss(quote(at), Outcome.DENIED, reason)
                return
            status, names = os.fstat(folder), _fitting(folder, first)
        key, leads = (status.st_dev, status.st_ino, first), f"it leads to the folder {quote(real)}"
        if self.by_link and key in self.walked:
            yield Loss(quote(at), Outcome.MISSING, f"{leads}, which is taken by another name")
        elif self.by_link and _holds_itself(self.root, at, real):
            yield Loss(quote(at), Outcome.FAILED, f"{leads}, which holds the link itself")
        else:
            self.walked.add(key)
            for name in (os.path.join(at, name) for name in names):
                path = os.path.join(self.root, name)
                onward = _onward(path, first, rest)
                if onward is None:
                    yield name
                elif onward:
                    (self.links if not rest and os.path.islink(path) else self.places).append((name, onward))


def _onward(path: bytes, first: bytes, rest: list[bytes]) -> list[bytes] | None:
    """Return the rest of a pattern for what lies in a name that fits its first part; None if the name itself fits."""
    if first == b"**" and rest:
        return [first, *rest] if os.path.isdir(path) and not os.path.islink(path) else []
    if rest:
        return rest
    if os.path.isdir(path):
        if first in {b"**", _WHOLE}:
            return [first]
        if names_something(os.fsdecode(first)):
            return [_WHOLE]
    return None


def _holds_itself(root: bytes, link: bytes, real: bytes) -> bool:
    """Return whether the folder with this real name contains the link that leads to it."""
    if not os.path.islink(os.path.join(root, link)):
        return False
    return real == b"." or ((real_name(root, os.path.dirname(link)) or b"") + b"/").startswith(real + b"/")


def _fitting(folder: int, pattern: bytes) -> list[bytes]:
    """Return the names in an open folder that fit one part of a pattern; hidden ones only if it begins with a dot."""
    if pattern != _WHOLE and not glob.has_magic(pattern):
        os.stat(pattern, dir_fd=folder, follow_symlinks=False)
        return [pattern]
    names = os.listdir(b"/proc/self/fd/%d" % folder)
    if pattern == _WHOLE:
        return names
    fitting = fnmatch.filter(names, pattern)
    return [name for name in fitting if pattern.startswith(b".") or not name.startswith(b".")]


def names_a_secret(name: str) -> bool:
    """Return whether a file may hold a secret, by its own name."""
    return bool(_KEYS.fullmatch(name))


def is_hidden(name: bytes, real: bytes, patterns: Iterable[str]) -> bool:
    """Return whether a link leads to what may hold a secret by its real name, by which no pattern names it."""
    if real == os.path.normpath(name) or not names_a_secret(os.fsdecode(os.path.basename(real))):
        return False
    return not matches_any(os.fsdecode(real), patterns)


def build_loss(name: bytes, error: OSError) -> Loss:
    """Return the loss of one name, by the kernel's error."""
    outcome = Outcome.DENIED if error.errno in _DENIED else Outcome.FAILED
    return Loss(quote(name), outcome, error.strerror or str(error))


def read_link(root: bytes, name: bytes) -> bytes:
    """Return where a link leads; empty if it is none, or may not be read."""
    with suppress(OSError):
        return os.readlink(os.path.join(root, name))
    return b""
