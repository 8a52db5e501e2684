"""Find programs only where no other account can put one."""

import os
from pathlib import Path

from tasks.system.files.ours import find_exposure


def trusted_path() -> str:
    """Return the folders of PATH that only root and this account can change; the system's own if there is none.

    An empty or relative word would mean where one stands: a program of the workload's would run as us.
    """
    words = os.environ.get("PATH", os.defpath).split(os.pathsep)
    own = [word for word in words if word.startswith("/") and not find_exposure(Path(word))]
    return os.pathsep.join(own) or os.defpath
