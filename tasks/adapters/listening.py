"""Listen by two witnesses, processes of their own, for what changes below a folder (runbook §3)."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any, Final

from tasks.custody.containment.silence import Change, Heard, Trial

MARK: Final = "EVACUATION_TRIAL"
"""Variable of the environment of a launch that tests the cordon: when it was tried."""
_SECONDS: Final = 60.0
_BLOCK: Final = 1 << 20


class Witness:
    """A process that ends when its pipe is closed: by us, or by our death."""

    def __init__(self, **orders: Any) -> None:
        """Start it."""
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
        self.lost = self._send(orders)

    def ask(self, command: str) -> tuple[Change, ...]:
        """Return what it knows. If it died, or does not answer within a minute, `lost` says so from then on."""
        if self.process.poll() is None and not self._send(command):
            with suppress(ValueError):
                answer = json.loads(self._line())
                self.lost = answer["lost"]
                return tuple(map(Change.of, answer["changes"]))
        self.end()
        self.lost = self.lost or "the witness died or did not answer"
        return ()

    def _send(self, words: Any) -> str:
        line = words if isinstance(words, str) else json.dumps(words)
        try:
            self.process.stdin.write(f"{line}\n".encode())  # type: ignore[union-attr]
        except OSError as error:
            return str(error)
        return ""

    def _line(self) -> bytes:
        """Return its next line; less if it ends or takes too long."""
        pipe, deadline, line = self.process.stdout.fileno(), time.monotonic() + _SECONDS, b""  # type: ignore[union-attr]
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        while not line.endswith(b"\n") and poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            if not (part := os.read(pipe, _BLOCK)):
                break
            line += part
        return line

    def end(self) -> None:
        """End it. Idempotent."""
        self.process.kill()
        self.process.communicate()


class Listening:
    """Two witnesses of a folder: one hears events with their processes, if it may, the other compares listings.

    `ours` are paths below it that are left out.
    """

    def __init__(self, root: PurePath, ours: Iterable[str]) -> None:
        """Start both."""
        orders = {"root": str(root), "ours": [*ours], "mark": MARK}
        self._events, self._listing = Witness(kind="events", **orders), Witness(kind="listing", **orders)
        self._differences: tuple[Change, ...] = ()
        self.armed: datetime | None = None
        self.trials: list[Trial] = []
        self.logged: set[tuple[str, int]] = set()
        self.met = 0
        """How many had come back when the listing was taken."""

    def arm(self) -> None:
        """Count what changes from now on."""
        for witness in (self._events, self._listing):
            witness.ask("arm")
        self.armed = datetime.now(UTC)

    def hear(self, met: int = 0, *, compare: bool = True) -> Heard:
        """Return what is known since `arm`. `met` is how many have come back. Comparing takes as long as two listings.

        The events are taken last: each that explains a difference is among them.
        """
        found = self._listing.ask("changes") if compare else ()
        events = self._events.ask("changes")
        known, blind = (*self._differences, *found), self._listing.lost if compare else ""
        return Heard(self.armed or datetime.now(UTC), events, known, self._events.lost, blind, stirred=met > self.met)

    def compare_anew(self, heard: Heard, met: int) -> None:
        """Keep these differences, and compare with a new listing from now on."""
        self._differences, self.met = heard.differences, met
        self._listing.ask("arm")

    def end(self) -> None:
        """End both. Idempotent."""
        for witness in (self._events, self._listing):
            witness.end()
