"""Wait until a person has answered a run's form. The only evacuation that asks is one that an alarm has started."""

import json
import re
import time
from concurrent.futures import wait
from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput, keyset_from_paused_state
from prefect.states import Paused, Running
from pydantic import Field

from tasks.custody.errors import Refused
from tasks.custody.incident.question import Decision
from tasks.system.cancellation import Cancellation, apart

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

_NO_KEY: Final = re.compile(r"[^a-z0-9-]")
_STOP_OR_THAW: Final = "stop-or-thaw"
_HEED_SECONDS: Final = 0.1
_POLL_SECONDS: Final = 1.0
_LAST_SECONDS: Final = 5.0
ASK_SECONDS: Final = 24 * 60 * 60
"""After so long without an answer the server ends the run as Failed, and nothing was done."""


Who: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=200, description="Who decides; it goes on record. 承認者。")
]
Why: TypeAlias = Annotated[str, Field(max_length=2000, description="Why, in a sentence. 理由。")]


class Approval(RunInput):
    """The form. What does not fit it is not accepted by the server, and the run goes on waiting."""

    decision: Literal["approve", "refuse"] = Field(description="approve does what is said above; refuse does nothing.")
    by: Who
    why: Why = ""

    @property
    def approved(self) -> bool:
        """Whether to go on."""
        return self.decision == "approve"

    @property
    def summary(self) -> str:
        """Who said what, and why."""
        words = f"{self.by} {'approved' if self.approved else 'refused'}"
        return f"{words}: {self.why}" if self.why else words


class StopOrThaw(RunInput):
    """The form of an evacuation that an alarm has started."""

    decision: Decision = Field(description="stop goes on with the evacuation; thaw calls it off.")
    by: Who
    why: Why = ""

    @property
    def summary(self) -> str:
        """Who said it, and why."""
        return f"{self.by}: {self.why}" if self.why else self.by


def await_decision(run: str, question: str, seconds: float, cancelled: Cancellation) -> StopOrThaw | None:
    """Pause the run in this process until a person has decided; None once the time is up or it was cancelled.

    This process keeps the deadline by its own clock, because the server would end the run as Failed then, and may be
    gone: whatever it does not answer is asked again until the time is up.
    """
    over = Event()
    answer, _ = apart(lambda: _answered(UUID(run), question, over, cancelled))
    deadline = time.monotonic() + seconds
    while not (answer.done() or cancelled) and (left := deadline - time.monotonic()) > 0:
        wait([answer], min(_HEED_SECONDS, left))
    over.set()
    wait([answer], _LAST_SECONDS)
    return answer.result() if answer.done() else None


def _answered(run: UUID, question: str, over: Event, cancelled: Cancellation) -> StopOrThaw | None:
    """Put the question, then look for the answer until it is there or the time is over; then take no answer more."""
    headline = question.partition("\n")[0].replace("*", "")
    state: State[Any] = Paused(timeout_seconds=ASK_SECONDS * 2, pause_key=_STOP_OR_THAW, message=headline)
    keyset = keyset_from_paused_state(state)
    state.state_details.run_input_keyset = {str(name): key for name, key in keyset.items()}
    put = False
    while True:
        last = over.is_set()
        with suppress(Exception), get_client(sync_client=True) as client:
            if not put and not last:
                client.set_flow_run_state(run, state)
                StopOrThaw.with_initial_data(description=question).save(keyset, run)
                put = True
            if last and not cancelled and (now := client.read_flow_run(run).state) and now.is_paused():
                client.set_flow_run_state(run, Running())
            return StopOrThaw(**json.loads(client.read_flow_run_input(run, keyset["response"])))
        if last:
            return None
        over.wait(_POLL_SECONDS)


def ask(question: str, key: str) -> Approval:
    """Suspend this run until a person has answered, and give the answer in the run that is resumed.

    `key` names what is asked: a key is asked once. Raises Refused outside a deployment, where nobody could resume it.
    """
    key = _NO_KEY.sub("-", key.lower())  # the server keeps the form under it, and takes no other letters
    try:
        return suspend_flow_run(
            wait_for_input=Approval.with_initial_data(description=question), timeout=ASK_SECONDS, key=key
        )
    except RuntimeError as error:
        raise Refused(
            "a run of a deployment, which can wait for a person", str(error), "Run the deployment (evacuation deploy)."
        ) from error
