"""Name the ways in which a process can lie below the workload's root."""

from enum import StrEnum


class Place(StrEnum):
    """A part of a process that lies below the root, by device and inode: never by the text of a path.

    CALLED is the file that it was started by, such as an environment's link to an interpreter, or a script with `#!`.
    OUTPUT is a file that a tool of the host holds open for writing; of other programs it is not looked for.
    """

    CWD = "its working directory"
    ROOT = "its root folder"
    PROGRAM = "its program"
    CALLED = "the file that it was started by"
    SCRIPT = "its script"
    OUTPUT = "a file that it writes"


RUNS_FROM = frozenset({Place.PROGRAM, Place.CALLED, Place.SCRIPT})
"""Places of code: who has one of these runs something of the workload's."""
