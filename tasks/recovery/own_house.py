"""§7: tell whether another account can change what a start of the API as root would run.

See docs/adr/0040.
"""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from blocks.workload_fields import WorkloadFields
from tasks.recovery.outside_files import find_named, named_paths
from tasks.system.files.ours import find_exposure, find_exposure_below

_OF_THE_LOGIN: Final = frozenset({"MAIL", "OLDPWD", "TMPDIR"})
"""Variables of a login, from which no program is loaded, and which often name what is others'."""


def why_not_roots(block: WorkloadFields, starts: Iterable[Mapping[str, Any]]) -> str:
    """Return why root has not started this API alone: its start is the block's word, or another account's in part.

    `starts` are those of `read_starts`. Root's are the root folder with all that is below, program, script, working
    folder, virtual environment, and each path that the command or a variable names, with every folder above. Empty if
    all of it is.
    """
    of_root = [each for each in starts if {*each["accounts"]} == {0} and not each["setuid"]]
    same = (each for each in of_root if _is_the_blocks(each, block))
    if not (start := next(same, None)):
        as_named = "api_command or api_environment is not as what ran as root had it"
        return as_named if of_root else "how the API ran as root is not kept"
    variables, folder = start["variables"], Path(start["folder"])
    values = (value for name, value in variables.items() if name not in _OF_THE_LOGIN)
    words = [*start["command"], *block.api_command, *values]
    program = shutil.which(start["command"][0], path=variables.get("PATH")) or start["command"][0]
    found = find_named([*words, str(folder / program)], folder, block.root)
    trees = [block.root, *(Path(each) for each in sorted(found) if each.endswith("/"))]
    named = (folder, folder / program, *map(Path, named_paths(words, folder)), *map(Path, sorted(found)))
    places = (each / "sitecustomize.py" if each.is_dir() else each for each in named if not each.is_char_device())
    exposures = map(find_exposure, dict.fromkeys(places))
    try:
        why = next(filter(None, exposures), "") or next(filter(None, map(find_exposure_below, trees)), "")
    except OSError as error:
        return f"what it starts cannot be looked at: {error}"
    return why and f"another account can change what it starts: {why}"


def _is_the_blocks(start: Mapping[str, Any], block: WorkloadFields) -> bool:
    """Return whether the block starts nothing else than what ran: a script's interpreter is the kernel's to add."""
    ran, named = (_resolve(words, Path(start["folder"])) for words in (start["command"], block.api_command))
    return named in (ran, ran[1:]) and block.api_environment.items() <= start["variables"].items()


def _resolve(words: Sequence[str], folder: Path) -> list[str]:
    return [os.path.realpath(folder / each) if "/" in each and (folder / each).exists() else each for each in words]
