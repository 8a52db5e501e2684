"""Answer what an unknown process of an open incident is, and carry the incident on.

See docs/adr/0038.
"""

from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from flows.evacuate import carry_out
from flows.fields import BlockName, IncidentId, Sentence
from flows.incident import AT_ONCE, run_steps
from tasks.custody.containment.answer import Decision, GivenAnswer
from tasks.custody.visible import LINE_LIMIT, visible
from tasks.preflight.open_incident import Request, open_incident
from tasks.runtime.context import Policy
from tasks.runtime.flow_run import this_run
from tasks.runtime.step import StepRunner


@flow(name="answer", flow_run_name="answer {workload}", task_runner=AT_ONCE, persist_result=False)
def answer(  # noqa: PLR0913, PLR0917  each is a field of the form that a person fills in
    workload: BlockName,
    store: BlockName,
    incident_id: IncidentId,
    pid: Annotated[int, Field(gt=0)],
    decision: Decision,
    by: Annotated[str, Field(min_length=1, max_length=200)],
    reason: Sentence = "",
    policy: Policy = "graceful",
) -> State[Any]:
    """Say what a process is that an evacuation could not place; the check runs again, and the incident is carried on.

    撤収で判別できなかったプロセスについて回答し、インシデントを続行します。

    Args:
        workload: Name of the Workload block that was evacuated. 対象の Workload ブロック名。
        store: Name of the Evidence Store block that has its evidence. 保全先の Evidence Store ブロック名。
        incident_id: IR-… of the open incident. 対象のインシデント ID。
        pid: Process that its message names. 対象のプロセス ID。
        decision: bystander leaves it alone in this incident; end ends it with the workload. 無関係か、終了か。
        by: Who answers; it goes on record. 回答者。
        reason: Why, in a sentence; it goes on record. 理由。
        policy: How what is to be ended is stopped, as of an evacuation. 停止の方針。
    """
    run, created = this_run()
    request = Request(
        workload=workload,
        store=store,
        reason=reason,
        detected_at=None,
        incident_id=incident_id,
        dry_run=False,
        policy=policy,
        run=run,
        created=created,
        answer=GivenAnswer(pid, decision, by),
    )
    return run_steps(open_incident(request), _carry_on)


def _carry_on(steps: StepRunner) -> State[Any]:
    state = carry_out(steps)
    message = f"{state.message} Answer 回答: {steps.context.state.answers.read()[-1].summary}"
    state.message = visible(message, LINE_LIMIT)
    return state
