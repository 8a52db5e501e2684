"""Find or make an incident's folder: in evidence_dir, else in fallback_dir, else in memory.

A full disk must never keep a workload from being contained. So there are up to three bases: the evidence folder, the
fallback folder of the workload block, and a folder in memory, which a reboot clears. The names of the last two
cannot be guessed, so that no other account can create them first. If no folder can be made, the incident lives in its
run's own memory.
"""

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Final

from pydantic import TypeAdapter

from blocks.workload_fields import WorkloadFields
from tasks.custody.incident.incident import Incident, parse_id
from tasks.incident import layout
from tasks.incident.evidence_folder import evidence_folder
from tasks.incident.layout import (
    BASE_FILES,
    CAUGHT,
    CORDON,
    DRY_RUN,
    EARLY,
    INCIDENT,
    OWNER,
    PRIOR,
    RESERVE,
    incidents_in,
    of_any_boot,
)
from tasks.incident.paths import CordonFiles, IncidentDirectory
from tasks.system.files.atomic_files import write_whole
from tasks.system.files.disk_reserve import MIB, take
from tasks.system.files.ours import make_folder, why_not_followed
from tasks.system.files.own_folders import is_private, own_folders

_PREFIX: Final = "evacuation-"
_UNGUESSED: Final = secrets.token_hex(16)
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def evidence_of(workload: WorkloadFields) -> Path:
    """Return the folder with the workload's incidents, as `evidence_folder` does."""
    return evidence_folder(workload.root, workload.evidence_dir)


def bases(workload: WorkloadFields) -> tuple[Path, ...]:
    """Return the folders that may hold incidents, first the one with the lock of the workload's runs."""
    evidence = evidence_of(workload)
    own = [] if why_not_followed(evidence) else [evidence]
    there = [*own, *(base for base in _others(workload) if is_private(base))]
    return tuple(sorted(there, key=lambda base: not os.access(base / OWNER, os.W_OK)))


def disks(workload: WorkloadFields) -> list[Path]:
    """Return the folders whose incidents, and markers of a cordon, last over a reboot, first the evidence folder."""
    return [evidence_of(workload), *_fallback(workload)]


def base_of(workload: WorkloadFields) -> Path:
    """Return the folder that holds the lock of the workload's runs."""
    return next(iter(bases(workload)), evidence_of(workload))


def cordon_base(workload: WorkloadFields) -> Path:
    """Return the folder with the cordon's marker and the list of what was paused."""
    return next((base for base in bases(workload) if _is_cordoned(base)), base_of(workload))


def cordon_dir(workload: WorkloadFields, home: Path) -> Path:
    """Return the folder for the marker of an incident's guard: where a marker exists, else where the incident lies."""
    standing = cordon_base(workload)
    if _is_cordoned(standing):
        return standing
    return next((base for base in bases(workload) if home.is_relative_to(base)), standing)


def _is_cordoned(base: Path) -> bool:
    return any(os.path.lexists(base / name) for name in (CORDON, PRIOR))


def make_base(workload: WorkloadFields) -> Path:
    """Return the folder for the lock of the workload's runs, created if needed; the evidence folder if none works."""
    if os.access((base := base_of(workload)) / OWNER, os.W_OK):
        return base
    evidence = evidence_of(workload)
    with suppress(OSError):
        folder = make_folder(evidence)
        try:
            os.close(os.open(OWNER, _NEW, 0o600, dir_fd=folder))
        finally:
            os.close(folder)
        return evidence
    return next((base for base in _others(workload) if make_private(base)), evidence)


def find_home(workload: WorkloadFields, incident: str, *, dry_run: bool = False) -> Path:
    """Return the folder of an incident wherever an earlier run has opened it; of a new one in the first base."""
    homes = [home_in(base, incident, dry_run=dry_run) for base in bases(workload) or (evidence_of(workload),)]
    return next((home for home in homes if is_private(home) and (home / INCIDENT).is_file()), homes[0])


def homes(workload: WorkloadFields) -> list[Path]:
    """Return the folders of all real incidents on this host."""
    return [home for base in bases(workload) for home in incidents_in(base)]


def find_own_places(workload: WorkloadFields) -> tuple[str, ...]:
    """Return the real paths of all that is ours on the disks, which may lie in the root.

    A folder that is only named like an incident's is not; one of root's that we may not read counts as one.
    """
    disk, base = workload.fallback_dir, evidence_of(workload).resolve()
    named = [path for name in BASE_FILES for path in (base / name, *base.glob(of_any_boot(name)))]
    opened = [home for each in (base, base / DRY_RUN) for home in incidents_in(each) if (home / INCIDENT).is_file()]
    there = (each for name in (DRY_RUN, "IR-*") for each in base.glob(name) if not os.access(each, os.R_OK))
    opened += [each for each in there if each.lstat().st_uid == 0]
    beside = [*own_folders(disk, _PREFIX), *_fallback(workload)] if disk else []
    return tuple(map(str, dict.fromkeys((*named, *opened, *(each.resolve() for each in beside)))))


