"""Split untrusted program output into lines, in bounded memory: it may be binary, endless, or a flood."""

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from tasks.custody.evidence.redact import redact

LINE_BYTES: Final = 2000
LAST_LINES: Final = 20
_BEFORE: Final = 5
_END: Final = re.compile(rb"\r\n|\r|\n")


class Lines:
    """Split bytes into lines, at a line feed or carriage return. Keeps only the start of a long line."""

    def __init__(self) -> None:
        """Begin with an empty line."""
        self._held, self._more, self._after_return = b"", 0, False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the lines that end in this data."""
        if self._after_return:
            data = data.removeprefix(b"\n")
        self._after_return = data.endswith(b"\r")
        *whole, rest = _END.split(data)
        for piece in whole:
            self._keep(piece)
            yield self._take()
        self._keep(rest)

    def rest(self) -> Iterator[bytes]:
        """Yield the last line, if nothing ended it."""
        if self._held:
            yield self._take()

    def _keep(self, piece: bytes) -> None:
        room = LINE_BYTES - len(self._held)
        self._held += piece[:room]
        self._more += len(piece[room:])

    def _take(self) -> bytes:
        line = self._held + (b" [%d bytes more]" % self._more if self._more else b"")
        self._held, self._more = b"", 0
        return line


class RateLimitedLog:
    """Pass lines on at a limited rate, and count those left out."""

    def __init__(
        self,
        tell: Callable[[str], None],
        burst: int = 200,
        rate: float = 50,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Allow `burst` lines at once and `rate` a second in the long run. `last` keeps the last lines in any case."""
        self._tell, self._burst, self._rate, self._clock = tell, burst, rate, clock
        self._allowed, self._at, self._left_out = float(burst), clock(), 0
        self.last: deque[bytes] = deque(maxlen=LAST_LINES)

    def __call__(self, line: bytes) -> None:
        """Pass one line on, or count it as left out."""
        before = [*self.last][-_BEFORE:]
        self.last.append(line)
        now = self._clock()
        self._allowed = min(self._burst, self._allowed + (now - self._at) * self._rate)
        self._at = now
        if self._allowed < 1:
            self._left_out += 1
            return
        self._allowed -= 1
        self.report_skipped()
        self._tell(readable(line, before))

    def report_skipped(self) -> None:
        """Report how many lines were left out."""
        if self._left_out:
            self._tell(f"[{self._left_out} lines left out here: they came too fast]")
            self._left_out = 0


def readable(line: bytes, before: Iterable[bytes] = ()) -> str:
    """Decode bytes for a log or database: undisplayable characters escaped, secrets hidden.

    The lines `before` may name a secret whose value this one is.
    """
    lines = (each.decode(errors="backslashreplace") for each in (*before, line))
    text = redact("\n".join(lines)).rpartition("\n")[2]
    shown = (each if each.isprintable() or each == "\t" else each.encode("unicode_escape").decode() for each in text)
    return "".join(shown)
