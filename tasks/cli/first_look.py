"""Look at a folder and at what runs there, to describe it as a workload: reads names and /proc, asks the API by GET."""

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path, PurePath
from typing import Final

from blocks.workload_fields import WorkloadFields
from tasks.cli.first_files import held_open, models_open, name_files
from tasks.cli.first_volumes import name_beside, name_mounts
from tasks.cli.found import Found
from tasks.collectors.sockets import of_process
from tasks.containment.members import description_of
from tasks.containment.suspects import roster_now
from tasks.custody.errors import EngineError, Refused
from tasks.custody.evidence.redact import redact_command, redact_environment
from tasks.custody.incident.description import NOTHING, USUAL_TRAINING, WORKER, pattern, unit
from tasks.evidence.process_start import read_starts
from tasks.host.cgroup.ownership import unit_of
from tasks.host.container.docker_engine import DockerEngine, may_be_there
from tasks.host.container.membership import Container
from tasks.host.host import Host, LinuxHost
from tasks.host.judgement.case import Kind
from tasks.host.judgement.roster import Roster
from tasks.host.judgement.suspect import count_more, describe_with, excuse, excuse_for, pattern_for
from tasks.host.process.handles import Handles
from tasks.host.process.known_programs import SHELLS, is_one_of, program, script_of
from tasks.host.process.matcher import USUAL_INTERPRETERS
from tasks.host.process.membership import Member
from tasks.host.process.process import Process, family, parents_first, process_line
from tasks.host.process.table import unseen_listeners
from tasks.host.starter import WAITERS
from tasks.recovery.own_house import why_not_roots
from tasks.system.declarations import account_for
from tasks.system.kernel_tables import ENVIRONMENT, read_kernel

_OWN_SOCKET: Final = re.compile(r"^@|/pymp-[^/]*/|listener-[^/]*$")
MOST: Final = 5  # questions of a kind, over HTTP: each answer may take its time


def look_at(root: Path) -> Found:
    """Return what is found of the workload in this folder."""
    host, found = LinuxHost(root=root), Found({"root": str(root)})
    roster = roster_now(host, WorkloadFields(root=root))
    kinds = (Kind.MEMBER, Kind.SUSPECT, Kind.UNKNOWN)
    near = [each for kind in kinds for each in roster.processes(kind) if not each.container]
    there = {each.pid: each for each in near if each.is_rooted}
    tops = [there[pid] for pid in parents_first(there, there) if there[pid].parent not in there]
    families = {top: [there[pid] for pid in parents_first(there, family(there, {top.identity}))] for top in tops}
    ports = {top: sorted(host.ports(each.identity for each in families[top])) for top in tops}
    servers = [top for top in tops if ports[top]]
    described = {top for top in servers[:MOST] if found.ask("/openapi.json", ports[top][0]).good}
    api = min(servers, key=lambda top: (top not in described, ports[top]), default=None)
    _name_units(found, roster, there)
    listens: dict[Process, list[int | str]] = {top: [*ports[top]] for top in tops}
    for top in tops:
        own = [each for each in families[top] if each == top or is_one_of(SHELLS, there[each.parent])]
        listens[top] += _find_socket_files(own)  # not what a training has as its helper
    _name_processes(found, roster, families, listens, api)
    if api:
        found.port = ports[api][0]
        _describe_api(found, api, host.handles([api]).get(api.identity, Handles()).called)
    usual = any(os.access(root / each, os.F_OK) for each in USUAL_INTERPRETERS)
    if not usual:
        _name_environment(found, host, near)
    if "interpreter" not in found.fields and not usual:
        found.fields["may_be_missing"] = ["packages"]
        found.missing["interpreter"] = "no virtual environment: no list of packages is collected"
    found.missing["lock"] = "the default; it is yours alone only if no other workload of this host has it"
    if api and unit_of(api.cgroup) not in found.fields.get("units", []):
        _name_refusal(found, api)
    containers, inside = _name_containers(found, host, roster)
    if not found.port:
        unseen = _describe_unseen(host, roster, containers)
        found.missing["api_command"] = f"nothing listens here{unseen}: start the API, and run this again"
    if "training_pattern" not in found.fields:
        within = [each for each in roster.snapshot.values() if each.container in inside]
        _name_no_training(found, [each for each in within if not host.ports([each.identity])])
    named = [each for each in containers if each.id in inside]
    mounts = name_mounts(found, named)
    if named:
        name_beside(found, named, containers)
    name_files(found, held_open(found, host, near), models_open(found, host, near), mounts)
    _name_the_rest(found, roster_now(host, WorkloadFields(**found.fields), inside))
    return found


def _find_socket_files(processes: Iterable[Process]) -> list[str]:
    """Return the files of the sockets on which these processes listen, but for those of Python's multiprocessing."""
    found = set[str]()
    for each in processes:
        with suppress(OSError):
            rows = (row for row in of_process(each.pid) if row["kind"] == "unix" and row["state"] == "listening")
            found |= {row["local"] for row in rows if row["local"] and not _OWN_SOCKET.search(row["local"])}
    return sorted(found)


