"""A program on a terminal of its own, whose output somebody reads, as in a person's window."""

import os
import pty
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Self

import psutil


class Terminal:
    """A terminal with a program in its foreground. Ends the program, by pid, and what is left of it is a zombie."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        """Start the program in a folder; its output is read from now on."""
        self.output = b""
        self.pid, self._screen = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            # `script` runs its command by this shell, which becomes it; another one would stay between the two.
            os.execvpe(command[0], list(command), {**os.environ, "SHELL": "/bin/bash"})  # noqa: S606  it needs a fork
        self.process = psutil.Process(self.pid)
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):
            while data := os.read(self._screen, 65536):
                self.output = self.output[-65536:] + data

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._screen, f"{text}\n".encode())

    def __enter__(self) -> Self:
        """It runs already."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, and close the window."""
        with suppress(psutil.NoSuchProcess):
            below = self.process.children(recursive=True)
            for each in (self.process, *below):
                with suppress(psutil.NoSuchProcess):
                    each.send_signal(signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        self._reader.join(10)
        os.close(self._screen)
