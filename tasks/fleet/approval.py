"""Ask a person whether a large fleet, which is frozen, is stopped or thawed: a form in which its name is typed."""

import re
import signal
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated

from httpx import HTTPError
from prefect.client.orchestration import get_client
from prefect.settings import temporary_settings
from pydantic import Field, create_model

from tasks.custody.fleet.incident import FleetIncident
from tasks.fleet.hosts import attempts_of
from tasks.people.form import JAPANESE, StopOrThaw, await_decision
from tasks.prefect_side.clock import AT_ONCE, find_server_time
from tasks.rendering.clock import both_times
from tasks.rendering.markdown import prose
from tasks.system.cancellation import Cancellation, run_in_thread

_QUESTION = """\
**{hosts} hosts of the fleet {name} are being frozen for {incident}. Stop them, or thaw them?** 停止か解凍かの選択。

- Reason 理由: {reason}
- More than {above} hosts: each is frozen and looked at, and nothing of it is stopped before you answer.

Without an answer until **{until}** each host does: `{act}`. 期限までに回答がなければ各ホストは{ja}します。
"""


class FleetQuestion:
    """The question of one fleet, asked beside the run's other work until it is answered or its time is up."""

    def __init__(self, incident: FleetIncident, run: str) -> None:
        """Ask now. The deadline counts from the trigger or the last retry, also for a run that carries on."""
        until = _last_order(incident) + timedelta(seconds=incident.ask_seconds)
        seconds = (until - (find_server_time() or datetime.now(UTC))).total_seconds()
        self._over, self._answer = Cancellation(), Future[StopOrThaw | None]()
        if seconds > 0:
            form, text = typed_form(incident.name), _text(incident, until)
            self._answer, _ = run_in_thread(lambda: await_decision(run, text, seconds, self._over, form=form))

    @property
    def answer(self) -> StopOrThaw | None:
        """What a person has answered; None while nobody has."""
        return self._answer.result() if self._answer.done() and not self._answer.exception() else None

    def close(self) -> None:
        """Ask no longer. The state of the run is left to it."""
        self._over.order(signal.SIGTERM)


def _last_order(incident: FleetIncident) -> datetime:
    """Return when the terms of the orders began; when the incident was opened if the server does not tell of any."""
    with suppress(HTTPError), temporary_settings(AT_ONCE), get_client(sync_client=True) as client:
        attempts = attempts_of(client, incident.id).values()
        begun = (incident.since(each.number, each.ordered or incident.opened_at) for each in attempts)
        return max(begun, default=incident.opened_at)
    return incident.opened_at


def typed_form(name: str) -> type[StopOrThaw]:
    """Return a form that is only accepted with the fleet's name typed into it."""
    description = f"Type the fleet's name, {name}. フリート名を入力。"
    typed = Annotated[str, Field(pattern=f"^{re.escape(name)}$", description=description)]
    return create_model("FleetDecision", __base__=StopOrThaw, fleet=(typed, ...))


def _text(incident: FleetIncident, until: datetime) -> str:
    return _QUESTION.format(
        hosts=len(incident.hosts),
        name=incident.name,
        incident=incident.id,
        reason=prose(incident.reason),
        above=incident.ask_above,
        until=" / ".join(both_times(until)),
        act=incident.unanswered,
        ja=JAPANESE[incident.unanswered],
    )
