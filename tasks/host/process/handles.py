"""Hold what was read of a process after the freeze: its program, its open and mapped files, what it was started by."""

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

_GPU: Final = re.compile(r"/dev/(?:nvidia.*|kfd|dri/render.*)")

FileId = tuple[int, int]
"""Device and inode, which identify a file independent of its name."""


class PipeEnd(NamedTuple):
    """A descriptor of a process that leads into a pipe, by the kernel's name of that."""

    pipe: str
    descriptor: int
    reads: bool
    writes: bool


@dataclass(frozen=True)
class Handles:
    """The open and mapped files of a process, by the kernel's names; what is below the root is decided by inode.

    `program` identifies its program; `trusted` says that this is root's own, at its place on this host, and `volatile`
    that it lies in memory or is deleted. `called` is the file that the kernel started (AT_EXECFN), which outlasts an
    overwritten command line; `called_below` says whether that lies below the root, `called_found` whether it is there
    at all, seen from where the process works. `code` are files mapped executable, `read` those open for reading only,
    `written` those open for writing, or mapped so that one may write, and `below` what of these and of other mapped
    files lies below the root. `model` is a model that it has mapped or open, `mapped_model` says which. `listens` is a
    socket file below the root that it has bound, `waits` says what else of the root it holds without a file, as a
    folder, `mapped` which data of it it has mapped. `sockets` are all that it has open, by the kernel's names.
    `names_root` is an argument or a search path that names the root, `began_there` a variable that tells that
    it was started there. `lost` is the name of its working directory, if that leads there no more. `resolved` says that
    program and script were found, and none of them below the root, `read_only` that its working directory is on a mount
    that may not be written. `stdin` is what it reads as standard input, `pipes` are its ends of pipes. `denied` says
    that these are not readable, which proves nothing; `unread` why not all is known, if it was not for a lack of
    rights.
    """

    program: FileId | None = None
    trusted: bool = False
    volatile: bool = False
    called: str = ""
    called_below: bool = False
    called_found: bool = False
    code: frozenset[str] = frozenset()
    read: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()
    below: frozenset[str] = frozenset()
    model: str = ""
    mapped_model: bool = False
    listens: str = ""
    waits: str = ""
    mapped: str = ""
    sockets: frozenset[str] = frozenset()
    names_root: str = ""
    began_there: str = ""
    lost: str = ""
    resolved: bool = False
    read_only: bool = False
    stdin: str = ""
    pipes: frozenset[PipeEnd] = frozenset()
    denied: bool = False
    unread: str = ""

    @property
    def gpu(self) -> str:
        """A GPU that it holds; empty if none."""
        return next((file for file in sorted(self.read | self.written) if _GPU.fullmatch(file)), "")


UNREAD: Final = Handles(denied=True)