def _name_processes(
    found: Found,
    roster: Roster,
    families: Mapping[Process, Sequence[Process]],
    ports: Mapping[Process, Sequence[int | str]],
    api: Process | None,
) -> None:
    """Add each family of processes, by its top, with its role, and the patterns that recognise the roles.

    A process that no pattern makes a member, as a shell that only quotes its words, gets none and has no role.
    """
    there = {each.pid: each for members in families.values() for each in members}
    roles = {top: "api" if top == api else "worker" if ports[top] else "training" for top in families}
    patterns = _find_patterns(families, roles, there.values())
    wider = {f"{role}_pattern": "|".join(each) for role, each in patterns.items() if each}
    description = description_of(WorkloadFields(**found.fields, **wider))
    members = {each for each in there.values() if roster.would_belong(each, description)}
    for top, role in roles.items():
        label = role if top in members else "no member by any pattern どのパターンでも対象外"
        found.processes.append(f"{label}: process {top.pid}, ports {ports[top]}: {process_line(top, 120)}")
        if role == "worker" and top in members:
            why = f"it listens on {ports[top]} and would be stopped, and brought back by nobody 復旧されない"
            cure = f"if it is no part of the workload, no pattern for it and {excuse_for(top)}"
            found.missing[f"process {top.pid}"] = f"{process_line(top, 80)}: {why}; {cure}"
    patterns = _find_patterns(families, roles, members)
    found.fields |= {f"{role}_pattern": "|".join(each) for role, each in patterns.items() if each}


def _find_patterns(
    families: Mapping[Process, Sequence[Process]], roles: Mapping[Process, str], among: Collection[Process]
) -> dict[str, dict[str, None]]:
    """Return the patterns of each role that recognise those `among` the families that may be started alone."""
    there = {each.pid: each for members in families.values() for each in members}
    patterns: dict[str, dict[str, None]] = {"api": {}, "training": {}, "worker": {}}
    for top, role in roles.items():
        for each in families[top]:
            alone = each == top or is_one_of(SHELLS, there[each.parent])  # or it may be started without it
            if alone and each in among and not is_one_of(WAITERS, each) and (words := pattern_for(each)):
                with suppress(ValueError):  # it would fit anything
                    patterns[role][pattern(words)] = None
    patterns["worker"] = patterns["worker"] and {WORKER: None, **patterns["worker"]}
    return patterns


def _name_no_training(found: Found, within: Sequence[Process]) -> None:
    """Say that no training is known. Where none lies there either, the runbook's pattern would fit others' alone.

    What runs in the root is named all the same, as a process that nobody knows; so is what runs `within` its
    containers and does not listen, which may be one.
    """
    none = "none is known by its command" if within else "none runs now"
    if os.access(Path(found.fields["root"], USUAL_TRAINING), os.F_OK):
        why = f"{none}; the default is the runbook's"
    else:
        found.fields["training_pattern"] = NOTHING
        why = f"{none} and no {USUAL_TRAINING} lies here, so it matches nothing"
        why += "; name one as in 'jobs/fit\\.py', or run this again while it trains"
    if lines := dict.fromkeys(process_line(each, 80) for each in within):
        shown = f"{'; '.join([*lines][:MOST])}{'; …' * bool([*lines][MOST:])}"
        why += f". Of these in its containers any may be one 学習かもしれない: {shown}"
    found.missing["training_pattern"] = why


def _name_units(found: Found, roster: Roster, there: Mapping[int, Process]) -> None:
    """Add the services in which nothing but these processes runs."""
    others = {unit_of(each.cgroup) for each in roster.snapshot.values() if each.pid not in there}
    for name in sorted({unit_of(each.cgroup) for each in there.values()} - others):
        with suppress(ValueError):  # one of everybody's
            found.fields["units"] = [*found.fields.get("units", []), unit(name)]


def _name_refusal(found: Found, api: Process) -> None:
    """Name why a recovery would not start the API as the account that it runs as, in the words of its refusal."""
    try:
        block, starts = WorkloadFields(**found.fields), read_starts({api.identity: Member("api", "found")})
        account_for(block, api.user, why_not_roots=lambda: why_not_roots(block, starts))
    except Refused as error:
        why = f"expected {error.expected}; got {error.got}. {error.remedy}"
        found.missing["user"] = f"no recovery would start the API 復旧時に起動できない: {why}"


def _name_the_rest(found: Found, roster: Roster) -> None:
    """Name what the block as it is written does not tell, by the law of a run. Another service works in its folder."""
    root, lines = os.path.realpath(found.fields["root"]), dict[str, list[Process]]()
    for each, why in (*roster.of(Kind.SUSPECT), *roster.of(Kind.UNKNOWN)):
        cure, apart = excuse(roster, each), each.cwd[:1] == "/" and each.cwd.count("/") > 1 and not each.container
        if apart and os.path.commonpath([root, each.cwd]) not in {root, each.cwd}:
            line = f"bystanders = ['cwd={each.cwd}']"
            with suppress(ValueError):  # a quotation mark in the name
                if roster.would_be_excused(each, describe_with(roster, line)):
                    cure = f"{line}, with api_port = {found.port} if api_pattern fits it too"
        cure = f"; if it is another's: {cure}" if cure else ""
        lines.setdefault(f"{process_line(each, 80)}: {why}{cure}", []).append(each)
    for line, (first, *others) in lines.items():
        found.missing[f"process {first.pid}"] = line + count_more([str(each.pid) for each in others])


