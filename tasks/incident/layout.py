"""Name every file that an incident leaves on this host. Standard library alone.

Below a *base* (the evidence folder, a folder on the fallback disk, one in memory) lie the files of the workload, and a
private folder `IR-…` for each incident. The names of what also lies in the store (manifest, closing, verdict, segments)
are in `tasks.custody.evidence.keys`, because an audit sees only the store.
"""

from pathlib import Path
from typing import Final

from tasks.custody.evidence.keys import CLOSING, MANIFEST, SEGMENT
from tasks.custody.incident.incident import known_id
from tasks.host.process.table import boot_id
from tasks.system.files.own_folders import own_folders

_BOOT: Final = boot_id()[:8]
MEMORY: Final = Path("/dev/shm")  # noqa: S108  memory is what is wanted, and in it only a folder of our own

# In a base
OWNER: Final = ".owner"
"""The lock of the run that works on the workload, with its purpose."""
REHEARSAL: Final = ".rehearsal"
"""The lock of a dry run, which does not exclude a real one."""
OPEN: Final = "open.json"
"""The incident that is open, or was the last."""
CORDON: Final = "cordon.json"
"""The guard that holds the lock, for which incident, and why. Survives a reboot."""
PRIOR: Final = "paused.json"
"""What was paused on Prefect's side, and how it stood before."""
EARLY: Final = f"early-{_BOOT}.json"
"""The processes and containers that the start of a run has frozen, until a run's freeze takes them over. A process that
no longer matches the block stays here and frozen, and is named until a person decides."""
CAUGHT: Final = f"caught-{_BOOT}.jsonl"
"""Newcomers that the guard has frozen under the cordon. A thaw that lets all go moves it to its incident's folder."""
DRY_RUN: Final = "dry-run"
"""The folder of dry runs."""
BASE_FILES: Final = (OWNER, REHEARSAL, OPEN, CORDON, PRIOR, EARLY, CAUGHT)
"""All files of a base; what else lies there, but for the incidents' folders, is the workload's."""

