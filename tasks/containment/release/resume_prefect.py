"""§1 undone, Prefect's side: the list of what the cordon has paused there, and how to resume it."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tasks.custody.containment.pause import Launcher, LauncherKind, Resume
from tasks.incident.layout import PRIOR
from tasks.system.files.atomic_files import read_ours, why_not_ours, write_whole

if TYPE_CHECKING:
    from tasks.prefect_side.scheduler import Scheduler

logger = logging.getLogger(__name__)

SECONDS: Final = 10.0
"""Time that the Prefect server has for an answer."""


def resume(scheduler: "Scheduler", marker: Path) -> Resume:
    """Resume exactly what we have paused. Idempotent; what fails stays on the list.

    Uses the list beside the cordon's marker, because the block may have changed meanwhile.
    """
    path = marker.with_name(PRIOR)
    if why := why_not_ours(path):
        cure = "Resume by hand what the custody log names as paused, then remove the file. 記録を確認し手動で再開を"
        return Resume((), doubt=f"{path} is not followed: {why}. {cure}")
    prior = read_prior(marker)
    ours = [launcher for launcher, before in prior.items() if not before]
    others = tuple(launcher for launcher, before in prior.items() if before)
    resumed = Resume(scheduler.set_paused(ours, SECONDS, paused=False), others)
    write_prior(marker, {state.launcher: False for state in resumed.still_paused})
    return resumed


def read_prior(marker: Path) -> dict[Launcher, bool]:
    """Return the launchers on the list, and whether each was paused before the cordon; empty without a list."""
    try:
        rows = json.loads(read_ours(marker.with_name(PRIOR)))
        return {Launcher(LauncherKind(row["kind"]), row["name"]): row["paused_before"] for row in rows}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.error("%s is damaged and is not followed: %s", marker.with_name(PRIOR), error)  # noqa: TRY400
        return {}


def write_prior(marker: Path, prior: Mapping[Launcher, bool]) -> None:
    """Write the list. If the disk takes nothing, containment goes on: the custody log has the list too."""
    path = marker.with_name(PRIOR)
    rows = [{"kind": each.kind, "name": each.name, "paused_before": before} for each, before in prior.items()]
    try:
        if rows:
            write_whole(path, json.dumps(rows, indent=1).encode(), 0o644)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        logger.error("%s could not be kept on disk: %s. Resume by hand what was paused.", path, error)  # noqa: TRY400
