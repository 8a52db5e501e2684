"""The graph of a run's steps: as docs/architecture.md draws it, and as Prefect's server has it."""

import re
from itertools import product

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State, TaskRun

from docs.packages import PAGE
from tasks.collectors import discover
from tasks.custody.evidence.keys import FOLDERS

Edge = tuple[str, str, str]
"""From, to, and "hard" or "soft"."""
_ARROW = re.compile(r"\s+(-\.->|-->|-\. .+? \.->|-- .+? -->)\s+")


def drawn() -> set[Edge]:
    """The edges on the page."""
    lines = PAGE.read_text().partition("flowchart LR\n")[2].partition("```")[0].splitlines()
    found = set[Edge]()
    for line in lines:
        before, arrow, after = _ARROW.split(line.strip())
        ends = [re.sub(r"\[.*?\]", "", side).split(" & ") for side in (before, after)]
        found |= {(one, other, "soft" if arrow.startswith("-.") else "hard") for one, other in product(*ends)}
    return found


def node(step_id: str, collector: str = "") -> str:
    """A step's name on the page: its id, and for a collector when it collects."""
    if step_id != "collect":
        return step_id
    what = discover()[collector]
    return (
        FOLDERS if collector == FOLDERS else "environment" if what.early else "look" if what.while_frozen else step_id
    )


def recorded(state: State) -> set[Edge]:
    """The edges between the task runs of a flow run that has ended, as the server has them."""
    ran = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(flow_run_filter=ran)
    nodes = {run.id: _node(run) for run in runs}
    return {
        (nodes[each.id], nodes[run.id], "soft" if name == "wait_for" else "hard")
        for run in runs
        for name, upstream in run.task_inputs.items()
        for each in upstream
        if each.input_type == "task_run"
    }


def _node(run: TaskRun) -> str:
    (step_id,) = (tag.removeprefix("step:") for tag in run.tags if tag.startswith("step:"))
    return node(step_id, run.name.rpartition(" ")[2])
