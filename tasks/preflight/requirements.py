"""§0: refuse a run that does not fit this host, this workload or Prefect's side of it."""

import socket
from collections.abc import Collection, Iterable

from blocks.workload import Workload
from tasks.collectors import discover
from tasks.custody.containment.pause import Launcher
from tasks.custody.errors import Refused
from tasks.custody.incident.incident import Incident
from tasks.host.host import LinuxHost
from tasks.host.process.table import untouchable
from tasks.host.unit.kept_down import is_down, units_without
from tasks.host.unit.systemd import Systemd
from tasks.system.accounts import number_of
from tasks.system.declarations import require_declared


def require_here(workload: Workload) -> None:
    """Raise Refused on any host but the workload's, and for a root folder that root's files leave out here."""
    here = socket.gethostname()
    if workload.host not in {here, socket.getfqdn()}:
        remedy = f"Start a worker of the evacuation's pool on {workload.host}, or correct host in the workload block."
        raise Refused(f"to run on {workload.host}, where the workload runs", here, remedy)
    if not workload.root.is_dir():
        remedy = "Correct root in the workload block."
        raise Refused("the workload's root folder to exist on this host", str(workload.root), remedy)
    require_declared(workload.root)


def require_known_account(workload: Workload) -> None:
    """Raise Refused if the block's account does not exist here, because none of its processes would be found."""
    try:
        number_of(workload.user)
    except KeyError as error:
        remedy = "Correct user in the workload block, or leave it empty."
        raise Refused("an account of this host, or none", repr(workload.user), remedy) from error


def require_known_collectors(workload: Workload) -> None:
    """Raise Refused if the block needs a collector that does not exist."""
    unknown = sorted({*(workload.needed or ()), *workload.may_be_missing} - discover().keys())
    if unknown:
        remedy = "Correct needed or may_be_missing in the workload block."
        raise Refused(f"collectors out of {', '.join(discover())}", ", ".join(unknown), remedy)


def require_known_units(workload: Workload) -> None:
    """Raise Refused for a service that does not exist, or that this run itself lives in."""
    snapshot = LinuxHost().snapshot() if workload.units else {}
    ours = {*workload.units} - {*units_without(untouchable(snapshot), workload.units, snapshot)}
    for unit in workload.units:
        properties = Systemd().show(unit)
        name = properties.get("Id", unit)
        if unit in ours:
            got = f"{unit}, in which this run, its worker or its Prefect server lives"
        elif properties.get("LoadState") == "not-found" and is_down(properties):
            got = f"{unit}, which systemd does not know"
        elif name != unit:
            got = f"{unit}, which is another name of {name}"
        else:
            continue
        raise Refused(
            "systemd services of this host that belong to the workload alone, by their own names",
            got,
            "Correct units in the workload block: systemctl list-units --type=service. "
            "ワークロードのブロックの units を修正してください。",
        )


def require_not_ours(launchers: Iterable[Launcher], own: Collection[Launcher]) -> None:
    """Raise Refused if the block names a launcher that this run came from: paused, it could not carry the run on."""
    if ours := [launcher for launcher in launchers if launcher in own]:
        expected = "to pause what starts training, never what the evacuation itself comes from"
        remedy = "Give training a pool or queue of its own, and correct what the workload block pauses."
        raise Refused(expected, ", ".join(map(str, ours)), remedy)


def require_same_workload(incident: Incident, workload: str) -> None:
    """Raise Refused if the incident belongs to another workload."""
    if incident.workload != workload:
        remedy = "Give the id of an incident of this workload, or leave incident_id empty."
        raise Refused(f"{incident.id} to be an incident of {workload}", f"an incident of {incident.workload}", remedy)
