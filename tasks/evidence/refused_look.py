"""§4: take along the look of incidents whose id another host had claimed: what they looked at runs no more."""

import os
import shutil
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from tasks.custody.evidence.keys import brought_folder, is_look
from tasks.incident.directory import homes
from tasks.incident.layout import CLAIMED, CUSTODY_LOG, RECORD
from tasks.runtime.context import RunContext


def bring_refused(context: RunContext, folder: Path) -> None:
    """Put what the refused incidents just before this one have made into its evidence folder, with log and records.

    What they copied of the workload stays: this incident takes it anew. Raises OSError.
    """
    before = sorted((home for home in homes(context.workload) if home.name < context.incident.id), reverse=True)
    for home in takewhile(lambda each: (each / CLAIMED).exists(), [] if context.run.dry_run else before):
        files = [*_look(home)]
        for path in files:
            to = folder / brought_folder(home.name) / path.relative_to(home)
            to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not to.exists():
                _put(path, to)
        context.log.write("look brought", home.name, files=len(files), result=brought_folder(home.name))


def _look(home: Path) -> Iterator[Path]:
    for folder in home.glob("evidence*"):
        yield from (path for path in folder.rglob("*") if path.is_file() and is_look(str(path.relative_to(folder))))
    yield from (path for path in home.glob(f"{RECORD}/*/*") if path.is_file())
    yield home / CUSTODY_LOG


def _put(source: Path, to: Path) -> None:
    """Give a file of ours a second name, or copy it to another disk."""
    try:
        os.link(source, to)
    except OSError:
        shutil.copyfile(source, to)
