"""§0: refuse an unknown incident id, so that a mistyped one does not open a new incident."""

from collections.abc import Mapping
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from tasks.custody.errors import Refused
from tasks.custody.incident.incident import is_ahead
from tasks.incident.directory import evidence_of, find_home
from tasks.incident.layout import INCIDENT
from tasks.system.time_limit import time_limit

if TYPE_CHECKING:
    from blocks.workload import Workload

_ANSWER_SECONDS: Final = 3.0


def require_known(workload: "Workload", incident: str, saved: Mapping[str, Any]) -> None:
    """Raise Refused for an id that neither this host nor the store knows.

    `saved` are the fields of the store's block. A store that does not answer in time counts as knowing it. An id from
    the future is refused in any case.
    """
    if (find_home(workload, incident) / INCIDENT).is_file():
        return
    remedy = "Leave incident_id empty for a new incident, or copy the id of the one to carry on."
    if is_ahead(incident, now := datetime.now(UTC)):
        raise Refused(f"an incident id that is not later than {now:%Y-%m-%d %H:%M:%S} UTC", incident, remedy)
    if place := _place_without(incident, saved):
        raise Refused(
            "the id of an incident that this host or the store knows",
            f"{incident}, of which there is nothing below {evidence_of(workload)} and nothing in {place}",
            remedy,
        )


def _place_without(incident: str, saved: Mapping[str, Any]) -> str:
    """Return the store's place if it answers in time that it has nothing of the incident; else empty."""
    answers: SimpleQueue[str | Exception] = SimpleQueue()
    Thread(target=_ask, args=(incident, saved, answers), daemon=True).start()
    try:
        answer = answers.get(timeout=_ANSWER_SECONDS)
    except Empty:
        answer = TimeoutError(f"no answer within {_ANSWER_SECONDS:g} s")
    if isinstance(answer, str):
        return answer
    time_limit().lose(f"whether the store knows {incident} is not known, and not waited for: {answer}")
    return ""


def _ask(incident: str, saved: Mapping[str, Any], answers: "SimpleQueue[str | Exception]") -> None:
    from blocks.store import with_usable_key

    try:
        store = with_usable_key(saved)[0].open()
        answers.put("" if next(iter(store.list(f"incidents/{incident}/")), None) else store.place)
    except Exception as error:  # noqa: BLE001  containment comes first, whatever is wrong with the store
        answers.put(error)
