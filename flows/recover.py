"""§7 by itself: lift the cordon, restart the API, and prove that it serves the model of the manifest."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.fields import BlockName, IncidentId, Sentence
from flows.incident import FEW_AT_ONCE, run_steps
from tasks.custody.containment.receipt import Containment, Recovery
from tasks.custody.incident.ending import DECLINED
from tasks.evidence.seal import check_seal, read_seals
from tasks.people.form import ask
from tasks.preflight.reopen import Reopening, approval_question, reopen
from tasks.record.final_state import recovered_state
from tasks.record.findings import describe_recovery, note_cancelled
from tasks.record.last_record import build_recovery_content, last_record
from tasks.record.publish import publish
from tasks.record.write import record
from tasks.recovery.recover import StartAs, prove_contained_again
from tasks.recovery.recover import recover as recover_api
from tasks.runtime.context import RunContext
from tasks.runtime.flow_run import make_state, this_run
from tasks.runtime.step import after, result_or_reason


@flow(name="recover", flow_run_name="recover {workload}", task_runner=FEW_AT_ONCE, persist_result=False)
def recover(  # noqa: PLR0913, PLR0917  each is a field of the form that a person fills in
    workload: BlockName,
    store: BlockName,
    incident_id: IncidentId | None = None,
    despite: Sentence = "",
    ask_first: bool = False,  # noqa: FBT001, FBT002  the form has a switch for it
    model: Sentence = "",
    start_as: StartAs | None = None,
) -> State[Any]:
    """Bring an evacuated API back, and prove what it serves. Training is let in, started only by the API's own start.

    A container starts whatever its image and command start, a unit or api_command too; what is not the API is named.

    撤収済みの API を再開し、マニフェストのモデルで応答することを検証します。

    Args:
        workload: Name of the Workload block that was evacuated. 対象の Workload ブロック名。
        store: Name of the Evidence Store block that has its evidence. 保全先の Evidence Store ブロック名。
        incident_id: IR-… of the incident; the last one if left out. 対象のインシデント ID。
        despite: Why to go on although the incident is UNVERIFIED or UNANSWERED; never for NOTCONTAINED.
            未検証・未回答でも続行する理由。
        ask_first: Whether to wait for a person's approval before anything is touched. 承認を待ってから始める。
        model: The model to bring back: its path, its sha256, or SNAPSHOT:path from the store. If left out, the one
            that was served at the freeze, else the one that the block names. 復旧するモデル（省略時は凍結時のもの）。
        start_as: process starts api_command, container a new container of api_image, whatever ran; left out, as it ran.
            起動方法(プロセスか新しいコンテナ。省略時は停止前と同じ)。
    """
    run, _ = this_run()
    answer = ask(*approval_question(workload, incident_id)) if ask_first else None
    if answer and not answer.is_approved:
        return make_state(DECLINED, f"{workload}: {answer.summary}; the workload stays as it is")
    opened = reopen(Reopening(workload, store, incident_id, despite, run, answer.summary if answer else ""))
    return run_steps(opened, lambda steps: _recover(steps.context, despite, model, start_as))


def _recover(context: RunContext, despite: str, model: str, start_as: StartAs | None) -> State[Any]:
    last, seals = last_record(context.directory.path), read_seals(context.directory, context.run.volume)

    # §4: does the seal hold? §7: recover
    intact = check_seal.submit(seals)
    recovered = recover_api.submit(seals, intact, last.verdict, despite, model, start_as)
    recovery = result_or_reason(Recovery, recovered, intact)
    failed = isinstance(recovery, str) and not context.state.recovered.read()
    checked = [prove_contained_again.submit(wait_for=after(recovered))] if failed else []
    again = result_or_reason(Containment, checked[0]) if checked else None

    # §8: record
    note_cancelled(context, again if isinstance(again, Containment) else None, describe_recovery(recovery))
    content = build_recovery_content(
        context.incident, last, seals, recovery=recovery, containment=again, despite=despite
    )
    return recovered_state(context, publish(record.submit(content, wait_for=after(recovered, *checked))), recovery)
