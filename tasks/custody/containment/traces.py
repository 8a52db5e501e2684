"""Decide what ties a process to the workload that no pattern knows: its program, its code, what it has open."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

from tasks.custody.containment.process import Identity, Process
from tasks.custody.visible import visible

_GPU: Final = re.compile(r"/dev/(?:nvidia.*|kfd|dri/render.*)")

FileId = tuple[int, int]
"""Device and inode: a file whatever it is called."""


@dataclass(frozen=True)
class Traces:
    """What a process has open and mapped, by the names of the kernel, and which file its program is.

    `read` are files that it has open for reading alone, `written` those that it may write to; `code` are files that are
    mapped to be run. `denied` says that these may not be read, which is no proof of anything.
    """

    program: FileId | None = None
    code: frozenset[str] = frozenset()
    read: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()
    denied: bool = False


@dataclass(frozen=True)
class Facts:
    """What was read of the workload's own Python, and of processes, after the freeze.

    `environment` is the folder of its virtual environment, links followed, `interpreter` its program, and `user` whom
    the workload belongs to; each None where there is none of its own.
    """

    environment: PurePath | None = None
    interpreter: FileId | None = None
    user: int | None = None
    traces: Mapping[Identity, Traces] = field(default_factory=dict)

    def tie(self, process: Process, root: PurePath) -> str:
        """The fact that ties a process to the workload; empty if none does. A working directory alone is none."""
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
        """Whether a process that may be the workload's may not be looked into."""
        if not self.traces.get(process.identity, Traces()).denied:
            return False
        return bool(_below(root, [process.cwd])) or (process.placeless and process.user == self.user)


NO_FACTS: Final = Facts()


def _below(folder: PurePath | None, paths: Iterable[str]) -> str:
    """The first of these paths, as the kernel gives them, that is a folder or lies below it."""
    return next((path for path in paths if folder and f"{path}/".startswith(f"{folder}/")), "")
