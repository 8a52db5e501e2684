"""Check which process listens on the API's port after the stop (runbook §3)."""

import os
import socket
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Final

from blocks.workload import Workload
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Frozen
from tasks.custody.incident.description import leads_to
from tasks.host.host import Host
from tasks.host.process.process import Listener
from tasks.host.process.program import program
from tasks.runtime.context import RunContext

_PROXIES: Final = frozenset({"docker-proxy", "rootlessport"})
_ANY: Final = 0


def note_listener(context: RunContext, members: Mapping[Identity, Frozen]) -> tuple[str, ...]:
    """Record whether a process of the workload listens on the API's port, which then counts as the API's.

    Return a warning if the workload listens on other ports only.
    """
    workload, host = context.workload, context.adapters.host
    port = port_of(workload)
    if not workload.names_port and port in host.ports(members):
        context.state.listened.write(True)
    api = [identity for identity, each in members.items() if each.role == "api"]
    warning = listening_elsewhere(host, workload, api or (members if workload.names_port else ()))
    if warning:
        context.log.write("port unchecked", f"the API's port {port}", why=warning)
    return (warning,) if warning else ()


def listening_elsewhere(host: Host, workload: Workload, members: Iterable[Identity]) -> str:
    """Return where these processes listen and which field to set, if none is on the API's port; else an empty text."""
    port, heard = port_of(workload), host.ports(members)
    if not port or not heard or port in heard or workload.containers:
        return ""
    field = f'api_url = "http://127.0.0.1:{min(heard)}"' + (f", api_port = {min(heard)}" if workload.api_port else "")
    others = ", ".join(map(str, sorted(heard)))
    return f"the workload listens on port {others}, not on {port}: if that is the API, set {field} in the block"


def port_of(workload: Workload) -> int | None:
    """Return the API's port on this host: `api_port`, else the port of its address if that is local; else None."""
    if workload.api_port:
        return workload.api_port
    try:
        host, port = leads_to(workload.api_address)
    except ValueError:
        return None
    return port if _is_here(host) else None


def _is_here(host: str) -> bool:
    """Return whether a URL's host is this one. Looks up no name, because that may take long."""
    if host in {"localhost", socket.gethostname().lower()}:
        return True
    try:
        address = ip_address(host)
        kind = socket.AF_INET6 if address.version == 6 else socket.AF_INET  # noqa: PLR2004  IPv6
        with socket.socket(kind, socket.SOCK_DGRAM) as probe:
            probe.bind((host, _ANY))
    except (OSError, ValueError):
        return False
    return True


def counted_port(context: RunContext) -> int | None:
    """Return the API's port, None if it is left at its default and no process of the workload listened there."""
    counts = context.workload.names_port or context.state.listened.read()
    return port_of(context.workload) if counts else None


def others_on_port(context: RunContext, ours: Iterable[int], known: Iterable[str]) -> list[tuple[Listener, str]]:
    """Return `strangers_on` the API's port. One left at its default counts only if the workload listened there."""
    return strangers_on(counted_port(context), context.adapters.host, context.workload, ours, known)


def strangers_on(
    port: int | None, host: Host, workload: Workload, ours: Iterable[int], known: Iterable[str]
) -> list[tuple[Listener, str]]:
    """Return other programs on a port, each with what that means. Frozen ones count: they accept connections.

    Excludes pids of `ours`, `known` containers, and the proxy of a container of the block.
    """
    if not port:
        return []
    own_pids, inside = frozenset(ours), frozenset(known)
    others = [each for each in host.owners(port) if not _is_explained(each, own_pids, inside, workload)]
    advice = "end it, give the API's own port as api_port, or excuse it by bystanders"
    hidden = "" if os.geteuid() == 0 else "; run the evacuation as root to see which"
    return [
        (
            each,
            f"it listens on the API's port {port}: {advice}"
            if each.process
            else f"it listens on the API's port {port}{hidden}",
        )
        for each in others
    ]


def _is_explained(each: Listener, ours: frozenset[int], known: frozenset[str], workload: Workload) -> bool:
    process = each.process
    if process is None:
        return False
    proxied = bool(workload.containers) and program(process) in _PROXIES
    return process.pid in ours or process.container in known or proxied