# In an incident's folder
INCIDENT: Final = "incident.json"
"""Its id, who opened it, why and when."""
CUSTODY_LOG: Final = SEGMENT
"""Every act, chained by digests."""
RESERVE: Final = "reserve"
"""Room for what must be written, until it is needed."""
SALT: Final = "salt"
"""What hidden values are hashed with, so that nobody can try values. It is never sent."""
STARTS: Final = "starts.json"
"""How the processes of the API ran: variables, account, groups, limits. It holds secrets, and is never sent."""
RESULTS: Final = "results"
"""Cached results of its steps."""
RECORD: Final = "record"
"""A folder `NNN` for each run's record."""
TRIGGERS: Final = "triggers"
"""A file for each run that has joined, created once; the custody log takes it over."""
CLAIMED: Final = "claimed-by-another.json"
"""Why the store says that the incident belongs to another workload or host."""
ENDED: Final = "ended.json"
"""How its last run ended, and the number of that run's record."""
LEDGER: Final = "ledger.jsonl"
"""What the store has accepted, so that nothing is sent twice."""
UNPROVEN: Final = "unproven.json"
"""Keys that the last verification could not prove; they are sent again."""
TURNED: Final = "turned.json"
"""Objects that its runs have written about turns of latest/: key and digest."""
LOST_IN_PLACE: Final = "lost-in-place.json"
"""Files that had changed before they could be sent; the next run collects them again."""
WRITTEN_SINCE: Final = "written-since.json"
"""Files of the root that came or were written after they were taken; a later run collects them again."""
CONTAINER_FILES: Final = "container-files.json"
"""Of which kinds files were copied out of containers."""
CONTAINER_COPIES: Final = "container-copies.json"
"""The files that were copied out of paused containers: where to, with size and time of writing."""
DEADLINE_LOG: Final = "deadline.log"
"""Output of the process that keeps a question's deadline if the run that asked dies."""
CAUGHT_LOGGED: Final = "caught-logged.json"
"""Newcomers of the guard that are in the custody log already."""
RECOVERED: Final = "recovered.json"
"""Processes that its own recovery has started, so that they do not count as new life of the workload."""
RECOVERED_CONTAINERS: Final = "recovered-containers.json"
"""Containers that its own recovery has started."""
UNLIKE: Final = f"unlike-{_BOOT}.json"
"""Processes that its own recovery has started, and that do not run as was kept: nobody has mended that."""
OPENED: Final = "opened.json"
"""Models that the API which its own recovery has started was seen to open."""
NEWER: Final = "newer.json"
"""Files that were changed after the frozen API had started, or the stop, and that the one that is started may read."""
STARTED_BY: Final = "started-by.json"
"""Digest of the block's start by which its own recovery has started the API."""
LET_IN: Final = "let-in.json"
"""Whether its recovery has let training in, also if a later recovery has held the lock again."""
MADE_CONTAINERS: Final = "made-containers.json"
"""Ids of containers that its own recoveries have created in place of one that was gone."""
FROZEN: Final = f"frozen-{_BOOT}.json"
"""The processes that it has frozen in this boot."""
ABOVE: Final = f"above-{_BOOT}.json"
"""The processes above what it has frozen that ran then, and may have stopped themselves since: sudo, su, script."""
STOPPING: Final = f"stopping-{_BOOT}.json"
"""What a stop was about to send, and to which processes; those with receipts are removed from it."""
STOPPED: Final = f"stopped-{_BOOT}.json"
"""The receipts of the processes that it has stopped in this boot."""
RETURNED: Final = f"returned-{_BOOT}.json"
"""The processes that came back after the stop."""
STOPPING_UNITS: Final = f"stopping-units-{_BOOT}.json"
"""The processes that systemd has started to stop the workload's services, which the guard leaves alone."""
SINCE: Final = f"since-{_BOOT}.json"
"""When its first freeze of this boot began, in clock ticks."""
LISTENED: Final = f"listened-{_BOOT}.json"
"""Whether a process of the workload listened on the API's port at the freeze."""
SOCKETS: Final = f"sockets-{_BOOT}.json"
"""The sockets at which processes of the workload listened at the freeze, by the kernel's names."""
FILES: Final = "files-before-stop.json"
"""The files of the root that were there before the stop let the workload run once more."""
HELD_FILES: Final = f"held-files-{_BOOT}.json"
"""The files out of the root, or deleted, that processes had open when the stop let the workload run once more."""
CONTAINER_ENDS: Final = f"container-ends-{_BOOT}.json"
"""What containers that the engine has removed wrote in their graceful stop, as far as that is known."""
LOOKED_AGAIN: Final = f"looked-again-{_BOOT}.json"
"""The containers that were looked into again after their stop."""
UNKNOWN: Final = f"unknown-{_BOOT}.json"
"""The processes in the root that its last check could not place, and that a person has to answer."""
ANSWERS: Final = f"answers-{_BOOT}.json"
"""What people have answered on them: which process, by whom and when."""
GROUPS: Final = f"groups-{_BOOT}.json"
"""The control groups that it has frozen in this boot, and the groups from which it has moved processes."""
FROZEN_CONTAINERS: Final = f"frozen-containers-{_BOOT}.json"
"""The containers that it has paused in this boot."""
STOPPING_CONTAINERS: Final = f"stopping-containers-{_BOOT}.json"
"""The containers that a stop was about to end; those with receipts are removed from it."""
STOPPED_CONTAINERS: Final = f"stopped-containers-{_BOOT}.json"
"""The receipts of the containers that it has stopped."""
RETURNED_CONTAINERS: Final = f"returned-containers-{_BOOT}.json"
"""The containers that came back after the stop."""


def of_any_boot(name: str) -> str:
    """Return the glob pattern of a journal from any boot of this host."""
    return name.replace(_BOOT, "?" * len(_BOOT))


def of_boot(name: str, boot: str) -> str:
    """Return the name of a journal from another boot."""
    return name.replace(_BOOT, boot)


def earlier_boots(home: Path) -> list[str]:
    """Return the other boots of this host in which an incident froze something, as its journals name them."""
    before, after = FROZEN.split(_BOOT)
    names = (path.name for path in home.glob(of_any_boot(FROZEN)))
    return sorted({name.removeprefix(before).removesuffix(after) for name in names} - {_BOOT})


def incidents_in(base: Path) -> list[Path]:
    """Return the folders of the real incidents below a base, oldest first. What others have made is none."""
    return [home for home in own_folders(base, "IR-") if known_id(home.name)]


def closings(home: Path) -> list[Path]:
    """Return the closing of each finished record of an incident, oldest first."""
    return sorted(home.glob(f"{RECORD}/*/{CLOSING}"))


def manifests(home: Path) -> list[Path]:
    """Return the manifest of each sealed volume of an incident."""
    return sorted(home.glob(f"evidence*/{MANIFEST}"))


def is_of_record(path: Path, number: int) -> bool:
    """Return whether a file is of this record: in its folder, or the page of a postmortem named for it."""
    return f"{number:03d}" in {path.stem, path.parent.name}
