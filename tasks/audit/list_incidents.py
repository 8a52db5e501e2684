"""List the incidents and fleets of a store as tables of what the store says of them; nothing of it is proven."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from blocks.port import Store
from tasks.custody.audit.finding import printable
from tasks.custody.audit.layout import CLOSED
from tasks.custody.audit.untrusted import Unreadable, document
from tasks.custody.errors import Refused, StoreError
from tasks.custody.evidence.keys import CLOSING, claim_key, fleet_record_key, record_key, targets_key
from tasks.custody.fleet.host_order import parse_fleet_id
from tasks.custody.incident.incident import parse_id
from tasks.storage.untrusted_reads import DOCUMENT_LIMIT, fetch
from tasks.system.parallel import side_by_side

_COUNTED: Final = ("verdict", "records", "signed", "objects", "bytes")
COLUMNS: Final[Mapping[str, Sequence[str]]] = {
    "incidents": ("id", "opened", "host", "workload", *_COUNTED),
    "fleets": ("id", "opened", "fleet", "hosts", *_COUNTED),
}
_THREADS: Final = 32
_LIMIT: Final = 1 << 20


@dataclass
class _Heap:
    """Objects of one incident, counted during the listing."""

    objects: int = 0
    size: int = 0
    closings: set[int] = field(default_factory=set)
    signatures: set[int] = field(default_factory=set)


def holdings(store: Store) -> list[dict[str, str]]:
    """Return a row for each incident, the newest last; objects below incidents/ without a valid id share one row."""

    def describe(incident: str) -> tuple[Any, ...]:
        fields = _read_json(store, claim_key(incident), _LIMIT)
        return incident, fields.get("opened_at", ""), fields.get("host", ""), fields.get("workload", "")

    return _rows(store, "incidents", parse_id, describe, record_key)


def fleets(store: Store) -> list[dict[str, str]]:
    """Return a row for each incident of a fleet, by the rules of `holdings`; `hosts` counts its frozen list."""

    def describe(fleet: str) -> tuple[Any, ...]:
        fields = _read_json(store, targets_key(fleet), DOCUMENT_LIMIT)
        hosts = fields.get("hosts")
        count = len(hosts) if isinstance(hosts, list) else "?"
        return fleet, fields.get("opened_at", ""), fields.get("name", ""), count

    return _rows(store, "fleets", parse_fleet_id, describe, fleet_record_key)


def _rows(
    store: Store,
    place: str,
    parse: Callable[[str], str],
    describe: Callable[[str], tuple[Any, ...]],
    key: Callable[[str, int, str], str],
) -> list[dict[str, str]]:
    """List each incident by itself, side by side: one listing of all is served page after page."""

    def row(incident: str) -> dict[str, str]:
        home = f"{place}/{incident}/"
        heap = _heap((each.key.removeprefix(home), each.size) for each in store.list(home))
        if not heap.objects:
            return {}
        last = max(heap.closings, default=0)
        closing = _read_json(store, key(incident, last, CLOSING), _LIMIT) if last else {"verdict": "not closed"}
        signed = len(heap.closings & heap.signatures)
        words = "no" if not signed else "yes" if signed == len(heap.closings) else f"{signed} of {len(heap.closings)}"
        return build_row(describe(incident), closing.get("verdict", "?"), heap, words)

    def build_row(own: tuple[Any, ...], verdict: object, heap: _Heap, signed: str) -> dict[str, str]:
        values = (*own, verdict, len(heap.closings), signed, heap.objects, heap.size)
        return dict(zip(COLUMNS[place], (printable(value, 80) for value in values), strict=True))

    loose, folders = store.list_folder(f"{place}/")
    named = {folder: _parse_name(folder.removeprefix(f"{place}/").removesuffix("/"), parse) for folder in folders}
    deeper = (each for folder, incident in named.items() if not incident for each in store.list(folder))
    strays = _heap(("", each.size) for each in (*loose, *deeper))
    found = list(side_by_side(row, sorted(filter(None, named.values())), _THREADS))
    unnamed = build_row(("(no valid id)", "", "", ""), "", strays, "") if strays.objects else {}
    return [each for each in (unnamed, *found) if each]


def _heap(names: Iterator[tuple[str, int]]) -> _Heap:
    heap = _Heap()
    for name, size in names:
        heap.objects, heap.size = heap.objects + 1, heap.size + size
        if match := CLOSED.fullmatch(name):
            (heap.signatures if match[2] else heap.closings).add(int(match[1]))
    return heap


def _parse_name(text: str, parse: Callable[[str], str]) -> str:
    with suppress(Refused, ValueError):
        return parse(text)
    return ""


def _read_json(store: Store, key: str, limit: int) -> dict[str, Any]:
    """Return a JSON document; an empty dict if it cannot be read."""
    with suppress(StoreError, Unreadable):
        return document(fetch(store, key, limit))
    return {}


def columns(rows: list[dict[str, str]], what: str) -> Iterator[str]:
    """Yield a table of incidents or fleets as terminal lines."""
    width = {name: max(len(name), *(len(row[name]) for row in rows)) for name in COLUMNS[what]} if rows else {}
    for row in [{name: name for name in width}, *rows] if rows else []:
        yield "  ".join(row[name].ljust(width[name]) for name in width).rstrip()
    yield (f"{len(rows)} {what}; only an audit of each proves what it says" if rows else f"no {what}")
