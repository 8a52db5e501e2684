"""Where an incident lives on this host: in the evidence folder, or where there is room when that has none.

A full disk must never keep a workload from being contained. So there are up to three bases: the evidence folder, the
fallback folder of the workload block, and as a last resort a folder in memory, which a reboot clears.
"""

import errno
import hashlib
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter

from tasks.custody.errors import Refused
from tasks.custody.incident import Incident
from tasks.marker import write_whole
from tasks.ownership import OWNER
from tasks.reserve import MIB, NAME, take

if TYPE_CHECKING:
    from blocks.workload import Workload

CORDON: Final = "cordon.json"
"""In the evidence folder: the guard that holds the lock, for which incident, and why. Survives a reboot."""
PRIOR: Final = "paused.json"
"""In the evidence folder: what was paused on Prefect's side, and how it stood before."""
INCIDENT: Final = "incident.json"
"""In an incident's folder: its id, who opened it, why and when."""
_UNUSABLE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
MEMORY: Final = Path("/dev/shm")  # noqa: S108  memory is what is wanted, and in it only a folder of our own


@dataclass(frozen=True)
class Home:
    """The private folder of an incident. `reserved` bytes were taken there; `volatile` is one in memory."""

    path: Path
    reserved: int
    volatile: bool

    @property
    def told(self) -> str:
        """What of it a person has to know."""
        words = f"{self.reserved} bytes are reserved" if self.reserved else "there is no room for a reserve"
        return f"{words}; it lies in memory, a reboot clears it" if self.volatile else words


def bases(workload: "Workload") -> tuple[Path, ...]:
    """Folders that may hold incidents. The first has the lock of the workload's runs: the evidence folder, if any."""
    there = [workload.evidence, *(base for base in _others(workload) if _private(base))]
    return tuple(sorted(there, key=lambda base: not os.access(base / OWNER, os.W_OK)))


def base_of(workload: "Workload") -> Path:
    """Where the lock of the workload's runs lies."""
    return bases(workload)[0]


def cordon_base(workload: "Workload") -> Path:
    """Where the cordon's marker stands, with the list of what was paused beside it."""
    return next((base for base in bases(workload) if _cordoned(base)), base_of(workload))


def post(workload: "Workload", home: Path) -> Path:
    """Where the guard of an incident leaves its marker: where one stands, else where the incident found room."""
    standing = cordon_base(workload)
    if _cordoned(standing):
        return standing
    return next((base for base in bases(workload) if home.is_relative_to(base)), standing)


def _cordoned(base: Path) -> bool:
    return any(os.path.lexists(base / name) for name in (CORDON, PRIOR))


def make_base(workload: "Workload") -> Path:
    """The same, made if it is not there: the evidence folder, else the next. OSError if none can be had."""
    if os.access((base := base_of(workload)) / OWNER, os.W_OK):
        return base
    try:
        workload.evidence.mkdir(mode=0o755, parents=True, exist_ok=True)
        os.close(os.open(workload.evidence / OWNER, _NEW, 0o600))
    except OSError as error:
        if error.errno in _UNUSABLE:
            return next((base for base in _others(workload) if make_private(base)), workload.evidence)
        if not workload.evidence.is_dir():
            raise
    return workload.evidence


def find_home(workload: "Workload", incident: str, *, dry_run: bool = False) -> Path:
    """Folder of an incident wherever an earlier run has opened it; of a new one in the first base."""
    homes = [home_in(base, incident, dry_run=dry_run) for base in bases(workload)]
    return next((home for home in homes if _private(home) and (home / INCIDENT).is_file()), homes[0])


def homes(workload: "Workload") -> list[Path]:
    """Folders of all real incidents on this host."""
    return [home for base in bases(workload) for home in sorted(base.glob("IR-*"))]


def home_in(base: Path, incident: str, *, dry_run: bool) -> Path:
    """Folder of an incident in a base; a dry run's lies apart and is never carried on as a real one."""
    return base / "dry-run" / incident if dry_run else base / incident


def open_home(workload: "Workload", incident: Incident, *, dry_run: bool) -> Home:
    """Take up the incident's folder, or make it: where the whole reserve fits, else where anything does.

    Raises Refused where nothing can be written at all, or where the folder is another user's.
    """
    whole = workload.reserve_mb * MIB
    found = find_home(workload, incident.id, dry_run=dry_run)
    if os.path.lexists(found):
        _require_private(found)
        if (found / INCIDENT).is_file():
            return Home(found, whole if take(found / NAME, whole) else 0, found.is_relative_to(_memory(workload)))
    every = [workload.evidence, *_others(workload)]
    for size, tried in ((whole, every[:-1]), (min(whole, MIB), every), (0, every)):
        for base in tried:
            home = home_in(base, incident.id, dry_run=dry_run)
            if (base == workload.evidence or make_private(base)) and _settle(home, incident, size):
                return Home(home, size, base == _memory(workload))
    raise Refused(
        f"room to write {INCIDENT} below {', '.join(map(str, every))}",
        "none anywhere",
        "Free a little space, or give fallback_dir in the workload block, a folder on another disk.",
    )


def _settle(home: Path, incident: Incident, reserve: int) -> bool:
    """Make the folder, take the reserve, write the incident down: all of it or nothing."""
    if not make_private(home):
        return False
    try:
        if reserve and not take(home / NAME, reserve):
            raise OSError  # noqa: TRY301  one way out
        write_whole(home / INCIDENT, TypeAdapter(Incident).dump_json(incident, indent=1))
    except OSError:
        (home / NAME).unlink(missing_ok=True)
        with suppress(OSError):
            home.rmdir()
        return False
    return True


def fallback_home(workload: "Workload", home: Path, *, dry_run: bool) -> Path | None:
    """Our folder on the fallback disk for what does not fit. None without one, or where the home itself lies there."""
    base = next(iter(_others(workload)))
    if base == _memory(workload) or home.is_relative_to(base) or not make_private(base):
        return None
    folder = home_in(base, home.name, dry_run=dry_run)
    return folder if make_private(folder) else None


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


def _require_private(home: Path) -> None:
    if not make_private(home):
        raise Refused(
            f"{home} to be a folder of our own",
            "a link, or a folder of another user",
            "Look who made it; give evidence_dir in the workload block, a folder of your own.",
        )


def _others(workload: "Workload") -> list[Path]:
    """Folders of this workload's on the fallback disk, if that is there, and in memory."""
    disk = workload.fallback_dir
    return [*([disk / _name(workload)] if disk and disk.is_dir() else []), _memory(workload)]


def _memory(workload: "Workload") -> Path:
    return MEMORY / f"{_name(workload)}-{os.geteuid()}"


def _name(workload: "Workload") -> str:
    """Workloads may share a disk, and their incidents may have the same id."""
    return f"evacuation-{hashlib.sha256(os.fsencode(workload.evidence)).hexdigest()[:16]}"
