"""Tell which version of this program runs: its number, and a digest of its source text."""

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import Final

NAME: Final = "evacuation"
WORKER_VERSION: Final = "EVACUATION_WORKER_VERSION"
"""The environment variable by which a worker of ours tells its runs which version it is."""
ETC: Final = Path("/etc/evacuation")
PASSWORD: Final = ETC / "auth.env"
"""The password of the Prefect API, for its server, the worker and the doctor, as `evacuation install` writes it."""
KEY: Final = ETC / "signing.key"
"""The key that this host signs by, unless `evacuation key` is given another file."""
FLEET_KEY: Final = Path(os.environ.get("EVACUATION_FLEET_KEY") or ETC / "fleet.key")
"""The key that signs the frames of fleets, on the hosts where their flow runs. A drill has another."""
FLEET_SIGNERS: Final = Path(os.environ.get("EVACUATION_FLEET_SIGNERS") or ETC / "fleet_signers")
"""Who may sign frames for this host, in the form of allowed_signers. Without it no frame is heard."""
PROFILE: Final = ETC / "profiles.toml"
"""The same for an operator: a profile of Prefect's, which `evacuation` reads by itself where it may."""


def version() -> str:
    """Return the version of this installation; unknown if its packages lie on the path as files alone."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    try:
        return version_of(NAME)
    except PackageNotFoundError:
        return "unknown"


@cache
def fingerprint() -> str:
    """Return version and digest of the source as this process found it first: a checkout changes under one number."""
    seen, root = hashlib.sha256(), Path(__file__).parents[2]
    for path in sorted(path for package in ("blocks", "flows", "tasks") for path in (root / package).rglob("*.py")):
        seen.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return f"{version()}+{seen.hexdigest()[:12]}"
