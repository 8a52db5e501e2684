"""One workload and one store under names of their own on a real Prefect server: what a flow test plays on."""

from pathlib import Path
from typing import Final
from uuid import uuid4

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State

from blocks.port import Store
from blocks.store import EvidenceStore
from blocks.workload import Workload
from flows.evacuate import evacuate
from tasks.host.host import LinuxHost
from tests.support.workloads import SmallWorkload, wait_until

_LAST: Final = "§8 show the record"


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


class Steps(dict[str, str]):
    """Names and final states of a run's steps, as the server hears of them: often after the run itself has ended."""

    def __init__(self, state: State) -> None:
        """Wait until the server knows of the last one, and all that it knows of have ended."""
        super().__init__()
        self._run = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
        wait_until(self._settled, what="the server's knowledge of the steps")

    def __missing__(self, name: str) -> str:
        """A step that is asked for, and that the server has not heard of yet, is waited for."""
        wait_until(lambda: self._settled() and name in self, what=f"the server's knowledge of {name}")
        return self[name]

    def _settled(self) -> bool:
        with get_client(sync_client=True) as client:
            runs = client.read_task_runs(flow_run_filter=self._run)
        self.clear()  # one of which the server hears in another order has another name at first
        self.update({run.name: run.state_name or "" for run in runs})
        return _LAST in self and all(
            run.state and (run.state.is_final() or run.state_name == "NotReady") for run in runs
        )


def steps_of(state: State) -> Steps:
    """The steps of a run that has ended."""
    return Steps(state)
