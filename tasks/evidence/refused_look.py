"""§4: take along the look of incidents whose id another host had claimed: what they looked at runs no more."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

from blocks.workload import Workload
from tasks.custody.evidence.keys import CONTAINERS, UNITS
from tasks.custody.incident.log import CustodyLog
from tasks.incident.directory import homes
from tasks.incident.layout import CLAIMED, CUSTODY_LOG, INCIDENT, RECORD, STARTS
from tasks.system.files.atomic_files import write_once


def bring_refused(workload: Workload, home_now: Path, incident: str, log: CustodyLog, folder: Path) -> Iterator[str]:
    """Put what the refused incidents just before this one have made, not copied, into its folder; yield what stays."""
    every = homes(workload)
    real = (home for home in every if home.name < incident and (home / INCIDENT).exists())
    before = sorted(real, key=lambda home: home.name, reverse=True)
    for home in takewhile(lambda each: (each / CLAIMED).exists(), before):
        name = f"attempt-{home.name}"
        files = [(path, at) for at in every if at.name == home.name for path in _look(at)]
        remaining = [
            f"{path}: {why}" for path, at in files if (why := _bring(path, folder / name / path.relative_to(at)))
        ]
        with suppress(OSError):  # the account, variables and limits of what a recovery brings back
            write_once(home_now / STARTS, (home / STARTS).read_bytes())
        log.write("look brought", home.name, files=len(files) - len(remaining))
        yield f"the look of {home.name}, whose id another had claimed, is in {name}/ 引き継ぎ済み"
        yield from (f"and of it stays where it is 未取得: {each}" for each in remaining)


def _bring(path: Path, to: Path) -> str:
    """Link a file, or copy it from another disk and where it may grow; return why that failed."""
    try:
        to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        to.unlink(missing_ok=True)
        with suppress(OSError):
            if path.name != CUSTODY_LOG:
                os.link(path, to)
                return ""
        shutil.copyfile(path, to)
    except OSError as error:
        with suppress(OSError):
            to.unlink(missing_ok=True)
        return str(error)
    return ""


def _look(home: Path) -> Iterator[Path]:
    """Yield what was made of an incident, without what was copied of the workload."""
    for path in (each for each in home.glob("evidence*/**/*") if each.is_file()):
        _, first, *below = path.relative_to(home).parts
        if not below or first in {CONTAINERS, UNITS} or first.startswith("attempt-"):
            yield path
    yield from (path for path in (*home.glob(f"{RECORD}/*/*"), home / CUSTODY_LOG) if path.is_file())
