"""§0: refuse an unknown id, so that a mistyped one opens no incident, and for a new incident one that exists."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from tasks.custody.errors import Refused
from tasks.custody.incident.incident import is_ahead, require_issued
from tasks.incident.directory import evidence_of, find_home, homes
from tasks.incident.layout import INCIDENT
from tasks.prefect_side.saved_blocks import SavedStore
from tasks.system.cancellation import run_in_thread
from tasks.system.time_limit import time_limit

if TYPE_CHECKING:
    from blocks.workload import Workload

_ANSWER_SECONDS: Final = 3.0


def require_known(workload: "Workload", incident: str, saved: SavedStore) -> None:
    """Raise Refused for an id that neither this host nor the store knows.

    A store that does not answer in time counts as knowing it. An id from
    the future is refused in any case.
    """
    if (find_home(workload, incident) / INCIDENT).is_file():
        return
    remedy = "Leave incident_id empty for a new incident, or copy the id of the one to carry on."
    if is_ahead(incident, now := datetime.now(UTC)):
        raise Refused(f"an incident id that is not later than {now:%Y-%m-%d %H:%M:%S} UTC", incident, remedy)
    place, is_stored = look_up(incident, saved)
    if is_stored is False:
        got = f"{incident}, of which there is nothing below {evidence_of(workload)} and nothing in {place}"
        raise Refused("the id of an incident that this host or the store knows", got, remedy)


def require_new(workload: "Workload", incident: str, saved: SavedStore) -> None:
    """Raise Refused for an id that no new incident may have: of another time, or known to this host or the store.

    A store that does not answer in time counts as not having it: its claim
    is created once, so that nothing of another incident can be overwritten.
    """
    newest = max((home.name for home in homes(workload)), default="")
    require_issued(incident, datetime.now(UTC), workload.incident_suffix, newest)
    place, is_stored = look_up(incident, saved)
    if is_stored:
        remedy = "Leave new_incident out, or its id."
        raise Refused("an id of no incident yet", f"{incident}, of which {place} has objects", remedy)


def look_up(incident: str, saved: SavedStore) -> tuple[str, bool | None]:
    """Return the store's place, and whether it has anything of the incident; None if it does not say so in time."""
    answer, _ = run_in_thread(lambda: _ask(incident, saved))
    try:
        return answer.result(_ANSWER_SECONDS)
    except Exception as error:  # noqa: BLE001  containment comes first, whatever is wrong with the store
        why = str(error) if answer.done() else f"no answer within {_ANSWER_SECONDS:g} s"
    time_limit().lose(f"whether the store knows {incident} is not known, and not waited for: {why}")
    return "", None


def _ask(incident: str, saved: SavedStore) -> tuple[str, bool]:
    store = saved.build()[0].open()
    return store.place, next(iter(store.list(f"incidents/{incident}/")), None) is not None
