"""List the incidents of a store as a table of what the store says of them; nothing of it is proven."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tasks.custody.audit.finding import shown
from tasks.custody.audit.layout import CLOSED
from tasks.custody.audit.untrusted import Unreadable, document
from tasks.custody.errors import Refused, StoreError
from tasks.custody.evidence.keys import CLOSING, claim_key, record_key
from tasks.custody.incident.incident import parse_id
from tasks.storage.untrusted_reads import fetch
from tasks.system.parallel import side_by_side

if TYPE_CHECKING:
    from blocks.port import Store

COLUMNS: Final = ("id", "opened", "host", "workload", "verdict", "records", "signed", "objects", "bytes")
_LIMIT: Final = 1 << 20


@dataclass
class _Heap:
    """Objects of one incident, counted during the listing."""

    objects: int = 0
    size: int = 0
    closings: set[int] = field(default_factory=set)
    signatures: set[int] = field(default_factory=set)

    def add(self, name: str, size: int) -> None:
        self.objects, self.size = self.objects + 1, self.size + size
        if match := CLOSED.fullmatch(name):
            (self.signatures if match[2] else self.closings).add(int(match[1]))

    @property
    def signed(self) -> str:
        signed = len(self.closings & self.signatures)
        return "no" if not signed else "yes" if signed == len(self.closings) else f"{signed} of {len(self.closings)}"


def holdings(store: "Store") -> list[dict[str, str]]:
    """Return a row for each incident, the newest last; objects below incidents/ without a valid id share one row."""
    heaps = dict[str, _Heap]()
    for each in store.list("incidents/"):
        incident, _, name = each.key.removeprefix("incidents/").partition("/")
        heaps.setdefault(_named(incident), _Heap()).add(name, each.size)
    return list(side_by_side(lambda item: _row(store, *item), sorted(heaps.items())))


def _named(text: str) -> str:
    try:
        return parse_id(text)
    except Refused:
        return ""


def _row(store: "Store", incident: str, heap: _Heap) -> dict[str, str]:
    told, verdict = dict[str, Any](), ""
    if incident:
        told = _said(store, claim_key(incident))
        last = max(heap.closings, default=0)
        verdict = str(_said(store, record_key(incident, last, CLOSING)).get("verdict", "?")) if last else "not closed"
    values = (
        *(incident or "(no valid id)", told.get("opened_at", ""), told.get("host", ""), told.get("workload", "")),
        *(verdict, len(heap.closings), heap.signed if incident else "", heap.objects, heap.size),
    )
    return dict(zip(COLUMNS, (shown(value, 80) for value in values), strict=True))


def _said(store: "Store", key: str) -> dict[str, Any]:
    """Return a small JSON document; an empty dict if it cannot be read."""
    try:
        return document(fetch(store, key, _LIMIT))
    except (StoreError, Unreadable):
        return {}


def columns(rows: list[dict[str, str]]) -> Iterator[str]:
    """Yield the table as terminal lines."""
    width = {name: max(len(name), *(len(row[name]) for row in rows)) for name in COLUMNS} if rows else {}
    for row in [{name: name for name in COLUMNS}, *rows] if rows else []:
        yield "  ".join(row[name].ljust(width[name]) for name in COLUMNS).rstrip()
    yield (f"{len(rows)} incidents; only an audit of each proves what it says" if rows else "no incidents")
