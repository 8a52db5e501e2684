"""Name the places of an opened incident on this host. `tasks.incident.directory` finds and makes them."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePath

from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.evidence.keys import MANIFEST, SEGMENT, unquote, volume_folder
from tasks.incident.layout import RECORD, RESERVE, RESULTS, manifests
from tasks.system.files.atomic_files import write_whole
from tasks.system.files.disk_reserve import with_reserve
from tasks.system.files.open_beneath import real_file


@dataclass(frozen=True)
class CordonFiles:
    """The files of the cordon: they may lie in another folder than the incident, where an older marker stands.

    `marker` is the guard's own, `caught` the newcomers that it froze, `early` the processes that the start of the run
    froze before it imported anything. `standing` is the marker of a real run: a dry run's own is another.
    """

    marker: Path
    caught: Path
    early: Path
    standing: Path


@dataclass(frozen=True)
class IncidentDirectory:
    """The private folder of an incident, `path`, and the places that belong to it.

    `reserved` bytes were taken there; `volatile` is one in memory. `real` is False if no folder could be made: what a
    run writes there fails, and the run goes on without it. `base` is the folder with the lock of the workload's runs,
    `fallback` the incident's folder on the fallback disk for what does not fit, and `root` the workload's, with links
    resolved, because processes show the resolved path as their working directory. `not_followed` says why the evidence
    folder of the block was not used: a link leads there that another account can change.
    """

    path: Path
    reserved: int
    volatile: bool
    real: bool
    base: Path
    fallback: Path | None
    root: PurePath
    not_followed: str = ""

    @property
    def summary(self) -> str:
        """What a person has to know of it."""
        if not self.real:
            return "no folder of this host can be written: nothing of this incident outlives its run"
        words = f"{self.reserved} bytes are reserved" if self.reserved else "there is no room for a reserve"
        return f"{words}; it lies in memory, a reboot clears it" if self.volatile else words

    @property
    def reserve(self) -> Path:
        """The file that keeps room for what must be written."""
        return self.path / RESERVE

    @property
    def results(self) -> Path:
        """Cached results of the incident's steps."""
        return self.path / RESULTS

    @property
    def folders(self) -> tuple[Path, ...]:
        """The incident's folders: its own, and that on the fallback disk if there is one."""
        return (self.path, self.fallback) if self.fallback else (self.path,)

    def evidence_dir(self, volume: int) -> Path:
        """Return the evidence folder of a volume."""
        return self.path / volume_folder(volume)

    def fallback_volume(self, volume: int) -> Path | None:
        """Return the folder on the fallback disk for files of a volume that do not fit; None without one."""
        return self.fallback / volume_folder(volume) if self.fallback else None

    def record_dir(self, number: int) -> Path:
        """Return the folder of a run's record."""
        return self.path / RECORD / f"{number:03d}"

    def next_number(self) -> int:
        """Return the number of the next record, 1 for the first run."""
        names = (path.name for path in self.path.glob(f"{RECORD}/*"))
        return 1 + max((int(name) for name in names if name.isdecimal()), default=0)

    def open_volume(self) -> int:
        """Return the first volume of evidence that is not sealed."""
        return next(n for n in range(1, 1000) if not (self.evidence_dir(n) / MANIFEST).exists())

    def remove_copies(self) -> None:
        """Remove all evidence. What may not be removed stays."""
        for folder in self.folders:
            for each in folder.glob("evidence*"):
                shutil.rmtree(each, ignore_errors=True)

    def locate(self, volume: int, file: StoredFile) -> Path:
        """Return where the bytes of a file of evidence lie on this host. FileNotFoundError if one in place is gone.

        The workload can change a file in place: compare its digest before use, as `offload` does.
        """
        if file.in_place:
            return real_file(os.fsencode(self.root), unquote(file.source))
        return (Path(file.where) if file.where else self.evidence_dir(volume)) / file.stored

    def write(self, path: Path, data: bytes) -> None:
        """Write a file whole or not at all; on a full disk the reserve is released for it."""
        with_reserve(self.reserve, len(data), lambda: write_whole(path, data))

    def segments_end(self) -> int:
        """Return how many lines of the custody log are in segments that are closed."""
        sealed = [manifest.with_name(SEGMENT) for manifest in manifests(self.path)]
        segments = [*sealed, *self.path.glob(f"{RECORD}/*/{SEGMENT}")]
        return sum(segment.read_bytes().count(b"\n") for segment in segments)
