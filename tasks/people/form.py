"""Wait until a person has answered a run's form. Of the evacuations only those started by an alarm ask."""

import json
import re
from collections.abc import Mapping
from concurrent.futures import wait
from contextlib import suppress
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from threading import Event
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput, keyset_from_paused_state
from prefect.states import Paused, Running
from pydantic import Field

from tasks.custody.errors import Refused
from tasks.custody.incident.postmortem_fields import TEXT_LIMIT, PostmortemFields
from tasks.custody.incident.question import Decision
from tasks.prefect_side.clock import server_time
from tasks.system.cancellation import Cancellation, run_in_thread

R = TypeVar("R", bound=RunInput)

_STOP_OR_THAW: Final = "stop-or-thaw"
_POLL_SECONDS: Final = 1.0
_LAST_SECONDS: Final = 5.0
ASK_SECONDS: Final = 24 * 60 * 60
"""Time without an answer after which the server ends the run as Failed, with nothing done."""


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
    def is_approved(self) -> bool:
        """True if the answer is to go on."""
        return self.decision == "approve"

    @property
    def summary(self) -> str:
        """The answer, with name and reason."""
        words = f"{self.by} {'approved' if self.is_approved else 'refused'}"
        return f"{words}: {self.why}" if self.why else words


JAPANESE: Final[dict[Decision, str]] = {"stop": "停止", "thaw": "解凍"}
"""What each decision is called in the text of a question."""


class StopOrThaw(RunInput):
    """The form of an evacuation that an alarm has started."""

    decision: Decision = Field(description="stop goes on with the evacuation; thaw calls it off.")
    by: Who
    why: Why = ""

    @property
    def summary(self) -> str:
        """Name and reason."""
        return f"{self.by}: {self.why}" if self.why else self.by


Text: TypeAlias = Annotated[str, Field(max_length=TEXT_LIMIT)]


class PostmortemForm(RunInput):
    """The form of a postmortem."""

    by: Who
    title: Text = Field("", description="What happened, in a line. 件名。")
    effect: Text = Field("", description="What it meant for users. 利用者への影響。")
    cause: Text = Field("", description="What caused it. 原因。")
    measures: Text = Field("", description="What is changed for good. 恒久対策。")
    prevention: Text = Field("", description="What keeps it from happening again. 再発防止。")
    contact: Text = Field("", description="Whom to ask: name, title, phone. 連絡先。")


def await_decision(
    run: str, question: str, seconds: float, cancelled: Cancellation, form: type[StopOrThaw] = StopOrThaw
) -> StopOrThaw | None:
    """Pause the run in this process until a person decides; None if the time is up or the run was cancelled.

    The deadline is kept here, by this process's clock: the server would end the run as Failed, and may be down. A
    request that the server does not answer is repeated until then.
    """
    over = Event()
    answer, _ = run_in_thread(lambda: _poll_answer(UUID(run), question, over, cancelled, form))
    cancelled.await_end(answer, seconds)
    over.set()
    wait([answer], _LAST_SECONDS)
    return answer.result() if answer.done() else None


def _poll_answer(
    run: UUID, question: str, over: Event, cancelled: Cancellation, form: type[StopOrThaw]
) -> StopOrThaw | None:
    """Show the question and poll for the answer until `over` is set; then resume the run, and look once more."""
    keyset = keyset_from_paused_state(Paused(pause_key=_STOP_OR_THAW))
    put = False
    while True:
        last = over.is_set()
        with suppress(Exception), get_client(sync_client=True) as client:
            if not put and not last:
                client.set_flow_run_state(run, _pause(question, server_time(client), keyset))
                form.with_initial_data(description=question).save(keyset, run)
                put = True
            if last and not cancelled and (now := client.read_flow_run(run).state) and now.is_paused():
                client.set_flow_run_state(run, Running())
            return form(**json.loads(client.read_flow_run_input(run, keyset["response"])))
        if last:
            return None
        over.wait(_POLL_SECONDS)


def _pause(question: str, now: datetime, keyset: Mapping[Any, str]) -> State[Any]:
    """Return the state of a run that asks. The server ends it by its own clock, long after our deadline."""
    until, headline = now + timedelta(seconds=ASK_SECONDS * 2), question.partition("\n")[0].replace("*", "")
    state: State[Any] = Paused(pause_expiration_time=until, pause_key=_STOP_OR_THAW, message=headline)
    state.state_details.run_input_keyset = {str(name): key for name, key in keyset.items()}
    return state


def ask(question: str, key: str) -> Approval:
    """Suspend this run until a person has answered; return the answer in the resumed run, as `_suspend` does."""
    return _suspend(Approval.with_initial_data(description=question), key)


def fill_in(incident: str, before: PostmortemFields) -> tuple[str, dict[str, str]]:
    """Suspend this run until a person has filled in the postmortem's form; return who, and the texts."""
    description = (
        f"**Postmortem of {incident}**: what is left empty stays open. ポストモーテムの記入。空欄は未記入のまま。"
    )
    form = PostmortemForm.with_initial_data(description=description, **asdict(before))
    filled = _suspend(form, f"postmortem-{incident}").model_dump()
    return str(filled["by"]), {each.name: str(filled[each.name]) for each in fields(before)}


def _suspend(form: type[R], key: str) -> R:
    """Suspend this run until a person has filled in the form.

    `key` identifies the question, which is asked once. Raises Refused outside a deployment, where nobody could resume
    the run.
    """
    key = re.sub(
        r"[^a-z0-9-]", "-", key.lower()
    )  # the server stores the form under the key, and takes no other letters
    try:
        return suspend_flow_run(wait_for_input=form, timeout=ASK_SECONDS, key=key)
    except RuntimeError as error:
        remedy = "Run the deployment (evacuation deploy)."
        raise Refused("a run of a deployment, which can wait for a person", str(error), remedy) from error
