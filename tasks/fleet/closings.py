"""Read the last closing of each host's incident from the store that has it, and compare it with what the host says."""

from collections import Counter
from collections.abc import Iterable
from contextvars import copy_context
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import Any, Final

from prefect.client.orchestration import SyncPrefectClient

from blocks.port import Store
from blocks.store import EvidenceStore
from tasks.custody.audit.layout import CLOSED
from tasks.custody.audit.untrusted import Unreadable, read_closing
from tasks.custody.evidence.keys import CLOSING, record_key
from tasks.custody.fleet.host_end import Closed, HostEnd, Row, closed_row
from tasks.custody.fleet.incident import FleetIncident
from tasks.custody.fleet.places import key_at, place_of
from tasks.custody.incident.verdict import Word
from tasks.custody.store.manifest import digest_bytes
from tasks.fleet.hosts import every
from tasks.prefect_side.clock import server_time
from tasks.prefect_side.saved_blocks import store_to_read
from tasks.storage.untrusted_reads import fetch
from tasks.system.parallel import side_by_side

_TRIES: Final = 3
_LIMIT: Final = 1 << 20


class Closings:
    """The closings of a fleet's hosts. What was read is kept; a store that fails is tried three times."""

    def __init__(self, incident: FleetIncident) -> None:
        """Open nothing yet."""
        self._incident, self._stores = incident, {host.name: host.store for host in incident.hosts}
        self._read = dict[tuple[str, str, str], Closed]()
        self._failed, self._why = Counter[str](), dict[str, str]()
        self._fields = dict[str, dict[str, Any]]()

    def check(self, client: SyncPrefectClient, rows: Iterable[Row], now: datetime) -> list[Row]:
        """Return the lines with what the stores say. One that says Verified stays open until its closing was read."""
        every_row = list(rows)
        wanted = [row for row in every_row if self._is_wanted(row)]
        if wanted and not self._fields:  # of all stores at once, without their secrets
            slug = EvidenceStore.get_block_type_slug()
            documents = every(client.read_block_documents_by_type, slug, include_secrets=False)
            self._fields = {str(each.name): each.data for each in documents}
        context = copy_context()  # which server is asked
        found_all = side_by_side(lambda row: context.copy().run(self._one, row), wanted)
        for row, found in zip(wanted, found_all, strict=True):
            if isinstance(found, Closed):
                self._read[row.host, row.run, row.incident] = found
            else:
                self._failed[row.run] += 1
                self._why[row.run] = found
        return [self._close(row, now) for row in every_row]

    def _is_wanted(self, row: Row) -> bool:
        known = (row.host, row.run, row.incident) in self._read and not row.joined
        return bool(row.incident) and (row.end is not None or row.joined) and not known and not self._given_up(row)

    def _given_up(self, row: Row) -> bool:
        return not row.joined and self._failed[row.run] >= _TRIES

    def _close(self, row: Row, now: datetime) -> Row:
        closing = self._read.get((row.host, row.run, row.incident))
        if row.end is HostEnd.VERIFIED and closing is None and row.incident and not self._given_up(row):
            return replace(row, end=None, doing="ended, its closing is read")
        return closed_row(row, closing, now, self._why.get(row.run, ""))

    @cached_property
    def _root(self) -> Store:
        """The place that holds the fleet's record and the hosts' prefixes."""
        return store_to_read(self._incident.store).model_copy(update={"prefix": ""}).open()

    def beneath(self, host: str) -> str | None:
        """Return where a host's objects lie in the fleet's bucket or folder; None if they lie elsewhere."""
        return place_of(self._fields.get(self._incident.store, {}), self._fields.get(self._stores[host], {}))

    def _one(self, row: Row) -> Closed | str:
        beneath = self.beneath(row.host)
        try:
            store = self._root if beneath is not None else store_to_read(self._stores[row.host]).open()
            return read_last(store, beneath or "", row.incident, "" if row.joined else row.run)
        except Exception as error:  # noqa: BLE001  one host's store never stops the others
            return f"its closing could not be read: {error}"


def check_closings(client: SyncPrefectClient, incident: FleetIncident, rows: Iterable[Row]) -> list[Row]:
    """Return the lines with what the stores say; a store that fails is asked three times, and then proves nothing."""
    closings, lines, found = Closings(incident), list(rows), list[Row]()
    for _ in range(_TRIES):
        found = closings.check(client, lines, server_time(client))
    return found


def read_last(store: Store, beneath: str, incident: str, run: str = "") -> Closed:
    """Return the closing of the run, because a recovery closes after it; the last one if the run has none.

    Also the last one if that takes away from the run's: it is no longer verified, or the workload is at work again.
    Raises Unreadable or StoreError, also if there is none.
    """
    home = key_at(beneath, f"incidents/{incident}/")
    names = (each.key.removeprefix(home) for each in store.list(f"{home}record/"))
    numbers = [int(match[1]) for name in names if (match := CLOSED.fullmatch(name)) and not match[2]]
    if not numbers:
        raise Unreadable(f"a closing below {home}record/", "none")
    last = found = _read_closing(store, beneath, incident, max(numbers))
    for number in sorted(numbers, reverse=True)[1:]:
        if not run or found.run == run:
            break
        found = _read_closing(store, beneath, incident, number)
    worse = last.word != found.word and (found.word == Word.VERIFIED or last.word == Word.NOT_CONTAINED)
    return found if found.run == run and not worse else last


def _read_closing(store: Store, beneath: str, incident: str, number: int) -> Closed:
    key = record_key(incident, number, CLOSING)
    content = fetch(store, key_at(beneath, key), _LIMIT)
    closing = read_closing(content)
    if closing.incident != incident or closing.closed_utc.tzinfo is None:
        raise Unreadable(f"the closing of {incident}, with a time zone", f"{closing.incident}, {closing.closed_utc}")
    manifests = tuple(sorted((f"incidents/{incident}/{path}", sha256) for path, sha256 in closing.manifests.items()))
    return Closed(str(closing.verdict), key, digest_bytes(content), closing.closed_utc, closing.run, manifests)
