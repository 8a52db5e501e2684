"""Find where on this host the workload's containers have what is collected from them: who else writes there counts."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress

from blocks.workload_fields import WorkloadFields
from tasks.collectors.code import globs_of
from tasks.containment.containers.pause import kept_config
from tasks.custody.evidence.keys import FOLDERS
from tasks.custody.evidence.pattern import literal_folder, patterns_of
from tasks.host.container.mounts import ContainerView
from tasks.runtime.context import RunContext
from tasks.runtime.frozen import frozen_containers


def collected_folders(workload: WorkloadFields, containers: Iterable[ContainerView]) -> list[str]:
    """Return the folders of this host, outside of the root, in which containers have what a pattern may find."""
    root = os.path.realpath(workload.root)
    wanted = {literal_folder(each) for each in patterns_of(globs_of(workload), without=FOLDERS)}
    found = {folder for each in containers for folder in each.find_outside(wanted)}
    return sorted(each for each in found if not f"{each}/".startswith(f"{root}/"))


def ended_containers(context: RunContext) -> Iterator[ContainerView]:
    """Yield the containers that this incident has paused, as they were then: one that has ended may be gone.

    One whose configuration could not be kept is left out: the log says so.
    """
    for identity in frozen_containers(context.state):
        with suppress(OSError):
            yield ContainerView.of(kept_config(context.directory.path, identity))
