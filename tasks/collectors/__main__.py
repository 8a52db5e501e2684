"""One collector in a process of its own: `python -m tasks.collectors NAME FOLDER`, the target as JSON on stdin.

Prints a JSON line for the room that is needed, for each file or loss when it is known, and "end" last: what is missing after the last line
was lost with this process.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from tasks.collectors import discover
from tasks.collectors.acquire import acquire
from tasks.collectors.collector import Target
from tasks.collectors.estimate import estimate
from tasks.custody.evidence import StoredFile


def main() -> None:
    """Run the collector and tell."""
    name, folder = sys.argv[1:]
    target = Target(**json.load(sys.stdin))
    os.umask(0o077)
    if told := estimate(discover()[name], target, Path(folder)):
        print(json.dumps({"room": told}), flush=True)
    for item in acquire(discover()[name], target, Path(folder)):
        kind = "file" if isinstance(item, StoredFile) else "loss"
        print(json.dumps({kind: asdict(item)}), flush=True)
    print(json.dumps("end"), flush=True)


if __name__ == "__main__":
    main()
