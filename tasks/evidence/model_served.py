"""§4: read from the evidence, or its container's configuration, which model the API served at the freeze."""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from tasks.containment.containers.pause import WorkloadContainers, kept_config
from tasks.custody.containment.identity import Identity
from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.evidence.pattern import literal_folder
from tasks.custody.incident.description import leads_to
from tasks.custody.models.contract import ServedBefore, served_before
from tasks.runtime.context import RunContext


def model_served(
    context: RunContext, volumes: Mapping[int, Iterable[StoredFile]], models: Mapping[str, str]
) -> ServedBefore:
    """Return what the API served when it was frozen last. `models` are the digests of the models by path."""
    root, folders = str(context.workload.root), [literal_folder(each) for each in context.workload.models]
    if was := WorkloadContainers(context).find_api(leads_to(context.workload.api_address)[1]):
        config = kept_config(context.directory.path, was.identity)
        start = {"command": [config["Path"], *config["Args"]], "environment": config["Config"].get("Env")}
        inside = {name: sha256 for name, sha256 in models.items() if name.startswith("/")}
        return served_before([start], config["Config"].get("WorkingDir") or "/", inside or models, folders)
    frozen = [each for journal in context.state.frozen.of_boots() for each in journal]
    roles = {each.role for each in frozen} - {"training", "worker"}
    apis = {each.identity for each in frozen if each.role in ({"api"} & roles or roles)}  # it may match no pattern
    real = {os.path.relpath(os.path.realpath(f"{root}/{name}"), root): sha256 for name, sha256 in models.items()}
    for volume, files in sorted(volumes.items(), reverse=True):
        with suppress(OSError, ValueError):
            trees = [context.directory.locate(volume, file) for file in files if file.stored == "tree.json"]
            rows = (each for tree in trees for each in json.loads(tree.read_bytes()))
            processes = [each for each in rows if "not read" not in each]  # one that was gone is in an earlier volume
            if ours := [each for each in processes if Identity(each["pid"], each["start_ticks"]) in apis]:
                return served_before(ours, root, {**real, **models}, folders, lambda path: _is_in(root, path))
    return ServedBefore()


def _is_in(root: str, path: str) -> bool:
    return path.startswith(f"{root}/") and Path(path).is_file()
