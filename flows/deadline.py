"""Keep the deadline of a question whose run may die: `python -m flows.deadline`, started by the run that asks.

It needs no server and no worker. At the deadline it carries the incident on as `evacuation run` does; that run finds
the deadline passed and does what the workload's block says.

See docs/adr/0025.
"""

import json
import os
import sys
import time
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tasks.custody.incident.question import question_of
from tasks.custody.visible import say
from tasks.incident.layout import CUSTODY_LOG, closings
from tasks.incident.run_lock import at_work
from tasks.system.files.atomic_files import caught_lines
from tasks.system.polling import poll_until
from tasks.system.priority import take_priority

if TYPE_CHECKING:
    from tasks.prefect_side.local_config import LocalConfig

_LOOK_SECONDS: Final = 1.0


def main() -> None:
    """Wait until a run has closed the incident's record. Past the deadline act, if no run is at work."""
    orders = json.load(sys.stdin)
    home, evidence, deadline = Path(orders["home"]), Path(orders["evidence"]), time.monotonic() + orders["seconds"]

    def is_closed() -> bool:
        return any(int(closing.parent.name) >= orders["number"] for closing in closings(home))

    poll_until(lambda: is_closed() or (time.monotonic() > deadline and not at_work(evidence)), inf, _LOOK_SECONDS)
    if not is_closed() and question_of(caught_lines(home / CUSTODY_LOG)).until:  # no longer asked once it was thawed
        _act(orders)


def _act(orders: dict[str, Any]) -> None:
    from flows.command.by_hand import without_server

    take_priority()  # the priority of the run that started us belongs to its session
    say(f"{datetime.now(UTC).isoformat()} {orders['incident']}: past its deadline, nobody at work: carried on")
    sys.stdout.flush()
    without_server(lambda: _load_blocks(orders), lambda names, _: _carry_on(orders, names))


def _load_blocks(orders: dict[str, Any]) -> tuple[dict[str, str], "LocalConfig"]:
    from prefect.settings import get_current_settings

    from blocks.workload import Workload
    from tasks.prefect_side.local_config import LocalConfig

    (workload, fields), (store, saved) = orders["workload"], orders["store"]
    return {"workload": workload, "store": store}, LocalConfig(Workload(**fields), saved, get_current_settings())


def _carry_on(orders: dict[str, Any], names: dict[str, str]) -> None:
    from flows.evacuate import evacuate

    alarm = {"event": "deadline", "message": "the run that asked has died"}
    evacuate(**names, incident_id=orders["incident"], policy=orders["policy"], alarm=alarm, return_state=True)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # Prefect would go on offering its events to the server, which has ended with the run
