"""Limit what the processes of one account can make a look at the host do, so that no account delays a freeze.

See docs/adr/0042.
"""

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Final

from tasks.custody.containment.place import Place

FREE: Final = 0.0005
"""Seconds of processor time that each process may take beside what is read of all: most take less."""
FIRST: Final = 0.4
"""Seconds beyond that which the processes of one account may take in a first look."""
LATER: Final = 1.6
"""The same in each later look, when the first signals are sent."""
_ACCOUNTS: Final = 2
"""So many accounts may take all that one may: by user namespaces an account may have thousands."""
_ALL: Final = -1
EACH: Final = 8
"""Every so many checks the clock is read, which takes as long as a small piece of the work."""


class TooMuchWork(Exception):
    """A process takes more time than the look has left for its account; `places` are what was found before."""

    places: frozenset[Place] = frozenset()


class LookBudget:
    """Counts the processor time that a look spends on the processes of each account.

    What is not read for lack of it is held against the process, and tried again by the next look. Root and our own
    account are not limited: no look keeps them from delaying us.
    """

    def __init__(self, looks: Iterator[int] | None = None) -> None:
        """Begin before the first look. `looks` counts them from 0, for several threads if they share it."""
        self._spent, self._limit = defaultdict[int, float](float), FIRST
        self._unlimited, self._account = frozenset({0, os.geteuid()}), 0
        self._began, self._checks = 0.0, 0
        self._looks = count() if looks is None else looks

    def begin_look(self) -> None:
        """Begin the next look."""
        self._spent.clear()
        self._limit = LATER if next(self._looks) else FIRST

    @contextmanager
    def spent_on(self, account: int) -> Iterator[None]:
        """Count the block as spent on a process of this account, by its real user id."""
        self._account, self._began, self._checks = account, 0.0, 0
        try:
            yield
        finally:
            if self._began and (over := self._over()) > 0:
                self._spent[account] += over
                self._spent[_ALL] += over
            self._account = 0

    def check(self) -> None:
        """Raise TooMuchWork, now and then, as `check_now` does: for a small piece of work."""
        self._checks += 1
        if not self._checks % EACH:
            self.check_now()

    def check_now(self) -> None:
        """Raise TooMuchWork if the process has taken what is free, and what is left for its account."""
        if self._account in self._unlimited:
            return
        self._began = self._began or time.thread_time()
        if (over := self._over()) > 0:
            self._require(over)

    def require(self) -> None:
        """Raise TooMuchWork before something dear if nothing is left for the process's account."""
        if self._account not in self._unlimited:
            self._require(0.0)

    def _require(self, more: float) -> None:
        if self._spent[self._account] + more >= self._limit or self._spent[_ALL] + more >= _ACCOUNTS * self._limit:
            raise TooMuchWork("the processes of its account take more time than a look has for them")

    def _over(self) -> float:
        return time.thread_time() - self._began - FREE
