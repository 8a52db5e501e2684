"""One model in a process of its own: `python -m tasks.judge OWN`, the model on stdin, the judgement on stdout as JSON.

A model that swells, nests without end or crashes its reader costs this process and one finding.
"""

import io
import json
import logging
import sys
from collections.abc import Iterator

from picklescan.scanner import SafetyLevel, scan_pickle_bytes

from tasks.custody.model import judge
from tasks.custody.wrapped import Name


def scan(stream: bytes) -> Iterator[Name]:
    """What picklescan, whose list of dangerous names is kept up to date, finds in a pickle without arrays."""
    found = scan_pickle_bytes(io.BytesIO(stream), "model", multiple_pickles=False)
    return (Name(each.module, each.name) for each in found.globals if each.safety is SafetyLevel.Dangerous)


def main() -> None:
    """Judge and tell."""
    logging.disable()
    with open(0, "rb") as file:
        print(json.dumps(judge(file, json.loads(sys.argv[1]), scan)))


if __name__ == "__main__":
    main()
