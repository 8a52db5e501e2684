"""Find or make an incident's folder: in evidence_dir, else in fallback_dir, else in memory.

A full disk must never keep a workload from being contained. So there are up to three bases: the evidence folder, the
fallback folder of the workload block, and as a last resort a folder in memory, which a reboot clears. Its name cannot
be guessed, so nobody can take it first. Where no folder can be had at all, the incident lives in its run's own memory.
"""

import hashlib
import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter

from tasks.custody.incident.incident import Incident
from tasks.incident import layout
from tasks.incident.layout import CORDON, DRY_RUN, INCIDENT, OWNER, PRIOR, RESERVE, incidents_in
from tasks.system.atomic_files import write_whole
from tasks.system.disk_reserve import MIB, take

if TYPE_CHECKING:
    from blocks.workload_fields import WorkloadFields

_UNGUESSED: Final = secrets.token_hex(16)
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class IncidentDirectory:
    """The private folder of an incident. `reserved` bytes were taken there; `volatile` is one in memory.

    `real` is False where no folder can be had: what a run writes there fails, and the run must do without.
    """

    path: Path
    reserved: int
    volatile: bool
    real: bool = True

    @property
    def summary(self) -> str:
        """What of it a person has to know."""
        if not self.real:
            return "no folder of this host takes a file: nothing of this incident outlives its run"
        words = f"{self.reserved} bytes are reserved" if self.reserved else "there is no room for a reserve"
        return f"{words}; it lies in memory, a reboot clears it" if self.volatile else words


def bases(workload: "WorkloadFields") -> tuple[Path, ...]:
    """Folders that may hold incidents. The first has the lock of the workload's runs: the evidence folder, if any."""
    own = [] if workload.evidence.is_symlink() else [workload.evidence]
    there = [*own, *(base for base in _others(workload) if _private(base))]
    return tuple(sorted(there, key=lambda base: not os.access(base / OWNER, os.W_OK)))


def base_of(workload: "WorkloadFields") -> Path:
    """Where the lock of the workload's runs lies."""
    return next(iter(bases(workload)), workload.evidence)


def cordon_base(workload: "WorkloadFields") -> Path:
    """Where the cordon's marker stands, with the list of what was paused beside it."""
    return next((base for base in bases(workload) if _cordoned(base)), base_of(workload))


def cordon_dir(workload: "WorkloadFields", home: Path) -> Path:
    """Where the guard of an incident leaves its marker: where one stands, else where the incident found room."""
    standing = cordon_base(workload)
    if _cordoned(standing):
        return standing
    return next((base for base in bases(workload) if home.is_relative_to(base)), standing)


def _cordoned(base: Path) -> bool:
    return any(os.path.lexists(base / name) for name in (CORDON, PRIOR))


def make_base(workload: "WorkloadFields") -> Path:
    """The same, made if it is not there: the evidence folder, else the next; the evidence folder if none can be had."""
    if os.access((base := base_of(workload)) / OWNER, os.W_OK):
        return base
    with suppress(OSError):
        workload.evidence.mkdir(mode=0o755, parents=True, exist_ok=True)
        if not workload.evidence.is_symlink():
            os.close(os.open(workload.evidence / OWNER, _NEW, 0o600))
            return workload.evidence
    return next((base for base in _others(workload) if make_private(base)), workload.evidence)


def find_home(workload: "WorkloadFields", incident: str, *, dry_run: bool = False) -> Path:
    """Folder of an incident wherever an earlier run has opened it; of a new one in the first base."""
    homes = [home_in(base, incident, dry_run=dry_run) for base in bases(workload) or (workload.evidence,)]
    return next((home for home in homes if _private(home) and (home / INCIDENT).is_file()), homes[0])


def homes(workload: "WorkloadFields") -> list[Path]:
    """Folders of all real incidents on this host."""
    return [home for base in bases(workload) for home in incidents_in(base)]


def home_in(base: Path, incident: str, *, dry_run: bool) -> Path:
    """Folder of an incident in a base; a dry run's lies apart and is never carried on as a real one."""
    return base / DRY_RUN / incident if dry_run else base / incident


def open_home(workload: "WorkloadFields", incident: Incident, *, dry_run: bool) -> IncidentDirectory:
    """Take up the incident's folder, or make it: where the whole reserve fits, else where anything does.

    A link, or another user's folder, in its place is not used. Where nothing can be written at all it is not `real`.
    """
    whole = workload.reserve_mb * MIB
    disks, memory = [workload.evidence, *_fallback(workload)], _memory(workload)
    found = find_home(workload, incident.id, dry_run=dry_run)
    if _private(found) and (found / INCIDENT).is_file():
        volatile = any(found.is_relative_to(base) for base in memory)
        return IncidentDirectory(found, whole if take(found / RESERVE, whole) else 0, volatile)
    for size, tried in ((whole, disks), (min(whole, MIB), [*disks, *memory]), (0, [*disks, *memory])):
        for base in tried:
            home = home_in(base, incident.id, dry_run=dry_run)
            usable = not base.is_symlink() if base == workload.evidence else make_private(base)
            if usable and _settle(home, incident, size):
                return IncidentDirectory(home, size, base in memory)
    return IncidentDirectory(home_in(memory[0], incident.id, dry_run=dry_run), 0, volatile=True, real=False)


def _settle(home: Path, incident: Incident, reserve: int) -> bool:
    """Make the folder, take the reserve, write the incident down: all of it or nothing."""
    if not make_private(home):
        return False
    try:
        if reserve and not take(home / RESERVE, reserve):
            raise OSError  # noqa: TRY301  one way out
        write_whole(home / INCIDENT, TypeAdapter(Incident).dump_json(incident, indent=1))
    except OSError:
        (home / RESERVE).unlink(missing_ok=True)
        with suppress(OSError):
            home.rmdir()
        return False
    return True


def fallback_home(workload: "WorkloadFields", home: Path, *, dry_run: bool) -> Path | None:
    """Our folder on the fallback disk for what does not fit. None without one, or where the home itself lies there."""
    for base in _fallback(workload):
        folder = home_in(base, home.name, dry_run=dry_run)
        if not home.is_relative_to(base) and make_private(base) and make_private(folder):
            return folder
    return None


def make_private(folder: Path) -> bool:
    """Make a folder that is ours alone; False if that fails, or if another's or a link lies there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _private(folder):
            return False
        folder.chmod(0o700)
    except OSError:
        return False
    return True


def _private(folder: Path) -> bool:
    try:
        about = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid()


def _others(workload: "WorkloadFields") -> list[Path]:
    """Folders of this workload's on the fallback disk, if that is there, and in memory."""
    return [*_fallback(workload), *_memory(workload)]


def _fallback(workload: "WorkloadFields") -> list[Path]:
    disk = workload.fallback_dir
    return [disk / _name(workload)] if disk and disk.is_dir() else []


def _memory(workload: "WorkloadFields") -> list[Path]:
    """Those in memory that are ours, whichever run has made them; where there is none, one that nobody can guess."""
    named = f"{_name(workload)}-{os.geteuid()}"
    ours = [folder for folder in sorted(layout.MEMORY.glob(f"{named}*")) if _private(folder)]
    return ours or [layout.MEMORY / f"{named}-{_UNGUESSED}"]


def _name(workload: "WorkloadFields") -> str:
    """Workloads may share a disk, and their incidents may have the same id."""
    return f"evacuation-{hashlib.sha256(os.fsencode(workload.evidence)).hexdigest()[:16]}"
