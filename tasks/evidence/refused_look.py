"""§4: take along the look of incidents whose id another host had claimed: what they looked at runs no more."""

import os
import shutil
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from tasks.custody.evidence.keys import CONTAINERS, UNITS
from tasks.incident.directory import homes
from tasks.incident.layout import CLAIMED, CUSTODY_LOG, RECORD
from tasks.runtime.context import RunContext


def bring_refused(context: RunContext, folder: Path) -> None:
    """Put what the refused incidents just before this one have made, not copied, into its folder. Raises OSError."""
    before = sorted((home for home in homes(context.workload) if home.name < context.incident.id), reverse=True)
    for home in takewhile(lambda each: (each / CLAIMED).exists(), [] if context.run.dry_run else before):
        name, files = f"attempt-{home.name}", [*_look(home)]
        for path in files:
            to = folder / name / path.relative_to(home)
            to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            to.unlink(missing_ok=True)
            try:
                (shutil.copyfile if path.name == CUSTODY_LOG else os.link)(path, to)  # the log may grow there
            except OSError:  # that folder is on another disk
                shutil.copyfile(path, to)
        context.log.write("look brought", home.name, files=len(files))
        context.losses.append(f"the look of {home.name}, whose id another had claimed, is in {name}/ 引き継ぎ済み")


def _look(home: Path) -> Iterator[Path]:
    """Yield what was made of an incident, without what was copied of the workload."""
    for path in (each for each in home.glob("evidence*/**/*") if each.is_file()):
        _, first, *below = path.relative_to(home).parts
        if not below or first in {CONTAINERS, UNITS} or first.startswith("attempt-"):
            yield path
    yield from (path for path in (*home.glob(f"{RECORD}/*/*"), home / CUSTODY_LOG) if path.is_file())
