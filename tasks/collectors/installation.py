"""Collect where each installed package came from and whether its files are still those installed.

packages.json: a file that differs from its package's RECORD, or that no RECORD names, may have been tampered with.
Comparing has some seconds only; a file that is not reached counts as not checked.
"""

import time
from typing import Any, Final

from tasks.acquisition.collector import MIB, Collector, FunctionOutput, Incomplete, Target
from tasks.acquisition.distribution import Distribution, find_unclaimed
from tasks.collectors.packages import folders_of
from tasks.custody.evidence.acquisition import Outcome
from tasks.custody.store.manifest import canonical

_HASH_SECONDS: Final = 15.0
_SHARE: Final = 0.5


def make(target: Target) -> bytes:
    """Return every package compared with its RECORD, by folder."""
    until = time.monotonic() + min(_HASH_SECONDS, target.seconds * _SHARE)
    sites: list[dict[str, Any]] = []
    for folder in folders_of(target):
        packages = [Distribution(folder, info.name) for info in sorted(folder.glob("*.dist-info"))]
        summaries = [package.summary(until) for package in packages]
        unclaimed = find_unclaimed(folder, packages)
        sites.append({"folder": str(folder), "packages": summaries, "named_by_no_record": unclaimed})
    data = canonical(sites)
    if late := sum(package["not_checked"] for folder in sites for package in folder["packages"]):
        raise Incomplete(data, Outcome.TIMED_OUT, f"{late} files not compared with their RECORD: the time was used up")
    return data


COLLECTOR = Collector(
    name="installation",
    answers="Were the installed packages still what was installed, and where did they come from?",
    order=55,
    sources=(FunctionOutput(make, "packages.json"),),
    deadline=60.0,
    limit=64 * MIB,
    of_interpreter=True,
)
