"""Show and uncordon the workloads of a file."""

import socket
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from blocks.file import workloads
from blocks.workload_fields import WorkloadFields
from tasks.cli.next_step import Called
from tasks.cli.output import show
from tasks.cli.status import Status, look
from tasks.custody.errors import Refused
from tasks.custody.incident.description import place, read_description
from tasks.custody.incident.exit_codes import INCOMPLETE
from tasks.custody.visible import say
from tasks.host.host import LinuxHost
from tasks.system.declarations import why_undeclared
from tasks.system.installation import PASSWORD, PROFILE


def show_status(text: str, *, as_json: bool) -> int:
    """Print how each workload that is meant stands, as this host shows it. Raises Refused."""
    found = {called: (workload, _look(called, workload)) for called, workload in chosen(text).items()}
    lines, data = list[str](), list[dict[str, Any]]()
    for called, (workload, stands) in found.items():
        refused = why_undeclared(workload.root) if workload.host == socket.gethostname() else ""
        before = [*_elsewhere(workload), *([f"refused   {refused}"] if refused else [])]
        lines += [_title(called, workload), *(f"  {each}" for each in (*before, *stands.lines()))]
        place = {"host": workload.host, "root": str(workload.root), "refused": refused}
        data.append({"name": called.name, "file": called.file, **place, **asdict(stands)})
    show("status", [*lines, *credentials()], {"workloads": data, "credentials": [*credentials()]}, as_json=as_json)
    return 0


def credentials() -> Iterator[str]:
    """Yield where `evacuation install` has put the password of the Prefect API on this host."""
    if PASSWORD.exists():
        yield f"password of the Prefect API, for server, worker and doctor (API のパスワード): {PASSWORD}"
    if PROFILE.exists():
        yield f"for prefect itself, as root (prefect コマンド用): export PREFECT_PROFILES_PATH={PROFILE}"


def uncordon_by_hand(text: str) -> int:
    """Uncordon the selected workloads; return 0 only if nothing stays frozen or paused."""
    from tasks.cli.uncordon import let_go

    code = 0
    for called, workload in chosen(text).items():
        if _elsewhere(workload):
            here = socket.gethostname()
            raise Refused(f"the host of the workload, {workload.host}", here, f"Run it on {workload.host}.")
        say(_title(called, workload))
        for line in let_go(workload, LinuxHost(workload.api_port, root=workload.root), called):
            say(f"  {line}")
        if why := _look(called, workload).why_not_as_it_was:
            code = INCOMPLETE
            say(f"  exit      {code}: {why}")
    return code


def chosen(text: str) -> dict[Called, WorkloadFields]:
    """Return the workloads that FILE or FILE:NAME selects, by their names for an operator. Raises Refused."""
    file, name = place(text)
    read = read_description(Path(file), "workload")
    found = workloads(read)
    if not found or (name and name not in found):
        known = f"one of {', '.join(found)}" if found else f"a [workload.NAME] in {file}"
        raise Refused(known, name or "none", "Correct the name, or give the file of the workload.")
    several, store = len(found) > 1, "" if read.get("store") else "STORE.toml"
    meant = [name] if name else found
    return {Called(each, f"{file}:{each}" if several else file, store): found[each] for each in meant}


def _look(called: Called, workload: WorkloadFields) -> Status:
    try:
        return look(workload, LinuxHost(workload.api_port, root=workload.root), called)
    except PermissionError as error:
        got = f"{error.filename}: {error.strerror}"
        cure = "Run this as the user of the evacuation's worker, or as root."
        raise Refused("the folders of its incidents to be readable", got, cure) from error


def _elsewhere(workload: WorkloadFields) -> list[str]:
    here = socket.gethostname()
    line = f"host      this is {here}, not {workload.host}: nothing below is of the workload's host"
    return [line] * (workload.host != here)


def _title(called: Called, workload: WorkloadFields) -> str:
    return f"{called.name} on {workload.host}, {workload.root}"
