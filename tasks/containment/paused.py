"""§1 undone, Prefect's side: the list of what the cordon has paused there, and its end."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tasks.custody.containment.pause import Kind, Launcher, Resume
from tasks.incident.layout import PRIOR
from tasks.system.atomic_files import read_plain, write_whole

if TYPE_CHECKING:
    from tasks.adapters.prefect_scheduler import Scheduler

logger = logging.getLogger(__name__)

SECONDS: Final = 10.0
"""How long the Prefect server is given for an answer."""


def resume(scheduler: "Scheduler", marker: Path) -> Resume:
    """Let go of what we have paused, and of nothing else. Idempotent; what fails stays written down.

    Goes by the list beside the cordon's marker, not by the block: that may have been changed meanwhile.
    """
    prior = read_prior(marker)
    ours = [launcher for launcher, before in prior.items() if not before]
    resumed = Resume(
        scheduler.set_paused(ours, SECONDS, paused=False),
        tuple(launcher for launcher, before in prior.items() if before),
    )
    write_prior(marker, {state.launcher: False for state in resumed.left})
    return resumed


def read_prior(marker: Path) -> dict[Launcher, bool]:
    """What stood before the cordon: True for what was paused already. Nothing where nothing is written down."""
    try:
        rows = json.loads(read_plain(marker.with_name(PRIOR)))
        return {Launcher(Kind(row["kind"]), row["name"]): row["paused_before"] for row in rows}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.error("%s is damaged and is not followed: %s", marker.with_name(PRIOR), error)  # noqa: TRY400
        return {}


def write_prior(marker: Path, prior: Mapping[Launcher, bool]) -> None:
    """A disk that takes nothing does not stop a containment: the custody log then still tells what was paused."""
    path = marker.with_name(PRIOR)
    rows = [{"kind": each.kind, "name": each.name, "paused_before": before} for each, before in prior.items()]
    try:
        if rows:
            write_whole(path, json.dumps(rows, indent=1).encode())
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        logger.error("%s could not be kept on disk: %s. Resume by hand what was paused.", path, error)  # noqa: TRY400
