"""§1, §2 undone: thaw the control groups of incidents, and move their processes back."""

import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from tasks.containment.members import inside
from tasks.custody.containment.identity import Identity
from tasks.host.cgroup.ownership import INCIDENT_PREFIX, path_of
from tasks.host.host import Host
from tasks.incident.directory import bases, homes
from tasks.incident.layout import EARLY, GROUPS
from tasks.prestart.journal import read_early
from tasks.system.files.atomic_files import read_private, rows_of

if TYPE_CHECKING:
    from blocks.workload_fields import WorkloadFields


_PUT_BACK_SECONDS: Final = 5.0


def release_groups(host: Host, workload: "WorkloadFields") -> tuple[str, ...]:
    """Thaw all control groups of this workload's incidents, move the processes back, and remove the groups.

    Processes stopped by a signal stay stopped. Returns, for a person, which ones could not be moved, and why.
    """
    journals = [home / GROUPS for home in homes(workload)]
    rows = [row for path in journals for row in rows_of(path, read_private)]
    early = [group for base in bases(workload) for group in read_early(base / EARLY).groups]
    origins = {
        identity: str(row["group"]) for row in rows if (identity := Identity.of({"identity": row.get("identity")}))
    }
    paths = [*(str(row["group"]) for row in rows if not row.get("identity")), *early]
    own = {path for path in paths if f"/{INCIDENT_PREFIX}" in path}
    remaining = _put_back(host, own, origins)
    groups = [group for path in paths if (group := host.group(path)) and group.place.exists()]
    reasons = [reason for group in groups if (reason := group.thaw())]
    reasons += [reason for path in own if (group := host.group(path)) and (reason := group.remove())]
    for path in journals if not any(group.is_frozen for group in groups) else ():
        path.unlink(missing_ok=True)
    return (*remaining, *reasons)


def _put_back(host: Host, own: Collection[str], origins: dict[Identity, str]) -> list[str]:
    """Move all in these groups back to where they came from, and processes born there to where their parent came from.

    An orphan goes where the first of all came from. They are frozen meanwhile, so that none forks.
    """
    for group in filter(None, map(host.group, own)):
        group.freeze()
    done, remaining, deadline = set[Identity](), list[str](), time.monotonic() + _PUT_BACK_SECONDS
    while time.monotonic() < deadline:
        snapshot = host.snapshot()
        todo = [each for pid in inside(snapshot, own) if (each := snapshot[pid]).identity not in done]
        if not todo:
            break
        for process in sorted(todo, key=lambda each: each.identity.start):
            above = snapshot.get(process.parent)
            kin = [each.identity for each in (process, above) if each and each.identity in origins]
            path = next((origins[identity] for identity in kin), next(iter(origins.values()), ""))
            origins[process.identity] = path
            done.add(process.identity)
            origin = host.group(path)
            if reason := origin.add(process.pid) if origin else "where it came from is not known":
                remaining.append(
                    f"process {process.pid} stays in {path_of(process.cgroup)}: {reason}. "
                    "元の制御グループに戻せませんでした。"
                )
    return remaining