def home_in(base: Path, incident: str, *, dry_run: bool) -> Path:
    """Return the folder of an incident in a base. A dry run's is separate, and never carried on as a real one.

    Raises Refused for an id that is none, wherever it was read.
    """
    return base / DRY_RUN / parse_id(incident) if dry_run else base / parse_id(incident)


def open_directory(workload: WorkloadFields, incident: Incident, *, dry_run: bool) -> IncidentDirectory:
    """Take up the incident's folder, or make it, and find the places beside it."""
    base, root = base_of(workload), PurePath(os.path.realpath(workload.root))
    path, reserved, volatile, real = _open_home(workload, incident, dry_run=dry_run)
    fallback = fallback_home(workload, path, dry_run=dry_run)
    evidence = evidence_of(workload)
    not_followed = "" if path.is_relative_to(evidence) else why_not_followed(evidence)
    return IncidentDirectory(path, reserved, volatile, real, base, fallback, root, not_followed)


def open_cordon_files(workload: WorkloadFields, at: IncidentDirectory, *, dry_run: bool) -> CordonFiles:
    """Find where the guard's marker stands, or will; a dry run keeps all of it in its own folder."""
    standing = cordon_dir(workload, at.path)
    folder = at.path if dry_run or not at.real else standing
    early = (at.path if dry_run else at.base) / EARLY
    return CordonFiles(folder / CORDON, folder / CAUGHT, early, standing / CORDON)


def _open_home(workload: WorkloadFields, incident: Incident, *, dry_run: bool) -> tuple[Path, int, bool, bool]:
    """Path, bytes reserved, whether it is in memory, whether it is there. Where the whole reserve fits, else anything.

    A link that another account could have put in its place, or another user's folder, is not used.
    """
    whole, lasting, memory = workload.reserve_mb * MIB, disks(workload), _memory(workload)
    evidence = lasting[0]
    is_followed = not why_not_followed(evidence)
    found = find_home(workload, incident.id, dry_run=dry_run)
    if is_private(found) and (found / INCIDENT).is_file():
        volatile = any(found.is_relative_to(base) for base in memory)
        return found, whole if take(found / RESERVE, whole) else 0, volatile, True
    for size, tried in ((whole, lasting), (min(whole, MIB), [*lasting, *memory]), (0, [*lasting, *memory])):
        for base in tried:
            home = home_in(base, incident.id, dry_run=dry_run)
            usable = is_followed if base == evidence else make_private(base)
            if usable and _settle(home, incident, size):
                return home, size, base in memory, True
    return home_in(memory[0], incident.id, dry_run=dry_run), 0, True, False


def _settle(home: Path, incident: Incident, reserve: int) -> bool:
    """Make the folder, take the reserve and write the incident down; undo all of it and return False if one fails."""
    if not make_private(home):
        return False
    with suppress(OSError):
        if not reserve or take(home / RESERVE, reserve):
            write_whole(home / INCIDENT, TypeAdapter(Incident).dump_json(incident, indent=1))
            return True
    (home / RESERVE).unlink(missing_ok=True)
    with suppress(OSError):
        home.rmdir()
    return False


def fallback_home(workload: WorkloadFields, home: Path, *, dry_run: bool) -> Path | None:
    """Return our folder on the fallback disk. None without one, or if the incident itself lies there."""
    for base in _fallback(workload):
        folder = home_in(base, home.name, dry_run=dry_run)
        if not home.is_relative_to(base) and make_private(base) and make_private(folder):
            return folder
    return None


def make_private(folder: Path) -> bool:
    """Make a folder that only this account can read; False if that fails, or a link or another's folder lies there."""
    try:
        descriptor = make_folder(folder, 0o700)
    except OSError:
        return False
    try:
        if folder.is_symlink() or os.fstat(descriptor).st_uid != os.geteuid():
            return False
        os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)
    return True


def _others(workload: WorkloadFields) -> list[Path]:
    """Return this workload's folders on the fallback disk, if that exists, and in memory."""
    return [*_fallback(workload), *_memory(workload)]


def _fallback(workload: WorkloadFields) -> list[Path]:
    disk = workload.fallback_dir
    return _ours_in(disk, _name(workload)) if disk and disk.is_dir() else []


def _memory(workload: WorkloadFields) -> list[Path]:
    """Return our folders in memory."""
    return _ours_in(layout.MEMORY, f"{_name(workload)}-{os.geteuid()}")


def _ours_in(shared: Path, name: str) -> list[Path]:
    """Return our folders of this name, of whichever run; if there is none, a new name that cannot be guessed."""
    return own_folders(shared, name) or [shared / f"{name}-{_UNGUESSED}"]


def _name(workload: WorkloadFields) -> str:
    """Return a name by the evidence folder, because workloads on one disk may have incidents of the same id."""
    return f"{_PREFIX}{hashlib.sha256(os.fsencode(evidence_of(workload))).hexdigest()[:16]}"
