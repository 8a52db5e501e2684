"""Decide what ties an unmatched process to the workload: its program, its code, its open files."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

from tasks.custody.containment.process import Identity, Process
from tasks.custody.visible import visible

_GPU: Final = re.compile(r"/dev/(?:nvidia.*|kfd|dri/render.*)")

FileId = tuple[int, int]
"""Device and inode, which identify a file independent of its name."""


@dataclass(frozen=True)
class Traces:
    """The open and mapped files of a process, by the kernel's names, and the file of its program.

    `read` are files open for reading only, `written` those open for writing, `code` those mapped executable. `denied`
    says that these are not readable, which proves nothing.
    """

    program: FileId | None = None
    code: frozenset[str] = frozenset()
    read: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()
    denied: bool = False


@dataclass(frozen=True)
class Facts:
    """What was read about the workload's Python and about processes after the freeze.

    `environment` is the resolved folder of its virtual environment, `interpreter` its program, and `user` the uid of
    the workload's account; each None if the workload has none of its own.
    """

    environment: PurePath | None = None
    interpreter: FileId | None = None
    user: int | None = None
    traces: Mapping[Identity, Traces] = field(default_factory=dict)

    def tie(self, process: Process, root: PurePath) -> str:
        """Return the fact that ties a process to the workload, empty if none. A working directory alone is none."""
        traces = self.traces.get(process.identity, Traces())
        code = _below(self.environment, (process.executable, *sorted(traces.code)))
        works = bool(_below(root, [process.cwd]))
        if code:
            return f"it runs code of the workload's environment: {visible(code)}"
        if works and self.interpreter and traces.program == self.interpreter:
            return "it works in the root with the workload's interpreter"
        if written := _below(root, sorted(traces.written)):
            return f"it holds a file below the root open for writing: {visible(written)}"
        gpu = next((file for file in sorted(traces.read | traces.written) if _GPU.fullmatch(file)), "")
        if gpu and (works or _below(root, (process.executable, *traces.code))):
            return f"it holds a GPU from inside the root: {visible(gpu)}"
        return ""

    def unread(self, process: Process, root: PurePath) -> bool:
        """Return whether a process that may be the workload's is not readable."""
        if not self.traces.get(process.identity, Traces()).denied:
            return False
        return bool(_below(root, [process.cwd])) or (process.placeless and process.user == self.user)


NO_FACTS: Final = Facts()


def _below(folder: PurePath | None, paths: Iterable[str]) -> str:
    """Return the first of these paths that is the folder or below it; empty if none."""
    return next((path for path in paths if folder and f"{path}/".startswith(f"{folder}/")), "")
