"""Follow the hosts of a fleet until each has its end: look every few seconds, show the table, do what is due."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from math import inf
from typing import Final
from uuid import UUID

from httpx import HTTPError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectException

from tasks.custody.fleet.host_end import HostEnd, Row, expires, not_ordered
from tasks.custody.fleet.incident import FleetIncident
from tasks.custody.fleet.outcome_lines import fold, fold_names
from tasks.custody.fleet.verdict import all_that_answer_contained, is_settled, over
from tasks.custody.incident.news import fleet_needs, fleet_news
from tasks.fleet.approval import FleetQuestion
from tasks.fleet.claim import is_called_off, mark_settled, owner_of
from tasks.fleet.closings import Closings
from tasks.fleet.handover import read_handover
from tasks.fleet.orders import Lost, cancel_waiting, decide, give, rows_of
from tasks.fleet.show import ProgressTable
from tasks.people.announce import announce
from tasks.prefect_side.clock import server_time
from tasks.system.polling import poll_until

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 3.0
_NO_ORDER_SECONDS: Final = 60.0
"""How long an order that the server does not take is repeated before its host counts as refused."""
_NEWS_SECONDS: Final = 60.0
"""Minimum time between two messages about hosts that need a person."""


class FleetWatch:
    """One run's view of a fleet: what it has seen and said so far."""

    contained_at: datetime | None = None
    _heard: UUID | None = None

    def __init__(self, incident: FleetIncident, run: str) -> None:
        """Begin. `problems` is to say which hosts could not be given an order, and why."""
        self.incident, self.run, self.problems = incident, run, dict[str, Lost]()
        self.closings, self._table = Closings(incident), ProgressTable(incident, run)
        self._silent, self._since = "", time.monotonic()
        self._needy, self._told_at = frozenset[tuple[str, int, bool]](), -_NEWS_SECONDS

    def look(self, client: SyncPrefectClient, question: FleetQuestion | None = None) -> list[Row]:
        """Return a line for every host; do what is due: missing orders, expired ones, a person's answer."""
        now = server_time(client)
        note, handed = read_handover(client, self.incident.id)
        if note != self._heard:  # take over the orders that a run which joined could not give
            self._heard, self._since, self.problems = note, time.monotonic(), {**self.problems, **handed}
        if self.problems and not is_called_off(client, self.incident.id):
            lost = self.problems
            again = [(host, lost[host.name].attempt) for host in self.incident.hosts if host.name in lost]
            self.problems = give(self.incident, again, {name: each.incident for name, each in lost.items()}, patience=0)
        given_up = time.monotonic() - self._since > _NO_ORDER_SECONDS
        rows = rows_of(client, self.incident, self.problems if given_up else None)
        rows = [self._lost(row, given_up=given_up) for row in self.closings.check(client, rows, now)]
        cancel_waiting(client, [row for row in rows if expires(row, now)], "past its time", HostEnd.EXPIRED)
        if question and question.answer:
            decide(client, [row for row in rows if self._in_time(row)], question.answer, self.incident.id)
        self._tell(rows, client)
        self._table.show(client, rows, self.contained_at)
        return rows

    def _lost(self, row: Row, *, given_up: bool) -> Row:
        lost = self.problems.get(row.host)
        return not_ordered(row, lost.attempt, lost.why, given_up=given_up) if lost else row

    def _in_time(self, row: Row) -> bool:
        """Whether the decision on the whole fleet is one on this host."""
        return self.incident.in_time(row.began, row.attempt, row.ordered)

    def _is_needy(self, row: Row) -> bool:
        asks_alone = row.asks and not (self.incident.asks_all and self._in_time(row))
        return row.is_uncontained or asks_alone

    def name_silent(self) -> None:
        """Log which hosts give no sign of life, before the orders of many hosts are given. Never raises."""
        with suppress(HTTPError, PrefectException), get_client(sync_client=True) as client:
            self._log_silent(rows_of(client, self.incident))

    def _log_silent(self, rows: Sequence[Row]) -> None:
        lines = fold(row for row in rows if row.end is HostEnd.SILENT)
        silent = "; ".join(f"{line.hosts} {line.label}" for line in lines)
        if silent != self._silent:
            self._silent = silent
            logger.warning("%s: %s", self.incident.id, silent or "no host is silent any more")

    def _tell(self, rows: Sequence[Row], client: SyncPrefectClient) -> None:
        """Tell who is silent, who needs a person, and that all that answer are contained, when that becomes true."""
        self._log_silent(rows)
        # a host is told of once: for an attempt that asks, or for one that ended without its proof
        needy = {(row.host, row.attempt, row.is_uncontained): row for row in rows if self._is_needy(row)}
        if needy.keys() - self._needy and time.monotonic() >= self._told_at + _NEWS_SECONDS:
            self._needy, self._told_at = self._needy | needy.keys(), time.monotonic()
            news = fleet_needs(self.incident.id, self.incident.name, [*needy.values()])
            again = max(row.attempt for row in needy.values())
            # with the attempt of a retry: two messages of one name tell the same
            hosts = fold_names([row.host for row in needy.values()]) + (f", attempt {again}" if again > 1 else "")
            announce(self.run, f"fleet {self.incident.name}: {hosts}", news)
        if not all_that_answer_contained(rows):
            self.contained_at = None
        elif self.contained_at is None:
            self.contained_at = server_time(client)
            logger.warning("%s: all that answer are contained", self.incident.id)
            news = fleet_news(self.incident.id, self.incident.name, rows)
            announce(self.run, f"fleet {self.incident.name}", news)


def follow(watch: FleetWatch, question: FleetQuestion | None) -> Iterator[list[Row]]:
    """Yield the lines when every host that answers has its end, and when all is over, if they have changed.

    A silent host may come back as long as its order stands. Ends early if another run has taken the incident over. A
    server that does not answer is asked again.
    """
    before, news, is_over = list[tuple[str, HostEnd | None]](), list[list[Row]](), False

    def look() -> bool:
        """Return whether there are lines to yield, or all is over."""
        nonlocal before, news, is_over
        news = []
        try:
            with get_client(sync_client=True) as client:
                rows = watch.look(client, question)
                if is_settled(rows):
                    mark_settled(client, watch.incident, watch.run)
                    now, ended = [(row.run, row.end) for row in rows], over(rows)
                    if not before or (ended and before != now):
                        before, news = now, [rows]
                    is_over = ended or owner_of(client, watch.incident) not in {"", watch.run}  # another has it
        except (HTTPError, PrefectException) as error:
            logger.warning("the server did not answer, and is asked again: %s", error)
        return bool(news) or is_over

    while not is_over:
        poll_until(look, inf, _LOOK_SECONDS)
        yield from news
