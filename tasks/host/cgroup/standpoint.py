"""Tell from a control group's path which container a process is in, and which we run in."""

import re
from dataclasses import dataclass
from typing import Final

_ABOVE: Final = "/.."
_IN_CGROUP: Final = re.compile(r"/(?:(?P<kind>[\w-]+)-)?(?P<id>[0-9a-f]{64})(?:\.scope)?(?=/|$)", re.MULTILINE)
_OWN_MOUNT: Final = re.compile(
    r"/(?:overlay-)?containers/(?P<id>[0-9a-f]{64})/\S+ /etc/(?:hosts|hostname|resolv\.conf) "
)


def container_of(cgroup: str) -> str | None:
    """Return the id of the innermost container of a process, from the text of /proc/PID/cgroup.

    Knows cgroup versions 1 and 2, both cgroup drivers of Docker, podman, and containerd and CRI-O under Kubernetes.
    podman's monitor beside a container is not part of it.
    """
    found = [match for match in _IN_CGROUP.finditer(cgroup) if "conmon" not in (match["kind"] or "")]
    return found[-1]["id"] if found else None


def own_container(cgroup: str, mounts: str) -> str | None:
    """Return the id of the container that we run in, from our cgroup and /proc/self/mountinfo.

    A cgroup namespace hides our own id; the files that every engine mounts into /etc show it.
    """
    found = _OWN_MOUNT.search(mounts)
    return container_of(cgroup) or (found["id"] if found else None)


@dataclass(frozen=True)
class Standpoint:
    """The container that we run in (`own`) and that of pid 1 (`world`), None if none.

    In a container with the host's pid namespace, processes of other containers are visible. Those in pid 1's container
    count as in none. `hidden` says that a cgroup namespace shows our own container as the root group.
    """

    own: str | None = None
    world: str | None = None
    hidden: bool = False

    @classmethod
    def of(cls, ours: str, inits: str, mounts: str) -> "Standpoint":
        """Return the standpoint, from the cgroups of this process and of pid 1, and /proc/self/mountinfo."""
        own = own_container(ours, mounts)
        hidden = own is not None and container_of(ours) is None
        shared = hidden and _ABOVE not in inits
        return cls(own, own if shared else container_of(inits), hidden and not shared)

    def container(self, cgroup: str) -> str | None:
        """Return the container id of a process with this cgroup; None for none, or for pid 1's container."""
        found = container_of(cgroup) or (self.own if self.hidden and cgroup and _ABOVE not in cgroup else None)
        return None if found == self.world else found
