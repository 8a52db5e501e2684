"""Judge one model in a process of its own: `python -m tasks.models.scanner OWN FOLDERS PREFIXES SUFFIX`.

The model comes on stdin, JSON goes to stdout. The arguments are lists as JSON: names that an operator trusts, folders
from which the API imports before it looks for what is installed, and prefixes below which packages are installed for
it; SUFFIX is the file's. A model that swells, nests without end or crashes its reader costs this process and one
finding.
"""

import io
import json
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from glob import escape
from itertools import chain
from pathlib import Path

from picklescan.scanner import SafetyLevel, scan_pickle_bytes

from tasks.custody.models.imports import LOSSES
from tasks.custody.models.inspection import Soundness
from tasks.custody.models.joblib_arrays import Name
from tasks.custody.models.judge import judge
from tasks.custody.models.other_format import why_not_unread


def scan(stream: bytes) -> Iterator[Name]:
    """Yield the dangerous names that picklescan finds in a pickle without arrays."""
    found = scan_pickle_bytes(io.BytesIO(stream), "model", multiple_pickles=False)
    return (Name(each.module, each.name) for each in found.globals if each.safety is SafetyLevel.Dangerous)


def is_planted(name: str, folders: Iterable[str]) -> bool:
    """Return whether Python would import this name from one of the folders: as source, extension module or package."""
    patterns = [f"{escape(name)}{ending}" for ending in (".py", ".pyc", ".so", ".*.so", "/__init__.*")]
    return any(True for folder in folders for pattern in patterns for _ in Path(folder).glob(pattern))


def find_import_folders(prefixes: Iterable[str]) -> Iterator[str]:
    """Yield the folders that an interpreter imports from by default, and those that .pth files add."""
    for prefix in prefixes:
        for library in Path(prefix).glob("lib*/python3*"):
            yield str(library)
            for packages in library.glob("*-packages"):
                yield str(packages)
                lines = [line for link in packages.glob("*.pth") for line in _lines(link)]
                yield from (str(packages / line) for line in lines if line and not line.startswith(("#", "import")))


def _lines(link: Path) -> list[str]:
    with suppress(OSError):
        return link.read_text(errors="replace").split("\n")
    return []


def main() -> None:
    """Judge the model on stdin and print the finding."""
    logging.disable()
    own, folders, prefixes, suffix = map(json.loads, sys.argv[1:])

    def is_before_others(name: str) -> bool:
        return is_planted(name, chain(folders, find_import_folders(prefixes) if name == LOSSES else ()))

    with open(0, "rb") as file:
        found = judge(file, own, scan, planted=is_before_others)
        if found["outcome"] is Soundness.TORN:
            found["not_unread"] = why_not_unread(file, suffix, found["reason"])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
