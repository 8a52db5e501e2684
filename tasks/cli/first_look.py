"""Look at a folder and at what runs there, to describe it as a workload: reads files and /proc, asks the API by GET."""

import json
import os
import re
from contextlib import closing, suppress
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path, PurePath
from typing import Any, Final

from blocks.workload_fields import WorkloadFields
from tasks.adapters.container_engine import DockerEngine, may_be_there
from tasks.adapters.host import LinuxHost
from tasks.containment.members import description_of
from tasks.containment.suspects import roster_now
from tasks.custody.containment.handles import Handles
from tasks.custody.containment.membership import Exceptions, Members
from tasks.custody.containment.process import Process, family, parents_first
from tasks.custody.containment.program import SHELLS, is_one_of
from tasks.custody.containment.roster import Kind, Roster
from tasks.custody.containment.service import unit_of
from tasks.custody.containment.starter import WAITERS
from tasks.custody.containment.suspect import exact_words
from tasks.custody.containment.whole_words import whole_words
from tasks.custody.containment.workload import USUAL_INTERPRETERS
from tasks.custody.errors import EngineError
from tasks.custody.evidence.keys import placed_name
from tasks.custody.evidence.redact import process_line, redact_command, redact_environment
from tasks.custody.incident.description import WORKER, unit
from tasks.system.processes import untouchable

_FILES: Final = {
    "models": r".*\.(joblib|pkl|pickle|pt|pth|ckpt|onnx|safetensors|h5|keras|gguf|pmml|cbm|ubj)",
    "logs": r".*\.log",
    "artifacts": r"(artifacts?|outputs?|results?|reports?|metrics)/.*\.(json|csv|png|html)",
}
_PASSED_OVER: Final = re.compile(r"\..*|v?env|node_modules|site-packages|__pycache__|evidence")
_OF_A_SESSION: Final = re.compile(
    r"(PATH|HOME|USER|LANG|TZ|TERM|SHELL|LOGNAME|OLDPWD|PWD|HOSTNAME|VIRTUAL_ENV|SHLVL|MAIL|PS1)?"
    r"|_|(LC|XDG|SSH|DBUS|LS|SUDO|SYSTEMD|INVOCATION|JOURNAL|MEMORY)_\w*"
)
"""Variables that a login or systemd sets."""


@dataclass
class Found:
    """Values of the block's fields, the processes that they mean, and what a person has to say, by what it is about."""

    fields: dict[str, Any]
    processes: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    port: int | None = None


def look_at(root: Path) -> Found:
    """Return what is found of the workload in this folder."""
    host, found = LinuxHost(root=root), Found({"root": str(root)})
    roster = roster_now(host, WorkloadFields(root=root))
    those = [each for kind in (Kind.MEMBER, Kind.SUSPECT, Kind.UNKNOWN) for each in roster.of(kind)]
    there = {each.pid: each for each, _ in those if each.rooted and not each.container}
    for each, why in those:
        if each.pid not in there:
            found.missing[f"process {each.pid}"] = f"no pattern finds it there, and {why}: {process_line(each, 80)}"
    tops = [there[pid] for pid in parents_first(there, there) if there[pid].parent not in there]
    families = {top: [there[pid] for pid in family(there, {top.identity})] for top in tops}
    ports = {top: sorted(host.ports(each.identity for each in families[top])) for top in tops}
    api = min(
        (top for top in tops if ports[top]),
        key=lambda top: (not isinstance(ask(ports[top][0], "/openapi.json")[1], dict), ports[top]),
        default=None,
    )
    roles = {top: "api" if top == api else "worker" if ports[top] else "training" for top in tops}
    found.processes = [f"{roles[top]}: process {top.pid}, ports {ports[top]}: {process_line(top, 120)}" for top in tops]
    _name_processes(found, roster, [(each, roles[top]) for top in tops for each in families[top]])
    if api:
        found.port = ports[api][0]
        _describe_api(found, api, host.handles([api]).get(api.identity, Handles()).called)
    else:
        found.missing["api_command"] = "no process listens here: start the API, and run this again"
    if "training" not in roles.values():
        found.missing["training_pattern"] = "no training runs now; the default is the runbook's"
    found.missing["lock"] = "the default; two workloads of a host need two, and each training's launcher takes its own"
    units = {unit_of(each.cgroup) for each in there.values()} - {""}
    for each in roster.snapshot.values():
        if each.pid not in there:
            units.discard(unit_of(each.cgroup))  # others sit in it
    found.fields |= {"units": sorted(filter(_is_unit, units))} if any(map(_is_unit, units)) else {}
    _name_containers(found)
    _name_files(found)
    return found


def ask(port: int, path: str) -> tuple[int, Any]:
    """GET a path of a server on loopback, for two seconds; return the status, 0 without one, and the JSON of a 2xx."""
    from http.client import HTTPConnection, HTTPException

    status, content = 0, None
    with suppress(OSError, HTTPException, ValueError, RecursionError):
        with closing(HTTPConnection("127.0.0.1", port, timeout=2)) as connection:
            connection.request("GET", path)
            status, body = (answer := connection.getresponse()).status, answer.read(1 << 20)
        content = json.loads(body) if status in range(200, 300) else None
    return status, content


def _is_unit(name: str) -> bool:
    with suppress(ValueError):
        return bool(unit(name))
    return False


