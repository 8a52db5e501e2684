"""One workload and one store under names of their own on a real Prefect server: what a flow test plays on."""

from pathlib import Path
from uuid import uuid4

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State

from blocks.port import Store
from blocks.store import EvidenceStore
from blocks.workload import Workload
from flows.evacuate import evacuate
from tasks.host import LinuxHost
from tests.workloads import SmallWorkload, wait_until


class Scene:
    """One workload and one store under names of their own."""

    def __init__(self, small: SmallWorkload, store: EvidenceStore) -> None:
        """Save both blocks under a new name."""
        self.name = f"t{uuid4().hex[:12]}"
        self.small, self.block, self.store_block = small, small.block(), store
        self.save()

    def save(self, *, workload: Workload | None = None, store: EvidenceStore | None = None) -> None:
        """Save the blocks, changed ones in place of the old."""
        self.block, self.store_block = workload or self.block, store or self.store_block
        self.block.save(self.name, overwrite=True)
        self.store_block.save(self.name, overwrite=True)

    def evacuate(self, **parameters: object) -> State:
        """Run the flow here; the state that it ends in."""
        return evacuate(self.name, self.name, return_state=True, **parameters)

    def lose_the_guard(self) -> None:
        """As if it had been killed: new life is caught by nobody."""
        LinuxHost().release(self.block.evidence / "cordon.json")

    @property
    def store(self) -> Store:
        """The store itself."""
        return self.store_block.open()

    @property
    def incidents(self) -> list[Path]:
        """Folders of the incidents on this host."""
        return sorted(self.block.evidence.glob("IR-*"))

    @property
    def home(self) -> Path:
        """Folder of the only incident."""
        (home,) = self.incidents
        return home


def steps_of(state: State) -> dict[str, str]:
    """Names and final states of a run's steps; the server learns of the last ones after the run itself has ended."""
    this = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    seen: dict[str, str] = {}

    def settled() -> bool:
        runs = client.read_task_runs(flow_run_filter=this)
        seen.clear()
        seen.update({run.name: run.state_name or "" for run in runs})
        return all(run.state and (run.state.is_final() or run.state_name == "NotReady") for run in runs)

    with get_client(sync_client=True) as client:
        wait_until(settled, what="the server's knowledge of the steps")
    return seen
