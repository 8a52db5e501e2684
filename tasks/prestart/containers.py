"""§2 for containers before Prefect is imported, once the processes stand: pause what the run would pause anyway.

The engine's SDK is imported here, and takes a quarter of a second: a workload without containers does without. What
fails is left to the run.
"""

import time
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tasks.custody.errors import ContainerGone
from tasks.custody.visible import say
from tasks.guard.containers import identities
from tasks.host.container.docker_engine import DockerEngine
from tasks.host.container.membership import find_living
from tasks.incident.layout import FROZEN_CONTAINERS
from tasks.prestart.journal import EarlyFreeze, read_early, write_containers

_ANSWER_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 5.0


def pause_containers(early: EarlyFreeze, workload: Mapping[str, Any], homes: Iterable[Path]) -> EarlyFreeze:
    """Pause the containers that run; return the freeze with those that are to be resumed if the run is refused.

    They are written down before. Not among them is what an incident has paused and somebody resumed; `homes` are those
    of incidents that were not thawed. One between two starts is left to the run, and all if the journal or the engine
    fails.
    """
    place = workload.get("docker_host") or ""
    held = identities(home / FROZEN_CONTAINERS for home in homes)
    before, until = read_early(early.path).containers, time.monotonic() + _PAUSE_SECONDS
    try:
        with closing(DockerEngine(place, _ANSWER_SECONDS)) as engine:
            found = find_living(engine, tuple(workload["containers"]))
            running = [each for each in found if each.state == "running"]
            paused = {each.identity: datetime.now(UTC) for each in running if each.identity not in held}
            write_containers(early.path, before | paused)
            early = replace(early, containers=tuple(paused), docker_host=place)
            for container in running:
                if time.monotonic() > until:
                    break
                with suppress(ContainerGone):
                    engine.pause(container.id)
                    if container.identity in paused:
                        paused[container.identity] = datetime.now(UTC)
            write_containers(early.path, before | paused)
    except Exception as reason:  # noqa: BLE001  the processes stand, and the run looks again
        say(f"not all containers were paused before the start of the run: {reason}", error=True)
    return early
