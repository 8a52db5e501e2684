"""Run one collector in its own process: `python -m tasks.collectors NAME FOLDER`, the target as JSON on stdin.

Prints a JSON line for the estimated room, for each file, loss or finding as soon as it is known, and "end" last: if
that is missing, the process died before the rest.
"""

import json
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tasks.acquisition.acquire import take
from tasks.acquisition.collector import Collector, Target
from tasks.acquisition.estimate import estimate
from tasks.acquisition.searching import search_items
from tasks.collectors import find_collector
from tasks.custody.evidence.acquisition import Loss, StoredFile
from tasks.custody.evidence.secrets_in_files import Search
from tasks.system.programs import trusted_path
from tasks.system.redaction import redact_for

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_MEMORY: Final = 4 << 30
_KINDS: Final = {StoredFile: "file", Loss: "loss", Search: "search"}


def main(find: Callable[[str], Collector] = find_collector) -> None:
    """Run the collector and print what it yields."""
    name, folder = sys.argv[1:]
    target = Target(**json.load(sys.stdin))
    os.umask(0o077)
    os.environ["PATH"] = trusted_path()
    redact_for(Path(target.salt), target.patterns, (target.incident, target.reason))
    limit_memory()
    what = find(name)
    if room := estimate(what, target, Path(folder)):
        print(json.dumps({"room": room}), flush=True)
    items = take(what.sources, target, Path(folder))
    for item in search_items(items, target, Path(folder), all_of_them=what.of_containers):
        print(json.dumps({_KINDS[type(item)]: item}, default=_fields), flush=True)
    print(json.dumps("end"), flush=True)


def _fields(item: "DataclassInstance") -> dict[str, Any]:
    return {each.name: getattr(item, each.name) for each in fields(item)}


def limit_memory() -> None:
    """Limit this process's memory, so that a hostile file costs a collector a MemoryError and not the host its memory.

    The limit is RLIMIT_DATA, which leaves out mapped programs and libraries: those may be huge. OpenBLAS gets one
    thread, because it would reserve memory for each core.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = _MEMORY if hard == resource.RLIM_INFINITY else min(_MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


if __name__ == "__main__":
    main()
