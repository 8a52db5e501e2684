"""Act for the fleet that has ordered a host's evacuation: tell it how far the host is, and wait for a turn to send.

Best effort and bounded in time: without the server, or without an order, nothing is told and nobody is waited for.
"""

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from httpx import HTTPStatusError, codes
from prefect.client.orchestration import get_client
from prefect.futures import PrefectFuture
from prefect.settings import temporary_settings

from tasks.custody.errors import Refused
from tasks.custody.fleet.host_order import Order
from tasks.prefect_side.clock import AT_ONCE, server_time
from tasks.runtime.context import RunInfo
from tasks.runtime.step import end_of
from tasks.system.cancellation import Cancellation, run_in_thread
from tasks.system.polling import poll_until

logger = logging.getLogger(__name__)

_TURN_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 1.0
_LEASE_SECONDS: Final = 600.0
"""After which the server gives a turn to the next host, whatever has become of this one."""


def given_order(parameter: Mapping[str, Any] | None) -> Order | None:
    """Return the order in a run's parameters; None if there is none. Raises Refused if it is invalid."""
    try:
        return Order.of(parameter)
    except (KeyError, TypeError, ValueError) as error:
        got = f"{type(error).__name__}: {error}"
        raise Refused("an order as a fleet's run gives it", got, "Leave it out.") from error


def expired_message(order: Order) -> str:
    """Return the message of a run whose order stands no longer."""
    return (
        f"the order {order.key} stood until {order.not_after.isoformat()} and stands no longer: its run did nothing. "
        "指示の期限切れのため、何もしていません。"
    )


class FleetLabels:
    """Labels of this run that tell its fleet how far the host is. Each request repeats the earlier ones."""

    def __init__(self, run: RunInfo) -> None:
        """Tell nothing yet."""
        self._run = run
        self._labels = dict[str, bool | int | float | str]()

    def when_done(self, step: PrefectFuture[Any], label: str) -> None:
        """Once the step is complete, label this run with the time that it was, by the server's clock.

        Returns at once; does nothing without an order.
        """
        if self._run.order is not None:
            run_in_thread(lambda: self._tell(step, label))

    def _tell(self, step: PrefectFuture[Any], label: str) -> None:
        if end_of(step).is_completed():
            at = datetime.now(UTC)
            with get_client(sync_client=True) as client:
                ahead = server_time(client) - datetime.now(UTC)
                self._labels[label] = (at + ahead).isoformat()
                client.update_flow_run_labels(UUID(self._run.id), self._labels)


@contextmanager
def turn_to_send(order: Order | None, cancelled: Cancellation) -> Iterator[None]:
    """Wait for a turn to send, 30 s at most, and give it back at the end. Goes on without one, as without a server."""
    lease = _ask_with_limit(order.limit, cancelled) if order and order.limit else None
    try:
        yield
    finally:
        if lease is not None:
            run_in_thread(lambda: _give_back(lease))


def _ask_with_limit(limit: str, cancelled: Cancellation) -> UUID | None:
    """Return the lease, or None when the time is up: a server that hangs is not waited for.

    What comes later is given back.
    """
    done, _ = run_in_thread(lambda: _lease(limit, cancelled))
    if cancelled.await_end(done, _TURN_SECONDS):
        return _turn(done)
    done.add_done_callback(lambda late: _give_back(lease) if (lease := _turn(late)) else None)
    return None


def _turn(done: Future[UUID | None]) -> UUID | None:
    return None if done.exception() else done.result()


def _lease(limit: str, cancelled: Cancellation) -> UUID | None:
    """Ask for a turn until there is one or the time is up. Raises an error of httpx if the server does not answer."""

    def ask() -> UUID | None:
        try:
            answer = client.increment_concurrency_slots_with_lease([limit], 1, "concurrency", _LEASE_SECONDS)
        except HTTPStatusError as error:
            if error.response.status_code != codes.LOCKED:
                raise
            return None
        return UUID(answer.json()["lease_id"])

    with temporary_settings(AT_ONCE), get_client(sync_client=True) as client:
        lease = poll_until(ask, _TURN_SECONDS, _LOOK_SECONDS, cancelled)
    if lease is None:
        logger.warning("No turn of %s came in %g s: sending without one", limit, _TURN_SECONDS)
    return lease


def _give_back(lease: UUID) -> None:
    with suppress(Exception), temporary_settings(AT_ONCE), get_client(sync_client=True) as client:
        client.release_concurrency_slots_with_lease(lease)
