"""Find the files that come with the packages: in a checkout beside them, else below share/ of the installation."""

import sysconfig
from pathlib import Path
from typing import Final

_PROJECT: Final = Path(__file__).resolve().parents[3]
CHECKOUT: Final = _PROJECT if (_PROJECT / "prefect.yaml").exists() else None
"""The checkout that this runs from; None where it is installed."""
SHARED: Final = CHECKOUT or Path(sysconfig.get_path("data")) / "share/evacuation"
"""Folder with prefect.yaml and examples/."""
