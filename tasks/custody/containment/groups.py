"""Decide which processes can be held by their control group, and from whose group none may be taken. By paths alone.

A path holds what its maker called a group, and only an engine knows whether a container of that name is its own:
a false name keeps a process from being held, which is told, and never lets it pass for held.
"""

import os
import re
import shlex
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import PurePath, PurePosixPath
from typing import Final

from tasks.custody.containment.process import Identity
from tasks.custody.visible import visible

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


class Way(StrEnum):
    """How a process is held: by signals alone, or by a control group as well."""

    SIGNALS = "signals"
    IN_PLACE = "control group in place"
    INCIDENT = "control group of the incident"


@dataclass(frozen=True)
class Held:
    """A control group that an incident has frozen; with an `identity`, one that it has taken this process from."""

    group: str
    identity: Identity | None = None


def name_of(incident: str, home: PurePath) -> str:
    """Name the group of an incident, by its folder too: workloads of one host may be evacuated in the same second."""
    return f"{INCIDENT_PREFIX}{incident}-{sha256(os.fsencode(home)).hexdigest()[:8]}"


def places_of(name: str, own: str, user: int) -> tuple[str, ...]:
    """Paths for a group of this name, best first: at the top, in what the user's own systemd has, in `own`."""
    manager = f"/user.slice/user-{user}.slice/user@{user}.service"
    return tuple(f"{top.rstrip('/')}/{name}" for top in ("/", manager, own))


def delegated(path: str) -> tuple[str, str]:
    """Split a group's path into the unit of the system's systemd that it is in, and what is below; empty if in none."""
    found = _UNIT.match(path)
    return (found[1], path[found.end() :]) if found else ("", "")


def path_of(cgroup: str) -> str:
    """Return the path of version 2 in the text of /proc/PID/cgroup; empty if there is none."""
    return next((line.removeprefix("0::") for line in cgroup.splitlines() if line.startswith("0::")), "")


def within(path: str, top: str) -> bool:
    """Return whether a group is `top` or lies below it; False if either is not known."""
    return bool(path and top) and f"{path}/".startswith(f"{top.rstrip('/')}/")


def keeper_of(path: str) -> str:
    """Tell whose a group is from which no process may be taken, and how a person drains it; empty if one may."""
    for kind, pattern, drain in _KEPT:
        if found := pattern.search(path):
            name = found.groupdict("").get("name", "")
            if drain is _KUBERNETES:
                name = name.replace("_", "-")  # systemd spells it so
            line = f"; a person drains it by (手動で退避): {drain.format(name=shlex.quote(name))}" if drain else ""
            return visible(f"it is in the {f'{kind} {name}'.strip()}{line}")
    return ""


def alone(members: AbstractSet[int], groups: Mapping[int, str], own: str) -> frozenset[str]:
    """Choose the groups that can be frozen where they are. `groups` has the path of every process of the host.

    Everybody in one and below it, and in the scope of systemd's that it belongs to, is a member. It is not the root,
    not everybody's, not `own` (the group that we run in) or above it, and no orchestrator's or incident's to manage.
    Nor is it a service's, which only systemd may freeze: when the main process of one ends that was frozen behind its
    back, systemd 257 starts ExecStopPost in the frozen group, and waits for it for ever.
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
    """Return the group and all above it."""
    return {str(each) for each in (PurePosixPath(path), *PurePosixPath(path).parents)} if path else set()
