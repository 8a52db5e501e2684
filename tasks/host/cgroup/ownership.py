"""Decide which processes can be frozen by control group, and from which groups none may be taken. Reads paths only.

A group's path holds a name that its creator chose; only an engine knows whether a container of that name exists. A
false name keeps a process from being frozen by group, which is reported; it never counts as frozen.
"""

import os
import re
import shlex
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache
from hashlib import sha256
from pathlib import PurePath, PurePosixPath
from typing import Final

from tasks.custody.visible import visible

_USER_MANAGER: Final = re.compile(r"user@\d+\.service")
INCIDENT_PREFIX: Final = "evacuation-"
_SLURM: Final = "scontrol update NodeName=$(hostname -s) State=DRAIN Reason=evacuation; scontrol requeuehold {name}"
_KUBERNETES: Final = (
    "kubectl cordon $(hostname); kubectl get pods -A -o custom-columns="
    ":.metadata.uid,:.metadata.namespace,:.metadata.name | grep {name}; kubectl delete pod -n NAMESPACE NAME"
)
_KEPT: Final = tuple(
    (kind, re.compile(rf"/(?:{pattern})(?=/|$)"), drain)
    for kind, pattern, drain in (
        ("incident", rf"{INCIDENT_PREFIX}(?P<name>IR-[^/]+)", ""),
        ("Slurm job", r"(?:(?:[^/]+_)?slurmstepd\.scope|slurm(?:_[^/]+)?/uid_\d+)(?:/job_(?P<name>\d+))?", _SLURM),
        (
            "Kubernetes pod",
            r"(?:kubelet-)?kubepods(?:[./-](?:.*[/-])?pod(?P<name>[\da-f_-]{32,36})(?:\.slice)?|[.-][^/]*)?",
            _KUBERNETES,
        ),
        (
            "Apptainer instance",
            r"(?:apptainer|singularity)[/-](?P<name>\d+)(?:\.scope)?",
            "apptainer instance list; apptainer instance stop NAME",
        ),
        ("container", r"(?:lxc\.payload\.|lxc/|machine\.slice/machine-|systemd-nspawn@)(?P<name>[^/]+)", ""),
        ("container", r"(?<=^/)(?:docker|default|moby|k8s\.io)/(?P<name>[^/]+)", ""),
        ("container", r"(?!libpod-conmon-)(?:[\w-]+-)?(?P<name>[0-9a-f]{64})(?:\.scope)?", ""),
        ("group outside of our namespace", r"(?<=^/)\.\.", ""),
    )
)
_UNIT: Final = re.compile(r"/(?:[^/]+\.slice/)*([^/]+\.(?:service|scope))(?=/)")
_SCOPE: Final = re.compile(r".*/([^/]+\.scope)(?=/|$)")
_SHARED: Final = re.compile(r"init\.scope|session-.*\.scope")


def name_of(incident: str, home: PurePath) -> str:
    """Return the name of an incident's group. It includes the folder: two workloads may share an incident id."""
    return f"{INCIDENT_PREFIX}{incident}-{sha256(os.fsencode(home)).hexdigest()[:8]}"


def places_of(name: str, own: str, user: int) -> tuple[str, ...]:
    """Return candidate paths of the group, best first: at the root, in the user's systemd manager, in `own`."""
    manager = f"/user.slice/user-{user}.slice/user@{user}.service"
    return tuple(f"{top.rstrip('/')}/{name}" for top in ("/", manager, own))


def split_unit(path: str) -> tuple[str, str]:
    """Split a group's path into its unit of the system's systemd and the rest; ("", "") if it is in none."""
    found = _UNIT.match(path)
    return (found[1], path[found.end() :]) if found else ("", "")


def path_of(cgroup: str) -> str:
    """Return the cgroup v2 path in the text of /proc/PID/cgroup; empty if there is none."""
    return next((line.removeprefix("0::") for line in cgroup.split("\n") if line.startswith("0::")), "")


@lru_cache(maxsize=1024)
def home_of(cgroup: str) -> str:
    """Return the group of version 2, or of systemd's own hierarchy, in which a process is; empty in their roots.

    A process is born in its parent's, and only who may write there moves it.
    """
    lines = (line.split(":", 2) for line in cgroup.split("\n") if line.count(":") > 1)
    paths = (path for number, name, path in lines if (number, name) == ("0", "") or name == "name=systemd")
    return next((path for path in paths if path != "/"), "")


def within(path: str, top: str) -> bool:
    """Return whether a group is `top` or below it; False if either is unknown."""
    return bool(path and top) and f"{path}/".startswith(f"{top.rstrip('/')}/")


def keeper_of(path: str) -> str:
    """Return whose group this is, if no process may be taken from it, and how to drain it; empty if any may."""
    for kind, pattern, drain in _KEPT:
        if found := pattern.search(path):
            name = found.groupdict("").get("name", "")
            if drain is _KUBERNETES:
                name = name.replace("_", "-")  # systemd escapes it
            line = f"; a person drains it by (手動で退避): {drain.format(name=shlex.quote(name))}" if drain else ""
            return visible(f"it is in the {f'{kind} {name}'.strip()}{line}")
    return ""


def alone(members: AbstractSet[int], groups: Mapping[int, str], own: str) -> frozenset[str]:
    """Return the groups that can be frozen in place. `groups` has the path of every process of the host.

    All processes in such a group, below it, and in its systemd scope are members. It is not the root, not a shared
    group, not `own` (our group) or above it, and not managed by an orchestrator or incident. A service's group is
    excluded too, because only systemd may freeze it: if its main process ends while frozen by others, systemd 257
    starts ExecStopPost in the frozen group and waits for it for ever.
    """
    strangers = {path for pid, path in groups.items() if pid not in members}
    shared = {"/"}.union(_upwards(own), *map(_upwards, strangers))
    found = {groups[pid] for pid in members if groups.get(pid)} - shared
    return frozenset(path for path in found if not keeper_of(path) and _scope_alone(path, shared))


def _scope_alone(path: str, shared: AbstractSet[str]) -> bool:
    if any(part.endswith(".service") for part in path.split("/")):
        return False
    scope = _SCOPE.match(path)
    return not scope or (scope[0] not in shared and not _SHARED.fullmatch(scope[1]))


def _upwards(path: str) -> set[str]:
    return {str(each) for each in (PurePosixPath(path), *PurePosixPath(path).parents)} if path else set()


@lru_cache(maxsize=1024)
def unit_of(cgroup: str) -> str:
    """Return the system service of a process with this cgroup; empty for logins, scopes and users' own services.

    Number and hierarchy of a line are the kernel's. Names in the path are of who made the groups, who may be a user:
    they hold any character, as a colon, but no newline.
    """
    for line in cgroup.split("\n"):
        path = PurePath(line.split(":", 2)[-1])
        if any(_USER_MANAGER.fullmatch(part) for part in path.parts):
            continue
        if services := [part for part in path.parts if part.endswith(".service")]:
            return services[-1]
    return ""