def _describe_api(found: Found, api: Process, started: str) -> None:
    """Add how the API is started again. No word or value is written that is not known to be harmless."""
    command = list(api.command) or [""]
    if "/" not in command[0] and PurePath(started).name == command[0]:
        command[0] = started  # found by a PATH that a recovery does not have
    script, root = script_of(api.command), found.fields["root"]
    if (
        script[:1] not in {"", "/"}
        and os.access(Path(api.cwd, script), os.F_OK)
        and not os.access(Path(root, script), os.F_OK)
    ):
        command[command.index(script)] = os.path.normpath(Path(api.cwd, script))  # it worked elsewhere
    program = Path(api.cwd, command[0])
    if command[0] and os.access(program, os.F_OK) and redact_command(api.command, api.cwd) == list(api.command):
        found.add("api_command", command)
    else:
        found.missing["api_command"] = f"hidden in part, for it may be a secret, or overwritten: {process_line(api)}"
    if os.access(program.parent.parent / "pyvenv.cfg", os.F_OK):
        found.add("interpreter", str(program))
    with suppress(OSError):
        lines = read_kernel(f"/proc/{api.pid}/environ", ENVIRONMENT).decode(errors="replace").split("\0")
        own = {name: value for name, _, value in (line.partition("=") for line in lines) if "MODEL" in name}
        if public := {name: value for name, value in redact_environment(own).items() if value == own[name]}:
            found.add("api_environment", public)


def _name_containers(found: Found, host: Host, roster: Roster) -> tuple[Sequence[Container], list[str]]:
    """Add the containers that have the root, a folder above or below it, or the API's port.

    Return all that the engine has, and the ids of these.
    """
    real = PurePath(os.path.realpath(found.fields["root"]))
    try:
        with closing(DockerEngine()) as engine:
            everyone = engine.containers((), others=True) if may_be_there(engine.place) else ()
            if everyone and re.fullmatch(r"(unix|tcp|https?)://.+", given := os.environ.get("DOCKER_HOST", "")):
                found.add("docker_host", given)  # the shell of the night may lack the variable
    except (EngineError, OSError) as error:
        found.missing["containers"] = f"Docker does not answer: {getattr(error, 'got', error)}"
        return (), []
    inside = list[str]()
    for each in everyone:
        folders = [PurePath(mount.source) for mount in each.mounts]
        near = any(folder.is_relative_to(real) or real.is_relative_to(folder) for folder in folders)
        if near or found.port in each.ports:
            own = [process.identity for process in roster.snapshot.values() if process.container == each.id]
            found.port = found.port or min(each.ports | host.ports(own), default=None)
            inside.append(each.id)
            found.fields["containers"] = [*found.fields.get("containers", []), f"name={each.name}"]
    return everyone, inside


def _name_environment(found: Found, host: Host, processes: Sequence[Process]) -> None:
    """Add the virtual environment, of any name, that a process runs from, unless the API has named one.

    What only matches a default pattern, and has nothing of the root, may be another's.
    """
    read = host.handles(processes)
    held = {each: read.get(each.identity, Handles()) for each in processes}
    for each in (each for each in processes if each.is_rooted or held[each].below):
        words = (held[each].called, *each.command[:1])
        for word in filter(None, words) if "interpreter" not in found.fields else ():
            program = Path(each.cwd, word)
            if "/" in word and os.access(program.parent.parent / "pyvenv.cfg", os.F_OK):
                found.add("interpreter", str(program))


def _describe_unseen(host: Host, roster: Roster, containers: Iterable[Container]) -> str:
    """Return the ports that may be the API's although no process of the folder is seen to listen; empty if none."""
    named = {
        each.id: f'of {each.summary}; if it is the API\'s: containers = ["image={each.image}"]' for each in containers
    }
    ports = {port: named[each.id] for each in containers for port in each.ports}
    for each in roster.snapshot.values():
        if each.container or program(each) in {"docker-proxy", "rootlessport"}:
            runs = named.get(each.container, f"in container {each.container[:12]}") if each.container else program(each)
            ports = dict.fromkeys(host.ports([each.identity]), f"of process {each.pid}, {runs}") | ports
    unseen = {port: f"of user {user}, whose process cannot be seen" for port, user in unseen_listeners().items()}
    listed = "; ".join(f"{port} {owner}" for port, owner in [*ports.items(), *sorted(unseen.items())][:MOST])
    cure = "If one is the API's, run this again as root, or with DOCKER_HOST set to its engine; else"
    return f" as far as can be seen, but ports do: {listed}. {cure}" if listed else ""
