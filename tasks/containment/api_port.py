"""Check which process listens on the API's port after the stop (runbook §3), and note what it named."""

import json
import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

from blocks.workload import Workload
from tasks.containment.members import Membership
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Frozen
from tasks.custody.evidence.redact import redact
from tasks.custody.incident.description import leads_to
from tasks.custody.incident.log import CustodyLog
from tasks.custody.models.contract import value_at
from tasks.host.host import Host
from tasks.host.process.known_programs import program
from tasks.host.process.process import Listener
from tasks.runtime.state import IncidentState

_PROXIES: Final = frozenset({"docker-proxy", "rootlessport"})
_ANY: Final = 0
_LONGEST: Final = 4096


def note_listener(membership: Membership, log: CustodyLog, frozen: Mapping[Identity, Frozen]) -> tuple[str, ...]:
    """Record whether a process of the workload listens on the API's port, which then counts as the API's, and where.

    Return a warning that says which field to set if the workload listens on other ports only.
    """
    workload, host, port = membership.workload, membership.host, port_of(membership.workload)
    if sockets := host.sockets(frozen):
        membership.state.sockets.write(sorted({*membership.state.sockets.read(), *sockets}))
    if not workload.names_port and port in host.ports(frozen):
        membership.state.listened.write(True)
    api = [identity for identity, each in frozen.items() if each.role == "api"]
    heard = host.ports(api or (frozen if workload.names_port else ()))
    if not port or not heard or port in heard or workload.containers:
        return ()
    field = f'api_url = "http://127.0.0.1:{min(heard)}"' + (f", api_port = {min(heard)}" if workload.api_port else "")
    others = ", ".join(map(str, sorted(heard)))
    warning = f"the workload listens on port {others}, not on {port}: if that is the API, set {field} in the block"
    log.write("port unchecked", f"the API's port {port}", why=warning)
    return (warning,)


def note_named(log: CustodyLog, workload: Workload, state: IncidentState, answer: str) -> None:
    """Record which model the API named at `model_at` before its freeze, by the text of its answer, if it names one.

    On a port that nobody chose another program may have answered.
    """
    with suppress(ValueError, RecursionError):
        name = value_at(json.loads(answer), workload.model_at) if answer else None
        if isinstance(name, str) and name and counted_port(workload, state):
            shown = redact(name[:_LONGEST], digests=True)
            log.write("model named", shown, result=f"in its answer, at {workload.model_at}")


def port_of(workload: Workload) -> int | None:
    """Return the API's port on this host: `api_port`, else the port of its address if that is local; else None."""
    if workload.api_port:
        return workload.api_port
    with suppress(ValueError):
        host, port = leads_to(workload.api_address)
        return port if _is_here(host) else None
    return None


def _is_here(host: str) -> bool:
    """Return whether a URL's host is this one. Looks up no name, because that may take long."""
    if host in {"localhost", socket.gethostname().lower()}:
        return True
    with suppress(OSError, ValueError):
        kind = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET  # noqa: PLR2004  IPv6
        with socket.socket(kind, socket.SOCK_DGRAM) as probe:
            probe.bind((host, _ANY))
            return True
    return False


def counted_port(workload: Workload, state: IncidentState) -> int | None:
    """Return the API's port, None if it is left at its default and no process of the workload listened there."""
    return port_of(workload) if workload.names_port or state.listened.read() else None


def strangers_on(
    port: int | None, host: Host, workload: Workload, ours: Iterable[int], known: Iterable[str]
) -> list[tuple[Listener, str]]:
    """Return other programs on a port, each with what that means. Frozen ones count: they accept connections.

    Excludes pids of `ours`, `known` containers, and the proxy of a container of the block.
    """
    if not port:
        return []
    own_pids, inside, proxies = frozenset(ours), frozenset(known), _PROXIES if workload.containers else ()
    others = [
        each
        for each in host.owners(port)
        if not (there := each.process)
        or not (there.pid in own_pids or there.container in inside or program(there) in proxies)
    ]
    advice = "end it, give the API's own port as api_port, or excuse it by bystanders"
    hidden = "" if os.geteuid() == 0 else "; run the evacuation as root to see which"
    listens = f"it listens on the API's port {port}"
    return [(each, f"{listens}: {advice}" if each.process else f"{listens}{hidden}") for each in others]
