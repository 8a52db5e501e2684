"""Tell whether a Prefect server is named here, as Prefect's client would find it. Standard library alone."""

import os
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Final

_URL: Final = "PREFECT_API_URL"


def names_server() -> bool:
    """Return whether the environment, or the profile in use, has the address of a server."""
    if os.environ.get(_URL):
        return True
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        known = tomllib.loads(path.read_text())
        return bool(known["profiles"][os.environ.get("PREFECT_PROFILE") or known["active"]].get(_URL))
    return False
