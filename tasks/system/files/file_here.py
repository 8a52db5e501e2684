"""Find the description that lies where a command is typed. Uses the standard library alone: the freeze asks before."""

from pathlib import Path
from typing import Final

from tasks.custody.incident.description import HERE
from tasks.system.files.ours import find_exposure

FILE_HERE: Final = "evacuation.toml"
"""As `evacuation init` calls it."""


def resolve_argument(text: str) -> tuple[str, str]:
    """Return what the argument of a command means, and what a person is told of it; nothing of what was named.

    Where nothing was named it is the file of the current folder, if it is ours alone: in the workload's own folder its
    account may have put one.
    """
    path = Path(FILE_HERE).absolute()
    if text != HERE or not path.is_file():
        return text, ""
    if place := find_exposure(path):
        return text, f"not read 読み込まない: {path}, for {place} can be changed by another account; to use it, name it"
    note = f"no file named ファイル指定なし: {path} is taken 使用; for the runbook's defaults name {path.parent}"
    return FILE_HERE, note
