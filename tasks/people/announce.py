"""Tell the Prefect server, without waiting for it, that a workload or a fleet is contained or is not."""

from typing import Any

from prefect.events import emit_event
from prefect.futures import PrefectFuture
from prefect.settings import PREFECT_API_URL

from tasks.custody.containment.receipt import Containment, Stop
from tasks.custody.incident.incident import Incident
from tasks.custody.incident.news import EVENT_CONTAINED, News, contained_news
from tasks.runtime.context import RunInfo
from tasks.runtime.step import result_of
from tasks.system.cancellation import run_in_thread


def announce(run: str, name: str, news: News, event: str = EVENT_CONTAINED, **payload: Any) -> None:
    """Raise an event of a run, with its name. The server's automation tells people; without one it is kept.

    Without a server nobody hears: Prefect would start one of its own for the event.
    """
    if PREFECT_API_URL.value() is None:
        return
    resource = {"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.name": name}
    state = {"prefect.state-name": news.state, "prefect.state-message": news.message}
    emit_event(event, {**resource, **state}, payload=payload)


def announce_containment(
    incident: Incident, run: RunInfo, name: str, stopped: PrefectFuture[Any], checked: PrefectFuture[Any]
) -> None:
    """Announce what the check after the stop has found, once it is done. Returns at once.

    A rehearsal has nothing to tell, and of a fleet's hosts their fleet tells.
    """

    def announce_once_known() -> None:
        found = result_of(checked, Containment)
        if found and not found.recovered:
            where = f"{incident.workload} on {incident.host}"
            announce(run.id, name, contained_news(incident.id, where, result_of(stopped, Stop), found))

    if not run.dry_run and run.order is None:
        run_in_thread(announce_once_known)
