"""Read results of steps from this process's incidents alone.

A state of Prefect's API may name any file and any serializer, pickle too, and its reader would run what lies there. Of
ours none has to be read so: a step's result is cached in the incident's folder, and no flow stores one.
"""

from pathlib import Path
from typing import Any, Final

from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStore

from tasks.custody.errors import Refused

_OURS: Final = set[str]()


def keep_results(folder: Path) -> Path:
    """Let results be read from this folder from now on, and return it."""
    _OURS.add(str(folder))
    return folder


def read_own_results_only() -> None:
    """Make each other result that this process is to read a Refused error."""
    read, aread = ResultStore._read, ResultStore._aread  # noqa: SLF001  Prefect has no place to ask before it reads

    def read_ours(self: ResultStore, key: str, holder: str) -> Any:
        _require_ours(self, key)
        return read(self, key, holder)

    async def aread_ours(self: ResultStore, key: str, holder: str) -> Any:
        _require_ours(self, key)
        return await aread(self, key, holder)

    ResultStore._read, ResultStore._aread = read_ours, aread_ours  # type: ignore[method-assign]  # noqa: SLF001


def _require_ours(store: ResultStore, key: str) -> None:
    place = store.result_storage
    if type(place) is not LocalFileSystem or str(place.basepath) not in _OURS:
        remedy = "Whoever reaches the Prefect API has set this run's state: see who that was, and evacuate by hand."
        raise Refused("a result that this run has stored itself", f"one at {key} in {place}", remedy)
