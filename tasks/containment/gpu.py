"""§2, §3: look which processes of the workload hold memory of a GPU."""

from tasks.containment.containers import paused_ids
from tasks.custody.containment.gpu import GpuUse, pids_of_workload, read_gpu_use
from tasks.runtime.context import RunContext


def look_at_gpus(context: RunContext, moment: str) -> GpuUse | None:
    """Return who holds memory of a GPU, and log it; None without nvidia-smi."""
    host, state = context.adapters.host, context.state
    if (answer := host.compute_apps()) is None:
        return None
    known = {each.identity for each in (*state.stopped.read(), *state.stopping.read())}
    known |= {each.identity for each in state.frozen.read()} | {each.identity for each in state.returned.read()}
    pids = pids_of_workload(host.snapshot(), known, paused_ids(state))
    use = read_gpu_use(*answer, pids)
    context.log.write("gpu", moment, held=use.held, others=use.others, trouble=use.trouble)
    return use
