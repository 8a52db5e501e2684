"""Know the runs of our own deployments: the flows that they are of, and the command that starts them.

See docs/adr/0040.
"""

import os
import shlex
import sys
from typing import Any, Final

from tasks.custody.errors import Refused

_NAMES: Final = "answer audit drill evacuate fleet mirror postmortem readiness recover tell thaw train"
FLOWS: Final = frozenset({*(f"flows.{name}.{name}" for name in _NAMES.split()), "flows.fleet.fleet_thaw"})
"""Entrypoints of our deployments."""
ENGINES: Final = ("flows.engine", "prefect.engine")
_CURE: Final = "Find out who has changed it, and run evacuation deploy again. A flow of yours needs another worker."


def entrypoint_of(deployment: Any) -> str:
    """Return the entrypoint of a deployment. Raises Refused unless it is a flow of ours, with nothing to pull."""
    if not deployment or deployment.entrypoint not in FLOWS or deployment.pull_steps:
        got = f"{deployment.entrypoint}, {len(deployment.pull_steps or ())} pull steps" if deployment else "none"
        raise Refused("a deployment of a flow of the evacuation, without pull steps", got, _CURE)
    return str(deployment.entrypoint)


def engine_of(command: str | None) -> str:
    """Return the module that a deployment's command starts by our Python. Raises Refused for another command."""
    if command is None:
        return ENGINES[1]
    python, *words = shlex.split(command)
    ours = os.path.realpath(python) == os.path.realpath(sys.executable)
    if not ours or words[:-1] not in (["-m"], ["-P", "-m"]) or words[-1] not in ENGINES:
        raise Refused(f"{sys.executable} -P -m {' or '.join(ENGINES)}, as evacuation deploy writes it", command, _CURE)
    return words[-1]
