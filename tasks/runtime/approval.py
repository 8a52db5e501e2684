"""Suspend a run until a person has answered its form. Nothing of an evacuation is ever asked."""

import re
from typing import Annotated, Final, Literal

from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from tasks.custody.errors import Refused

_NO_KEY: Final = re.compile(r"[^a-z0-9-]")
ASK_SECONDS: Final = 24 * 60 * 60
"""After so long without an answer the server ends the run as Failed, and nothing was done."""


class Approval(RunInput):
    """The form. What does not fit it is not accepted by the server, and the run goes on waiting."""

    decision: Literal["approve", "refuse"] = Field(description="approve does what is said above; refuse does nothing.")
    by: Annotated[str, Field(min_length=1, max_length=200, description="Who decides; it goes on record. 承認者。")]
    why: Annotated[str, Field(max_length=2000, description="Why, in a sentence. 理由。")] = ""

    @property
    def approved(self) -> bool:
        """Whether to go on."""
        return self.decision == "approve"

    @property
    def summary(self) -> str:
        """Who said what, and why."""
        words = f"{self.by} {'approved' if self.approved else 'refused'}"
        return f"{words}: {self.why}" if self.why else words


def ask(question: str, key: str) -> Approval:
    """Suspend this run until a person has answered, and give the answer in the run that is resumed.

    `key` names what is asked: the same is never asked twice, and another is asked anew. Raises Refused outside a
    deployment, where nobody could resume it.
    """
    key = _NO_KEY.sub("-", key.lower())  # the server keeps the form under it, and takes no other letters
    try:
        return suspend_flow_run(
            wait_for_input=Approval.with_initial_data(description=question), timeout=ASK_SECONDS, key=key
        )
    except RuntimeError as error:
        raise Refused(
            "a run of a deployment, which can wait for a person", str(error), "Run the deployment (make deploy)."
        ) from error
