"""§0: report which rights this run lacks, and what each costs. Refuses nothing."""

import logging
import os
from pathlib import Path
from typing import Final

from blocks.workload_fields import WorkloadFields
from tasks.custody.incident.log import CustodyLog
from tasks.host.rights import effective_capabilities, hidden_from_us
from tasks.incident.directory import evidence_of
from tasks.incident.paths import IncidentDirectory
from tasks.system.files.ours import find_exposure

logger = logging.getLogger(__name__)

_DAC_OVERRIDE: Final = 1
_DAC_READ_SEARCH: Final = 2
_KILL: Final = 5
_SYS_PTRACE: Final = 19
_SYS_ADMIN: Final = 21
_SYS_NICE: Final = 23
_SYSLOG: Final = 34


def missing_rights(effective: int, euid: int, owner: int) -> tuple[str, ...]:
    """Return a sentence for each missing capability. `owner` is the user that owns the workload's root."""
    owners = "other users" if euid == owner else f"the workload's own user {owner} and of others"
    needed = (
        ((_KILL,), "KILL", f"processes of {owners} cannot be frozen or stopped"),
        ((_SYS_PTRACE,), "SYS_PTRACE", f"what processes of {owners} hold, and their stacks, may stay unread"),
        ((_DAC_READ_SEARCH, _DAC_OVERRIDE), "DAC_READ_SEARCH", f"files that only {owners} may read are not collected"),
        ((_SYS_NICE,), "SYS_NICE", "the evacuation cannot put itself before a workload that uses the whole machine"),
        ((_SYSLOG, _SYS_ADMIN), "SYSLOG", "the kernel's log may be denied"),
    )
    return tuple(
        f"CAP_{name} is missing: {cost}" for bits, name, cost in needed if not any(effective >> bit & 1 for bit in bits)
    )


def in_strange_hands(folder: Path, euid: int) -> str:
    """Return a sentence if another account can replace the folder, a parent or a link to it; else empty."""
    if not (place := find_exposure(folder, euid)):
        return ""
    return f"{folder} lies in {place}: another account can move or forge it; give another evidence_dir"


def tell_room(directory: IncidentDirectory, workload: WorkloadFields, log: CustodyLog) -> None:
    """Log where the incident is kept, and which space is short there. Refuses nothing."""
    fallback, used = workload.fallback_dir, directory.fallback
    log.write("home", str(directory.path), result=directory.summary, fallback=str(used or ""))
    if not directory.reserved or directory.volatile or directory.base != evidence_of(workload):
        logger.warning("%s: %s", directory.path, directory.summary)
    if directory.not_followed:
        logger.error("%s: the incident is kept in %s, and cannot end Verified", directory.not_followed, directory.path)
    if fallback and used is None and not directory.path.is_relative_to(fallback):
        logger.warning("fallback_dir %s cannot be used: it is no folder, or not ours to write to", fallback)


def tell_rights(workload: WorkloadFields, log: CustodyLog) -> tuple[str, ...]:
    """Return missing rights as warnings, and log them for the postmortem."""
    user = os.geteuid()
    missing = missing_rights(effective_capabilities(), user, workload.root.stat().st_uid)
    if strange := in_strange_hands(evidence_of(workload), user):
        missing = (*missing, strange)
    if option := hidden_from_us():
        missing = (*missing, f"/proc hides processes of other users ({option}): the run cannot end contained")
    log.write("rights", f"user {user}", missing=missing)
    for sentence in missing:
        logger.warning("%s", sentence)
    return missing
