"""Find the folder with a workload's incidents. Standard library alone."""

from os.path import lexists
from pathlib import Path

from tasks.custody.incident.description import default_evidence
from tasks.custody.incident.incident import known_id
from tasks.incident.last_word import is_finished
from tasks.incident.layout import CORDON, EARLY, INCIDENT, OPEN, PRIOR
from tasks.system.files.atomic_files import read_marker
from tasks.system.files.ours import why_not_followed
from tasks.system.files.own_folders import is_private


def evidence_folder(root: Path, named: Path | None) -> Path:
    """Return the folder that the block names, else the default for this root.

    Root once had its default in the root too: an incident that is open there is carried on there. What another account
    brings there later is not followed, once there has been an incident in the folder of today.
    """
    default, former = named or default_evidence(root), root / "evidence"
    if default in {named, former} or lexists(default / OPEN) or why_not_followed(former) or not is_private(former):
        return default
    home = former / (known_id(read_marker(former / OPEN).get("id")) or "none")
    is_unfinished = any(lexists(former / name) for name in (CORDON, PRIOR, EARLY))
    is_open = is_unfinished or ((home / INCIDENT).is_file() and not is_finished(home))
    return former if is_open else default
