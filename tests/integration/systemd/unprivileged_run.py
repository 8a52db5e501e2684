"""On a booted host, as a user who is not root: contain what beats in a folder, and print how it was held."""

import json
import os
import sys
import time
from pathlib import Path

from tasks.containment.containment_check import prove_contained
from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

os.umask(0o022)
small = SmallWorkload.__new__(SmallWorkload)
small.root, small.port = Path(sys.argv[1]), 1
sign = small.root / "sign"


def runs() -> bool:
    """Whether the file grows."""
    before = sign.stat().st_size
    time.sleep(0.2)
    return sign.stat().st_size > before


with case_of(small.block(training_pattern="def beat", grace_seconds=1)) as context:
    cordon.fn(context)
    seen = {"settled": made(freeze.fn(context)).settled, "stands": not runs()}
    receipts = made(stop.fn(context)).processes
    seen["held"] = sorted({(each.end, each.way, each.reason) for each in receipts})
    seen |= {"alive": made(prove_contained.fn(context)).alive, "runs": runs()}
print(json.dumps(seen), flush=True)
os._exit(0)
