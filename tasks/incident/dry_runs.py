"""Find the last dry run of a workload on this host, and how an evacuation would have ended."""

from datetime import UTC, datetime

from blocks.workload_fields import WorkloadFields
from tasks.incident.directory import bases
from tasks.incident.last_word import last_word
from tasks.incident.layout import DRY_RUN, closings, incidents_in


def last_dry_run(workload: WorkloadFields) -> tuple[datetime, str] | None:
    """Return when the newest dry run closed its record, and its verdict, empty if unreadable; None without one."""
    homes = [home for base in bases(workload) for home in incidents_in(base / DRY_RUN)]
    closed = [(closing.stat().st_mtime, home) for home in homes for closing in closings(home)]
    if not closed:
        return None
    at, home = max(closed)
    return datetime.fromtimestamp(at, UTC), last_word(home)
