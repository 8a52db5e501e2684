"""Look into the mounts of a workload's containers, and name other containers beside them: for `evacuation init`."""

import json
import os
from collections.abc import Collection, Iterator, Sequence
from glob import has_magic
from itertools import islice
from pathlib import Path, PurePath
from typing import Final

from tasks.cli.first_files import MOST_NAMES, globs_of
from tasks.cli.found import Found
from tasks.custody.visible import visible
from tasks.host.container.membership import Container, Mount

_PROJECT: Final = "com.docker.compose.project"


def name_mounts(found: Found, containers: Sequence[Container]) -> dict[str, set[str]]:
    """Count what lies in each mount outside the root, and return patterns for the models and logs that are seen there.

    They count from the root of a container. A mount that the host does not show, or that holds the root, is named.
    """
    root, patterns = PurePath(os.path.realpath(found.fields["root"])), dict[str, set[str]]()
    for each in containers:
        for mount in each.mounts:
            source = PurePath(os.path.realpath(mount.source))
            if source.is_relative_to(root):
                continue
            globs, what = ({}, "") if root.is_relative_to(source) else _look_into(mount)
            for kind, of_kind in globs.items():
                patterns.setdefault(kind, set()).update(of_kind)
            kept = ", ".join(f"{kind} = {json.dumps(sorted(each))}" for kind, each in sorted(globs.items()))
            named = f"taken are {kept}; the rest is not 残りは対象外" if kept else "no pattern names it 対象外"
            unseen = "not looked into; name what is needed in models or logs, as in /data/*/model.onnx 未確認"
            subject = f"{visible(str(mount.target))} in {each.name}"
            found.missing[subject] = (
                f"{visible(mount.source)} is mounted there: {f'{what}: {named}' if what else unseen}"
            )
    return patterns


def name_beside(found: Found, named: Sequence[Container], everyone: Collection[Container]) -> None:
    """Name the containers of the same compose project, or of the same volume, that are not among the `named`."""
    projects = {each.labels.get(_PROJECT, "") for each in named} - {""}
    sources = {mount.source for each in named for mount in each.mounts}
    for each in everyone:
        shared = sorted(sources & {mount.source for mount in each.mounts})
        project = each.labels.get(_PROJECT, "")
        if each in named or not (shared or project in projects):
            continue
        why = f"it has {visible(shared[0])} too" if shared else f"it is of the compose project {visible(project)} too"
        line = json.dumps([*found.fields["containers"], f"name={each.name}"], ensure_ascii=False)
        found.missing[f"container {each.name}"] = (
            f"{why}, and is not named; if it is the workload's: containers = {line}"
        )


def _look_into(mount: Mount) -> tuple[dict[str, set[str]], str]:
    """Return patterns by kind, and how much lies there; nothing of a mount that this host does not show."""
    unread = list[OSError]()
    paths = [*islice(_files(mount.source, unread), MOST_NAMES)]
    if unread or not os.path.lexists(mount.source):
        return {}, ""
    base, globs, size = PurePath(mount.source), dict[str, set[str]](), 0
    for path in paths:
        size += path.lstat().st_size if os.path.lexists(path) else 0
        below = PurePath(path).relative_to(base) if path != Path(base) else PurePath()
        full = f"{mount.target}/{below}" if below.parts else str(mount.target)
        if full.isprintable() and not has_magic(str(mount.target)):
            for kind, pattern in globs_of(below if below.parts else PurePath(mount.target.name)).items():
                inside = f"{mount.target}/{pattern}" if below.parts else full
                globs.setdefault(kind, set()).add(inside)
    more = f"the first {MOST_NAMES}" if len(paths) == MOST_NAMES else str(len(paths))
    return globs, f"{more} file{'s'[: len(paths) != 1]} of {size:,} bytes"


def _files(source: str, unread: list[OSError]) -> Iterator[Path]:
    if os.path.isfile(source):  # noqa: PTH113  as the engine names it
        yield Path(source)
    for folder, _, files in os.walk(source, onerror=unread.append):
        yield from (Path(folder, each) for each in files)
