"""Collect addresses, routes, neighbours of host and network namespaces from files; what is in no file, from `ip`."""

import socket
from typing import Final

import psutil

from tasks.acquisition.collector import Collector, FunctionOutput, ProgramOutput, Target
from tasks.acquisition.procfs import each_namespace, tables

_TABLES: Final = ("dev", "route", "ipv6_route", "fib_trie", "if_inet6", "arp")
_ROW: Final = "{:<16} {:<8} {:<44} {}\n"


def make(target: Target) -> bytes:
    """Return our own addresses as a table, then the kernel's tables by namespace."""
    families = {socket.AF_INET: "inet", socket.AF_INET6: "inet6", psutil.AF_LINK: "link"}
    rows = [
        _ROW.format(card, families.get(each.family, str(each.family)), each.address, each.netmask or "-")
        for card, addresses in sorted(psutil.net_if_addrs().items())
        for each in addresses
    ]
    own = _ROW.format("CARD", "FAMILY", "ADDRESS", "MASK") + "".join(rows)
    parts = [own.encode(errors="backslashreplace"), tables(("/etc/resolv.conf", "/etc/hosts"))]
    for name, pid in each_namespace("net", target.frozen).items():
        parts += [f"==== {name}\n".encode(), tables(f"/proc/{pid}/net/{table}" for table in _TABLES)]
    return b"\n".join(parts)


COLLECTOR = Collector(
    name="network",
    answers="Which addresses, routes and neighbours did the host have?",
    order=15,
    sources=(
        FunctionOutput(make, "network.txt"),
        ProgramOutput(("ip", "-details", "route", "show", "table", "all"), "routes.txt"),
        ProgramOutput(("ip", "neigh", "show"), "neighbours.txt"),
    ),
    while_frozen=True,
)
