"""§2, §3: look which processes of the workload hold memory of a GPU."""

from collections.abc import Collection, Mapping

from tasks.containment.containers.pause import paused_ids
from tasks.custody.containment.gpu import GpuUse, read_gpu_use
from tasks.custody.containment.identity import Identity
from tasks.custody.incident.log import CustodyLog
from tasks.host.host import Host
from tasks.host.process.process import Process, family
from tasks.runtime.state import IncidentState


def look_at_gpus(host: Host, state: IncidentState, log: CustodyLog, moment: str) -> GpuUse | None:
    """Return who holds memory of a GPU, and log it; None without nvidia-smi."""
    if (answer := host.compute_apps()) is None:
        return None
    known = {each.identity for each in (*state.stopped.read(), *state.stopping.read())}
    known |= {each.identity for each in state.frozen.read()} | {each.identity for each in state.returned.read()}
    use = read_gpu_use(*answer, pids_of_workload(host.snapshot(), known, paused_ids(state)))
    log.write("gpu", moment, held=use.held, others=use.others, trouble=use.trouble)
    return use


def pids_of_workload(
    snapshot: Mapping[int, Process], known: Collection[Identity], containers: Collection[str]
) -> set[int]:
    """Return the pids by which a driver can only mean the workload: its processes, and what these have started.

    `known` were frozen or ended, `containers` paused. A pid counts that no process has now, not one that another has.
    """
    gone = {identity.pid for identity in known} - snapshot.keys()
    return gone | family(snapshot, known) | {pid for pid, each in snapshot.items() if each.container in containers}
