"""Release a workload that was frozen and not yet stopped, with a record."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.fields import BlockName, IncidentId, Sentence
from flows.incident import FEW_AT_ONCE, run_steps
from tasks.containment.release.thaw import thaw as thaw_workload
from tasks.custody.containment.thaw import Thawed
from tasks.custody.evidence.acquisition import Evidence
from tasks.people.stop_or_thaw import thaw_decided
from tasks.preflight.reopen import Reopening, reopen
from tasks.record.final_state import final_state
from tasks.record.findings import wait_for_collectors
from tasks.record.publish import publish
from tasks.record.thawed import build_thaw_content
from tasks.record.write import record
from tasks.runtime.flow_run import this_run
from tasks.runtime.step import StepRunner, after, result_or_reason


@flow(name="thaw", flow_run_name="thaw {workload}", task_runner=FEW_AT_ONCE, persist_result=False)
def thaw(
    workload: BlockName, store: BlockName, incident_id: IncidentId | None = None, reason: Sentence = ""
) -> State[Any]:
    """Call an evacuation off that has frozen the workload and not yet stopped it: everything goes on as it was.

    凍結済みで未停止の撤収を取り消し、ワークロードを元の状態に戻します。

    Args:
        workload: Name of the Workload block that is frozen. 対象の Workload ブロック名。
        store: Name of the Evidence Store block that gets the record. 記録の保全先の Evidence Store ブロック名。
        incident_id: IR-… of the incident; the open one if left out. 対象のインシデント ID。
        reason: Why, in a sentence; it goes on record. 理由。
    """
    run, _ = this_run()
    return run_steps(reopen(Reopening(workload, store, incident_id, "", run, purpose="thaw", reason=reason)), let_go)


def thawed_instead(steps: StepRunner) -> State[Any] | None:
    """Have a person decide between stop and thaw, if the workload asks for that; None if it is to be stopped."""
    looked = wait_for_collectors(steps)
    return let_go(steps, looked) if thaw_decided(steps.context, looked) else None


def let_go(steps: StepRunner, looked: tuple[Evidence, ...] = ()) -> State[Any]:
    """Thaw, and close the incident with a record. Also ends an evacuation for which a person chose to thaw."""
    thawed = thaw_workload.submit(wait_for=after(*steps.futures("collect")))
    content = build_thaw_content(steps, result_or_reason(Thawed, thawed), looked)
    recorded = publish(record.submit(content, wait_for=after(thawed)))
    return final_state(steps.context, content.verdict, recorded, None)
