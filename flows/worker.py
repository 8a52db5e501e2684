"""Start a Prefect worker with raised priority that polls each second: `python -m flows.worker --pool evacuation`.

The runs that it starts have its priority. The environment may say how often it polls; all arguments are Prefect's own.
"""

import os
import sys
from typing import Final

from tasks.system.priority import take_priority

SETTINGS: Final = {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,tasks,blocks"}


def main() -> None:
    """Become the worker."""
    take_priority()
    environment = {**SETTINGS, **os.environ}
    os.execve(sys.executable, [sys.executable, "-m", "prefect", "worker", "start", *sys.argv[1:]], environment)  # noqa: S606  no shell is wanted


if __name__ == "__main__":
    main()
