"""§1: count newcomers by what starts them. Three of one parent are kept frozen, further ones are ended."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Source
from tasks.host.process.newcomer import KEPT, find_origin, is_written
from tasks.host.process.process import Process


class Repeat(NamedTuple):
    """The `number`th newcomer that a source has started: `top`, with its descendants."""

    top: Identity
    source: Source
    number: int

    @property
    def ends(self) -> bool:
        """Whether it is ended, and not kept."""
        return self.number > KEPT

    def row(self, identity: Identity) -> dict[str, Any] | None:
        """Return what a row says of the source, once it starts newcomers again and again; None if there is no row."""
        if self.ends and not (identity == self.top and is_written(self.number)):
            return None
        return {"again": asdict(self.source), "ended": self.number - KEPT} if self.number >= KEPT else {}


class Repeats:
    """What the guard has caught of each source."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._numbers: Counter[Source] = Counter()
        self._known: dict[Identity, Repeat | None] = {}
        self._groups: dict[int, Source] = {}

    def judge(
        self,
        snapshot: Mapping[int, Process],
        new: Iterable[Identity],
        newcomers: Iterable[int],
        may_end: Callable[[Identity], bool],
    ) -> dict[Identity, Repeat]:
        """Count the new ones, and return those of a known source. Descendants of a newcomer share its number.

        One whose parent has ended belongs to the source of its process group.
        """
        pids, found = set(newcomers), dict[Identity, Repeat]()
        for identity in new:
            top, source = find_origin(snapshot, identity.pid, pids)
            if top.identity not in self._known:
                source = (source or self._groups.get(top.group)) if may_end(top.identity) else None
                self._known[top.identity] = self._next(top, source) if source else None
            if repeat := self._known[top.identity]:
                found[identity] = repeat
        return found

    def _next(self, top: Process, source: Source) -> Repeat:
        self._numbers[source] += 1
        self._groups[top.group] = source
        return Repeat(top.identity, source, self._numbers[source])
