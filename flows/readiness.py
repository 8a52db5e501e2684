"""Tell every night, without an incident, whether an evacuation would work."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic.json_schema import SkipJsonSchema

from blocks.workload import Workload
from flows.fields import BlockName
from tasks.prefect_side.saved_blocks import load_block, require_store
from tasks.readiness.canary import answer
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.examine import examine
from tasks.readiness.runs import READY
from tasks.readiness.tell import tell
from tasks.runtime.flow_run import make_state, this_run


def _name() -> str:
    """Return the name of this run. A canary's says nothing of readiness, whatever its colour."""
    parameters = flow_run.parameters
    return f"{'canary' if parameters.get('canary') else READY} {parameters['workload']}"


@flow(name=READY, flow_run_name=_name, persist_result=False)
def readiness(
    workload: BlockName, store: BlockName, allowed_signers: str = "", canary: SkipJsonSchema[str] = ""
) -> State[Any]:
    """Look whether an evacuation would work if it began now; Completed only if everything was looked at and is sound.

    今すぐ緊急撤収を始めた場合に成功するかを点検します。何も止めず、証跡も送りません。

    Args:
        workload: Name of the Workload block to look at. 対象の Workload ブロック名。
        store: Name of the Evidence Store block that evidence would go to. 保全先の Evidence Store ブロック名。
        allowed_signers: Who may sign, as lines of ssh-keygen's allowed_signers file. 署名者(allowed_signers の内容)。
        canary: What an automation hands over to a run that only answers; in no form. 自動試験用(非表示)。
    """
    if canary:
        return Completed(message=answer())
    block: Workload = load_block(Workload, workload)
    found = examine(CheckTarget(workload, block, store, require_store(store).fields, allowed_signers))
    tell(workload, this_run()[0], found)
    return make_state(found.ending, found.message)
