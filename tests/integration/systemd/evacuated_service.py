"""On a booted host: contain a service under both policies, and print what was seen of it on the way."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from blocks.file import workload_given
from tasks.containment.containment_check import prove_contained
from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.containment.uncordon import uncordon
from tests.support.run_context import case_of, made

_, block = workload_given(Path(sys.argv[1]), "")
UNIT = block.units[0]
DROP_IN = Path(f"/etc/systemd/system/{UNIT}.d/zz-evacuation-cordon.conf")
SAID = Path(f"{block.root}.said")
LONGER_THAN_ITS_WATCHDOG = 1.5


def shown(name: str) -> str:
    """A property of the service."""
    asked = ["systemctl", "show", f"--property={name}", "--value", UNIT]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def start() -> bool:
    """Have systemd start it; whether it then has a process."""
    subprocess.run(["systemctl", "start", UNIT], check=True)
    return shown("MainPID") != "0"


def evacuated(policy: Any) -> dict[str, object]:
    """What it is before, while and after it is contained, and once the cordon is lifted."""
    seen: dict[str, object] = {"before": shown("MainPID")}
    SAID.unlink(missing_ok=True)
    with case_of(block, incident=f"IR-2026010{1 + len(policy)}T030405Z") as context:
        context.policy = policy
        cordon.fn(context)
        freeze.fn(context)
        time.sleep(LONGER_THAN_ITS_WATCHDOG)
        seen |= {"frozen": shown("FreezerState"), "main": shown("MainPID"), "kept down": DROP_IN.exists()}
        receipts = made(stop.fn(context)).processes
        seen["ends"] = [[receipt.end, [name for name, _ in receipt.signals]] for receipt in receipts]
        seen |= {"contained": made(prove_contained.fn(context)).alive, "said": SAID.exists() and SAID.read_text()}
        seen |= {"started under it": start(), "notes": context.notes}
        seen["let go"] = uncordon(context.host, context.scheduler, block, context.log).units
        seen |= {"still kept down": DROP_IN.parent.exists(), "started again": start()}
    return seen


print(json.dumps({policy: evacuated(policy) for policy in ("graceful", "kill")}), flush=True)
os._exit(0)
