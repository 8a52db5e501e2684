"""On a booted host: begin to contain a service, contain it under both policies, and print what was seen on the way."""

import json
import os
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from blocks.file import workload_given
from tasks.containment.containment_check import prove_contained
from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.release.uncordon import uncordon
from tasks.containment.stop import stop
from tasks.prestart.freeze import freeze_described
from tasks.prestart.journal import thaw_again
from tests.support.run_context import case_of, made
from tests.support.workloads import wait_until

_, block = workload_given(Path(sys.argv[1]), "")
UNIT = block.units[0]
DROP_IN = Path(f"/etc/systemd/system/{UNIT}.d/zz-evacuation-cordon.conf")
SAID = Path(f"{block.root}.said")
LONGER_THAN_ITS_WATCHDOG = 2.5


def shown(name: str) -> str:
    """A property of the service."""
    asked = ["systemctl", "show", f"--property={name}", "--value", UNIT]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def start() -> bool:
    """Have systemd start it; whether it then has a process."""
    subprocess.run(["systemctl", "start", UNIT], check=True)
    return shown("MainPID") != "0"


def begun() -> dict[str, object]:
    """What it is while the start of a run holds it, and once that run was refused."""
    given = tomllib.loads(Path(sys.argv[1]).read_text())["workload"].popitem()[1]
    seen: dict[str, object] = {"before": shown("MainPID")}
    early = freeze_described(given)
    assert early
    time.sleep(LONGER_THAN_ITS_WATCHDOG)
    seen |= {"main": shown("MainPID"), "frozen": [who.pid for who in early.frozen], "watchdog": shown("WatchdogUSec")}
    thaw_again(early)
    wait_until(lambda: shown("WatchdogUSec") == "2s", what="the watchdog")
    return seen | {"after": shown("MainPID")}


def evacuated(policy: Any) -> dict[str, object]:
    """What it is before, while and after it is contained, and once the cordon is lifted."""
    seen: dict[str, object] = {"before": shown("MainPID")}
    SAID.unlink(missing_ok=True)
    with case_of(block, incident=f"IR-2026010{1 + len(policy)}T030405Z") as context:
        context.run = replace(context.run, policy=policy)
        results = [made(cordon.fn(context)), made(freeze.fn(context))]
        time.sleep(LONGER_THAN_ITS_WATCHDOG)
        seen |= {"frozen": shown("FreezerState"), "main": shown("MainPID"), "kept down": DROP_IN.exists()}
        results.append(made(stop.fn(context)))
        receipts = results[-1].processes
        seen["ends"] = [[receipt.end, [name for name, _ in receipt.signals]] for receipt in receipts]
        seen |= {"contained": made(prove_contained.fn(context)).alive, "said": SAID.exists() and SAID.read_text()}
        seen |= {"started under it": start(), "notes": [told for each in results for told in each.warnings]}
        seen["let go"] = uncordon(context.adapters.host, context.adapters.scheduler, block, context.log).units
        seen |= {"still kept down": DROP_IN.parent.exists(), "started again": start()}
    return seen


told = {"begun": begun(), **{policy: evacuated(policy) for policy in ("graceful", "kill")}}
print(json.dumps(told), flush=True)
os._exit(0)
