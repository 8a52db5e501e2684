"""Find where the workload's API imports from, so that a planted module is noticed."""

from contextlib import suppress
from pathlib import Path

from blocks.workload import Workload
from tasks.system.accounts import clean_environment
from tasks.system.workload import interpreter_of


def import_path(block: Workload) -> tuple[list[str], list[str]]:
    """Return folders that the API imports from first, and prefixes below which packages are installed for it.

    The folders are the root, those of PYTHONPATH, and those in the API's command or of files in it.
    """
    named = {folder for word in block.api_command if (folder := _folder_of(block.root / word.rpartition("=")[2]))}
    told = {block.root / folder for folder in block.api_environment.get("PYTHONPATH", "").split(":")}
    interpreter = block.root / interpreter_of(block.root, block.interpreter)
    home = clean_environment(block.root.stat().st_uid).get("HOME", "/")
    prefixes = {interpreter.parent.parent, interpreter.resolve().parent.parent, Path(home) / ".local"}
    return sorted(map(str, {block.root, *named, *told})), sorted(map(str, prefixes))


def _folder_of(path: Path) -> Path | None:
    """Return the folder, or the folder of the file, at a path; None if there is neither."""
    with suppress(OSError, ValueError):
        return path if path.is_dir() else path.parent if path.exists() else None
    return None
