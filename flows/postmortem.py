"""§8 by people: put on record what no run can know of an incident, with what was written before."""

from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field

from flows.fields import BlockName, IncidentId
from flows.incident import FEW_AT_ONCE, run_steps
from tasks.custody.incident.postmortem_fields import TEXT_LIMIT
from tasks.evidence.seal import read_seals
from tasks.people.form import fill_in
from tasks.preflight.reopen import Reopening, postmortem_before, reopen
from tasks.record.final_state import written_state
from tasks.record.last_record import build_postmortem_content, last_record, note_written
from tasks.record.publish import publish
from tasks.record.write import record
from tasks.runtime.context import RunContext
from tasks.runtime.flow_run import this_run

Text = Annotated[str, Field(max_length=TEXT_LIMIT)]


@flow(name="postmortem", flow_run_name="postmortem {workload}", task_runner=FEW_AT_ONCE, persist_result=False)
def postmortem(  # noqa: PLR0913, PLR0917  each is a field of the form that a person fills in
    workload: BlockName,
    store: BlockName,
    incident_id: IncidentId | None = None,
    by: Annotated[str, Field(max_length=200)] = "",
    title: Text | None = None,
    effect: Text | None = None,
    cause: Text | None = None,
    measures: Text | None = None,
    prevention: Text | None = None,
    contact: Text | None = None,
) -> State[Any]:
    """Write what only people know into the postmortem of an incident; it is signed, chained to its record and stored.

    人にしか分からない項目をポストモーテムに記入し、署名して記録に加え、保全します。

    Args:
        workload: Name of the Workload block that was evacuated. 対象の Workload ブロック名。
        store: Name of the Evidence Store block that has its evidence. 保全先の Evidence Store ブロック名。
        incident_id: IR-… of the incident; the last one if left out. 対象のインシデント ID。
        by: Who writes; it goes on record. 記入者。
        title: What happened, in a line. Without any of the texts the run waits as Paused, with a form that has what was
            written before: press Resume. A text that is left out stays as it was. 件名。どの項目も空なら、前回の内容が
            入ったフォームで待つ(Resume で記入)。
        effect: What it meant for users. 利用者への影響。
        cause: What caused it. 原因。
        measures: What is changed for good. 恒久対策。
        prevention: What keeps it from happening again. 再発防止。
        contact: Whom to ask: name, title, phone. 連絡先。
    """
    run, _ = this_run()
    texts = {"title": title, "effect": effect, "cause": cause, "measures": measures, "prevention": prevention}
    contents = {name: text for name, text in {**texts, "contact": contact}.items() if text is not None}
    if not contents:
        incident, before = postmortem_before(workload, incident_id)
        by, contents = fill_in(incident, before)
    opened = reopen(Reopening(workload, store, incident_id, "", run, purpose="postmortem", reason=f"written by {by}"))
    return run_steps(opened, lambda steps: _write(steps.context, by, contents))


def _write(context: RunContext, by: str, contents: dict[str, str]) -> State[Any]:
    last = last_record(context.directory.path)
    fields = note_written(context.log, context.directory.path, context.incident.id, by, contents)
    content = build_postmortem_content(last, read_seals(context.directory, context.run.volume), fields)
    return written_state(context, publish(record.submit(content)), content, last.number)
