"""Listen by two witnesses, processes of their own, for what changes below a folder (runbook §3)."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any, Final

from tasks.host.silence import Change, Heard

_SECONDS: Final = 60.0
_BLOCK: Final = 1 << 20


class Witness:
    """A process that ends when its pipe is closed: by us, or by our death. `lost` says why it does not know all."""

    def __init__(self, **orders: Any) -> None:
        """Start it. One that cannot be started is lost: a check goes on without it."""
        self.lost = ""
        self.process: subprocess.Popen[bytes] | None = None
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-S", "-P", "-m", "tasks.silence"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={"PYTHONPATH": str(Path(__file__).parents[2])},
                start_new_session=True,
                bufsize=0,
            )
            self._send(self.process, json.dumps(orders))
        except OSError as error:
            self.lost = f"a witness could not be started: {error}"

    def ask(self, command: str) -> tuple[Change, ...]:
        """Return what it answers. One that is dead, or silent for a minute, is ended and `lost`."""
        if self.process:
            with suppress(OSError, ValueError):
                self._send(self.process, command)
                answer = json.loads(self._line(self.process))
                self.lost = answer["lost"] or self.lost
                return tuple(map(Change.of, answer["changes"]))
        self.end()
        self.lost = self.lost or "a witness died or did not answer"
        return ()

    def _send(self, process: subprocess.Popen[bytes], line: str) -> None:
        with suppress(BrokenPipeError):  # it may have said why before it ended
            process.stdin.write(f"{line}\n".encode())  # type: ignore[union-attr]

    def _line(self, process: subprocess.Popen[bytes]) -> bytes:
        """Return its next line; less if it ends or takes too long."""
        pipe, deadline, line = process.stdout.fileno(), time.monotonic() + _SECONDS, b""  # type: ignore[union-attr]
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        while not line.endswith(b"\n") and poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            if not (part := os.read(pipe, _BLOCK)):
                break
            line += part
        return line

    def end(self) -> None:
        """End it. Idempotent."""
        if process := self.process:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                pipe.close()  # type: ignore[union-attr]


class Listening:
    """Two witnesses of a folder, without `ours`: one hears writers, if it may, the other compares files.

    Files of the folders `beside` it go by their full paths.
    """

    def __init__(self, root: PurePath, ours: Iterable[str], beside: Iterable[str] = ()) -> None:
        """Start both."""
        orders = {"root": str(root), "ours": [*ours], "beside": [*beside]}
        self._events, self._listing = Witness(hears=True, **orders), Witness(hears=False, **orders)
        self._kept = Heard(datetime.max.replace(tzinfo=UTC))
        self.armed = False
        self.logged: set[tuple[str, int]] = set()

    def arm(self, *, settles: bool = True) -> None:
        """Count what changes from now on; unless it `settles`, nothing was stopped that could write its last words."""
        there = self._kept.there if self.armed else frozenset(map(int, filter(str.isdigit, os.listdir("/proc"))))  # noqa: PTH208  names
        earlier = (*self._kept.earlier, *(each for each in self._events.ask("arm") if not each.is_touch))
        self._listing.ask("arm" if settles else "arm at once")
        if not (self.armed or settles):
            self._kept = replace(self._kept, settle_seconds=0.0)
        self._kept, self.armed = replace(self._kept.since(datetime.now(UTC)), earlier=earlier, there=there), True

    def hear(self, *, compare: bool = True) -> Heard:
        """Return what is known since `arm`. Events are taken last: each that explains a difference is among them."""
        differences = self._listing.ask("changes") if compare else ()
        events = self._events.ask("changes")
        touches = (*self._kept.touches, *(each for each in events if each.is_touch))
        events = tuple(each for each in events if not each.is_touch)
        kept = replace(self._kept, touches=touches)
        return kept.and_then(events, differences, self._events.lost, self._listing.lost)

    def pause(self) -> None:
        """Keep what is known; what changes until the next `arm` does not count."""
        self._kept = self.hear()

    def end(self) -> None:
        """End both. Idempotent."""
        for witness in (self._events, self._listing):
            witness.end()
