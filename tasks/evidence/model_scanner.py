"""Judge one model in a process of its own: `python -m tasks.evidence.model_scanner OWN FOLDER…`.

The model comes on stdin, JSON goes to stdout. The folders are those from which its API imports before it looks for
what is installed. A model that swells, nests without end or crashes its reader costs this process and one finding.
"""

import io
import json
import logging
import sys
from collections.abc import Iterable, Iterator
from glob import escape
from pathlib import Path

from picklescan.scanner import SafetyLevel, scan_pickle_bytes

from tasks.custody.models.joblib_arrays import Name
from tasks.custody.models.judge import judge


def scan(stream: bytes) -> Iterator[Name]:
    """What picklescan, whose list of dangerous names is kept up to date, finds in a pickle without arrays."""
    found = scan_pickle_bytes(io.BytesIO(stream), "model", multiple_pickles=False)
    return (Name(each.module, each.name) for each in found.globals if each.safety is SafetyLevel.Dangerous)


def planted(name: str, folders: Iterable[str]) -> bool:
    """Whether one of the folders holds what Python would import by a name: a module of source or C, or a package."""
    patterns = [f"{escape(name)}{ending}" for ending in (".py", ".pyc", ".so", ".*.so", "/__init__.*")]
    return any(True for folder in folders for pattern in patterns for _ in Path(folder).glob(pattern))


def main() -> None:
    """Judge and tell."""
    logging.disable()
    own, *folders = sys.argv[1:]
    with open(0, "rb") as file:
        judged = judge(file, json.loads(own), scan, planted=lambda name: planted(name, folders))
    print(json.dumps(judged))


if __name__ == "__main__":
    main()
