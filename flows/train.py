"""Run a training under the cordon's lock, with its log in Prefect and an alarm if it fails by itself."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger

from blocks.workload import Workload
from flows.fields import BlockName
from tasks.custody.errors import Refused
from tasks.custody.incident.ending import REFUSED
from tasks.prefect_side.saved_blocks import load_block
from tasks.preflight.requirements import require_here
from tasks.runtime.flow_run import make_state, this_run
from tasks.training.process import Training
from tasks.training.steps import conclude, require_command, tag_run, take_lock


@flow(name="train", flow_run_name="train {workload}", persist_result=False)
def train(workload: BlockName, environment: dict[str, str] | None = None) -> State[Any]:
    """Run the workload's training command, unless a cordon stands.

    コーデン中は拒否し、そうでなければロックを保持して学習を実行します。

    Args:
        workload: Name of the Workload block whose training_command is run. 対象の Workload ブロック名。
        environment: Variables for the training besides PATH, HOME, USER, LANG. No secrets: not hidden. 環境変数。
    """
    run, _ = this_run()
    tag_run(workload)
    try:
        block: Workload = load_block(Workload, workload)
        require_here(block)
        require_command(block, workload)
        lock = take_lock(block)
        if isinstance(lock, str):
            return make_state(REFUSED, lock)
        training = Training(block, lock, environment or {})
    except Refused as error:  # Failed would raise the alarm, though nothing was started
        return make_state(REFUSED, str(error))
    with training:
        how = training.follow(get_run_logger().info)
    return conclude(block, workload, run, how)
