"""Find where on this host the workload's containers have what is collected from them: who else writes there counts."""

import os
from collections.abc import Iterable
from pathlib import Path

from blocks.workload_fields import WorkloadFields
from tasks.collectors.code import globs_of
from tasks.containment.containers.kept import kept_configs
from tasks.custody.evidence.keys import FOLDERS
from tasks.custody.evidence.pattern import literal_folder, patterns_of
from tasks.host.container.membership import Container
from tasks.host.container.mounts import ContainerView


def collected_folders(workload: WorkloadFields, containers: Iterable[ContainerView]) -> list[str]:
    """Return the folders of this host, outside of the root, in which containers have what a pattern may find."""
    root = os.path.realpath(workload.root)
    wanted = {literal_folder(each) for each in patterns_of(globs_of(workload), without=FOLDERS)}
    found = {folder for each in containers for folder in each.find_outside(wanted)}
    return sorted(each for each in found if not f"{each}/".startswith(f"{root}/"))


def collected_now(workload: WorkloadFields, containers: Iterable[Container], home: Path) -> list[str]:
    """Return these folders of the containers that live, and of those that an incident has paused, without a run."""
    views = [*map(ContainerView.of_container, containers), *map(ContainerView.of, kept_configs(home))]
    return collected_folders(workload, views)
