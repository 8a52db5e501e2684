"""Run nothing but our own flows: the server says which one; command, code and environment are the worker's own.

Whoever reaches the server's API may write into a deployment, a run or a pool what he likes. The worker may be root.
"""

import sys
from typing import Any, Final

from prefect import Flow
from prefect.logging import get_logger
from prefect.utilities.processutils import command_to_string
from prefect.workers import process

from tasks.system.own_runs import engine_of, entrypoint_of

logger = get_logger(__name__)

ENVIRONMENT: Final = frozenset(
    {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "PREFECT_LOGGING_EXTRA_LOGGERS", "PREFECT_LOGGING_LEVEL"}
)
"""Variables that a deployment may set. Not the server's address: whoever answers there is told the password."""
_ENTRYPOINT: Final = "PREFECT__FLOW_ENTRYPOINT"
"""Has the run load this flow; without it it asks the server, which may say something else by then."""


class OwnRunConfiguration(process.ProcessJobConfiguration):
    """How a run of one of our flows is started."""

    def prepare_for_flow_run(self, flow_run: Any, deployment: Any = None, *args: Any, **kwargs: Any) -> None:
        """Take flow and engine from what the server says. Raises Refused if they are not ours."""
        entrypoint, engine = entrypoint_of(deployment), engine_of(self.command)
        if left_out := sorted({*self.env} - ENVIRONMENT):
            logger.warning("%s: left out of its job_variables: env %s", flow_run.name, ", ".join(left_out))
        self.env = {name: value for name, value in self.env.items() if name in ENVIRONMENT}
        self.working_dir, self.command = None, command_to_string([sys.executable, "-P", "-m", engine])
        super().prepare_for_flow_run(flow_run, deployment, *args, **kwargs)
        self.env[_ENTRYPOINT] = entrypoint


async def _flow_without_hooks(*_: Any, **__: Any) -> Flow[[], None]:
    return Flow(lambda: None, name="without-hooks")


# For the hooks of a run that has crashed Prefect would load, in the worker, what its deployment names by then.
process.load_flow_from_flow_run = _flow_without_hooks  # type: ignore[attr-defined]