def _name_processes(found: Found, roster: Roster, processes: list[tuple[Process, str]]) -> None:
    """Add patterns, each of which is needed to make one of these processes a member. Name what none covers."""
    root, spared = Path(found.fields["root"]), Exceptions(frozenset(untouchable(roster.snapshot)))
    patterns: dict[str, list[str]] = {"api": [], "training": [], "worker": []}

    def covered(given: dict[str, list[str]]) -> Members:
        fields = {f"{role}_pattern": "|".join(each) or "(?!)" for role, each in given.items()}
        block = WorkloadFields(root=root).model_copy(update=fields)
        return Members.of(roster.snapshot, description_of(block), spared)

    for process, role in processes:
        scripted = is_one_of(SHELLS, roster.snapshot.get(process.parent, process))  # it may be started without it
        if is_one_of(WAITERS, process) or (process.identity in covered(patterns) and not scripted):
            continue
        for made in filter(None, (whole_words(process, os.path.realpath(root)), exact_words(process))):
            wider = {**patterns, role: [*dict.fromkeys((*patterns[role], made))]}
            if process.identity in covered(wider):
                patterns = wider
                break
    for each in (each for each, _ in processes if each.identity not in covered(patterns)):
        found.missing[f"process {each.pid}"] = f"nothing that is shown tells it: {process_line(each, 80)}"
    patterns["worker"] = patterns["worker"] and [WORKER, *patterns["worker"]]
    found.fields |= {f"{role}_pattern": "|".join(each) for role, each in patterns.items() if each}


def _describe_api(found: Found, api: Process, started: str) -> None:
    """Add how the API is started again. No word or value is written that is not known to be harmless."""
    root, command = Path(found.fields["root"]), list(api.command)
    if "/" not in command[0] and PurePath(started).name == command[0]:
        command[0] = started  # found by a PATH that a recovery does not have
    program = Path(api.cwd, command[0])
    public_words = redact_command(api.command, api.cwd) == list(api.command) and "".join(command).isprintable()
    if not (program.is_file() and public_words):
        found.missing["api_command"] = f"hidden in part, for it may be a secret, or overwritten: {process_line(api)}"
    else:
        found.fields["api_command"] = command
    if api.cwd != os.path.realpath(root):
        found.missing["the API's folder"] = f"it works in {api.cwd}; a recovery starts it in {root}"
    if (program.parent.parent / "pyvenv.cfg").is_file():
        found.fields["interpreter"] = str(program)
    elif not any((root / each).exists() for each in USUAL_INTERPRETERS):
        found.fields["may_be_missing"] = ["packages"]
        found.missing["interpreter"] = "no virtual environment: no list of packages is collected"
    with suppress(OSError):
        lines = Path(f"/proc/{api.pid}/environ").read_bytes().decode(errors="replace").split("\0")
        every = dict(line.split("=", 1) for line in lines if "=" in line)
        own = {name: value for name, value in every.items() if not _OF_A_SESSION.fullmatch(name)}
        if public := {
            name: value for name, value in redact_environment(own).items() if value == own[name] and value.isprintable()
        }:
            found.fields["api_environment"] = public
        if others := sorted(own.keys() - public.keys()):
            found.missing["api_environment"] = f"values that may be secrets: {', '.join(others)}"


def _name_containers(found: Found) -> None:
    """Add the containers that have the root, a folder above or below it, or publish the API's port."""
    real = PurePath(os.path.realpath(found.fields["root"]))
    try:
        with closing(DockerEngine()) as engine:
            everyone = engine.containers((), others=True) if may_be_there(engine.place) else ()
    except (EngineError, OSError) as error:
        found.missing["containers"] = f"Docker was not asked: {getattr(error, 'got', error)}"
        return
    for each in everyone:
        mounts = [PurePath(mount.source) for mount in each.mounts]
        near = any(mount.is_relative_to(real) or real.is_relative_to(mount) for mount in mounts)
        if near or found.port in each.ports:
            found.fields.setdefault("containers", []).append(f"name={each.name}")


def _name_files(found: Found) -> None:
    """Add patterns for the models, logs and results that lie there, and the folders that hold them."""
    root, names = found.fields["root"], list[PurePath]()
    for folder, below, files in os.walk(root):
        below[:] = [each for each in below if not _PASSED_OVER.fullmatch(each)]
        names += [PurePath(os.path.relpath(folder, root), each) for each in files if each.isprintable()]
    folders = set[str]()
    for kind, pattern in _FILES.items():
        ours = [name for name in names if re.fullmatch(pattern, str(name))]
        folders |= {name.parts[0] for name in ours if len(name.parts) > 1}
        if ours:
            found.fields[kind] = sorted(set(map(_glob, ours)))
        else:
            found.fields.setdefault("may_be_missing", []).append(kind)
            found.missing[kind] = "none lie here now"
    if kept := sorted(name for name in folders if placed_name(f"{name}/x".encode()) == f"{name}/x"):
        found.fields["folders"] = kept


def _glob(name: PurePath) -> str:
    """Return the pattern of files like this one: of its folder, or of all below the first one."""
    *folders, _ = name.parts
    return "/".join([*map(escape, folders[:1]), *["**"][: len(folders) - 1], f"*{name.suffix}"])
