"""Read the configurations that an incident keeps of the containers which it has paused: they may be gone since."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks.custody.containment.identity import ContainerIdentity


def config_path(home: Path, container: ContainerIdentity) -> Path:
    """Return where an incident's folder has the configuration of a container."""
    return home / f"container-{container.id}.json"


def kept_config(home: Path, container: ContainerIdentity) -> dict[str, Any]:
    """Return the container's configuration as it was when it was paused. Raises OSError if it was not kept."""
    return dict(json.loads(config_path(home, container).read_bytes()))


def kept_configs(home: Path) -> Iterator[dict[str, Any]]:
    """Yield the configurations that an incident's folder has; what cannot be read is left out."""
    for path in home.glob("container-*.json"):  # one of them is the list of files
        with suppress(OSError, ValueError):
            config = json.loads(path.read_bytes())
            if isinstance(config, dict):
                yield config
