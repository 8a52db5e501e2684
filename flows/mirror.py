"""§5, the runbook's --delete: list what latest/ has beyond the workload, ask a person, delete it."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.fields import BlockName
from tasks.custody.incident.ending import DECLINED, MIRRORED
from tasks.latest.mirror import mirror_latest, plan_mirror
from tasks.people.form import ask
from tasks.runtime.flow_run import make_state


@flow(name="mirror", flow_run_name="mirror {store}", persist_result=False)
def mirror(store: BlockName) -> State[Any]:
    """Delete from latest/ what the workload of the last promotion no longer has, after a person has approved the plan.

    最後の昇格の時点でワークロードにないものを、担当者の承認後に latest/ から削除します。

    Args:
        store: Name of the Evidence Store block. 保全先の Evidence Store ブロック名。
    """
    found = plan_mirror(store)
    if not found.files:
        return make_state(MIRRORED, f"turn {found.turn}: latest/ has nothing to delete that is held elsewhere")
    answer = ask(found.question, found.key)
    if not answer.is_approved:
        return make_state(DECLINED, f"{found.incident}: {answer.summary}; latest/ is as it was")
    done = mirror_latest(store, found, answer.summary)
    return make_state(MIRRORED, f"{found.incident}: {answer.summary}; {done.summary}")
