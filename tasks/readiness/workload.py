"""Look at the workload as it is now: members, suspects, what is excused, files, API and models. Touches none of it."""

import json
import os
from collections.abc import Collection, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Final

from blocks.file import lacking, no_program
from tasks.acquisition.matching import find_names as found_files
from tasks.acquisition.remainder import in_a_line
from tasks.collectors import discover
from tasks.containment.api_port import port_of, strangers_on
from tasks.containment.starters import look_for_starters
from tasks.containment.supervisors import find_launchers
from tasks.containment.suspects import suggest_line, tell_starter
from tasks.custody.errors import EvacuationError
from tasks.custody.incident.readiness import Finding, fatal, finding_of_error, loss, sound
from tasks.custody.models.content import BEGINNING, looks_like_a_model
from tasks.custody.models.inspection import (
    JUDGED,
    OTHER_FORMAT,
    ModelFinding,
    Soundness,
    line_of_formats,
    of_another_format,
    why_none,
)
from tasks.custody.visible import visible
from tasks.evidence import process_start
from tasks.evidence.collect import is_needed, required_folders
from tasks.host.cgroup.ownership import unit_of
from tasks.host.container.docker_engine import DockerEngine
from tasks.host.judgement.case import Kind
from tasks.host.judgement.suspect import excuse, excuse_with_source, fold_alike, tell_other_end
from tasks.host.process.process import ancestry, process_line
from tasks.host.process.source import keeps_only, may_be_ended, source_of
from tasks.host.process.table import ticks, untouchable
from tasks.models.inspect import read_model
from tasks.prefect_side.saved_blocks import secret_headers
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.named_model import containers_on, find_uncollected, is_the_workloads
from tasks.recovery.api_client import Api
from tasks.recovery.image_api import new_container
from tasks.recovery.own_house import why_not_roots
from tasks.recovery.rehearsal import answers_of
from tasks.system.declarations import FOLDER, account_for, of_root
from tasks.system.declarations import read_declarations as read_declared
from tasks.system.files.open_beneath import real_file

_SHOWN: Final = 100
_MODEL_SECONDS: Final = 20.0
_NAMED: Final = 5
_NAME_MODEL: Final = (
    "name its file in models; if its format is not read here, and you trust what reads it, its suffix in model_formats "
    "モデルのファイルを models に、対応外の形式なら model_formats にも指定"
)
_AT_ANY_END: Final = frozenset({"always", "on-success"})
"""Values of Restart= by which systemd starts again what a graceful stop has ended."""


def check_members(target: CheckTarget) -> Finding:
    """Count the processes that a freeze would find, by role."""
    roles = [each.role for each in target.members.values()]
    counts = ", ".join(f"{roles.count(role)} {role}" for role in dict.fromkeys(roles))
    block = target.workload
    if "api" in roles or (roles and (block.units or block.containers)):
        rest = "; training_pattern matches nothing now: no training runs, as far as known"
        return sound(f"{counts}{'' if 'training' in roles else rest}")
    if block.containers and not roles:
        return sound("none outside containers")
    matters = "an API that was renamed goes on serving while the rest is frozen"
    summary = f"{counts or 'no process'}; api_pattern matches nothing in {block.root}"
    return loss(summary, matters, f"start the API, or correct api_pattern: pgrep -af {os.fspath(block.root)}")


def check_suspects(target: CheckTarget) -> Finding:
    """Look for processes that a fact ties to the workload and no pattern matches."""
    suspects = target.roster.of(Kind.SUSPECT)
    if not suspects:
        return sound("none")
    rows = fold_alike(target.roster, suspects)
    summary = "; ".join(f"process {each.pid} {process_line(each, _SHOWN)}: {why}{more}" for each, why, more in rows)
    roster = target.roster
    lines = [
        suggest_line(target.host, target.workload, each, roster) or tell_other_end(roster, each) for each, _ in suspects
    ]
    cure = f"if it is the workload's: {'; '.join(dict.fromkeys(lines))}"
    if others := "; ".join(dict.fromkeys(filter(None, (excuse(roster, each) for each, _ in suspects)))):
        cure = f"{cure}; if it is another's: {others}"
    return fatal(summary, "it lives on, and the run ends NotContained", f"in the workload block, {cure}")


def check_unknown(target: CheckTarget) -> Finding:
    """Look for processes in the root that nothing ties to the workload and nothing proves harmless."""
    processes = target.roster.of(Kind.UNKNOWN)
    if not processes:
        return sound("none")
    text = "; ".join(f"process {each.pid} {process_line(each, _SHOWN)}: {why}" for each, why in processes)
    snapshot, line_of = target.roster.snapshot, partial(excuse, target.roster)
    cure = "; ".join(dict.fromkeys(excuse_with_source(snapshot, each, line_of) for each, _ in processes))
    cure = f"if it is no part of the workload: {cure}"
    above = [(ancestry(target.snapshot, [each.pid]), role.role) for each, role in target.members.items()]
    started = {each: {role for pids, role in above if each.pid in pids} for each, _ in processes}
    starters = (tell_starter(target.workload, each, roles, target.roster) for each, roles in started.items())
    cure = "; ".join([*filter(None, starters), cure])
    return fatal(text, "the run ends Unanswered until a person answers", cure)


def check_starters(target: CheckTarget) -> Finding:
    """Look for what may start the workload again after its stop: loops, supervisors, units, entries."""
    pids = {*untouchable(target.snapshot), *(each.pid for each in target.excused_processes)}
    parents = ancestry(target.snapshot, (identity.pid for identity in target.members))
    others = {pid: each for pid, each in target.snapshot.items() if each.identity not in target.members}
    sources = {source_of(each) for pid, each in others.items() if pid in parents}
    found = look_for_starters(target.host, target.workload, others, pids, sources, ticks())
    summary = "; ".join((*map(str, found.living), *found.notes))
    launchers = [each for each in find_launchers(target.snapshot, target.members) if each.pid not in pids]
    if launchers and not found.living:
        shown = (f"process {each.pid} {process_line(each, _SHOWN)}" for each in launchers)
        rows = (f"{each} has started the workload, or may have" for each in shown)
        lines = filter(None, (excuse(target.roster, each) for each in launchers))
        cure = f"if it starts nothing by itself 自動では起動しないなら: {'; '.join(dict.fromkeys(lines))}"
        return loss("; ".join([*rows, *found.notes]), "if it lives on, the run ends Unanswered until answered", cure)
    if not found.living:
        return sound(summary or "none")
    cure = "name a service in `units`; set stop_supervisors = true for a loop; else know how to stop what is named"
    if found.living and not target.workload.stop_supervisors:
        return fatal(summary, "it starts the workload again, and the run ends NotContained", cure)
    return loss(summary, "it starts the workload again, which the guard has to catch", cure)


def check_units(target: CheckTarget) -> Finding:
    """Look for services of systemd that start a member again, and that `units` does not name."""
    block = target.workload
    services = sorted({unit_of(each.cgroup) for each in target.processes} - {"", *block.units})
    properties_of = {unit: target.host.systemd.show(unit) for unit in services}
    falling = {unit: each for unit, each in properties_of.items() if each and _falls_with_members(target, each)}
    policies = {unit: properties.get("Restart", "not known") for unit, properties in falling.items()}
    restarts = {unit: restart for unit, restart in policies.items() if restart != "no"}
    if not restarts:
        return sound(f"{', '.join(services) or 'no service'} has members; none starts one again")
    summary = "; ".join(f"{unit} has Restart={restart}" for unit, restart in restarts.items())
    cure = f"in the workload block: units = {json.dumps([*block.units, *restarts])}"
    if block.stop_supervisors or _AT_ANY_END.isdisjoint(restarts.values()):
        return loss(summary, "it may start the workload again, which the guard has to catch", cure)
    return fatal(summary, "it starts the workload again, and the run ends NotContained", cure)


def _falls_with_members(target: CheckTarget, properties: Mapping[str, str]) -> bool:
    """Return whether a service ends with its members: its main process is one, or runs nothing else."""
    pids, snapshot = {identity.pid for identity in target.members}, target.snapshot
    main = snapshot.get(int(properties.get("MainPID") or 0))
    if main is None or main.pid in pids:
        return True
    return main not in target.excused_processes and may_be_ended(main) and keeps_only(snapshot, main.pid, pids)


def check_port(target: CheckTarget) -> Finding:
    """Look for other programs on the API's port, as the check after the stop does."""
    block, number = target.workload, port_of(target.workload)
    serves = number in target.host.ports(target.members)
    counts = block.names_port or serves
    others = [*target.roster.of(Kind.SUSPECT), *target.roster.of(Kind.UNKNOWN)]  # have findings of their own
    known_processes = (*target.processes, *target.excused_processes, *(process for process, _ in others))
    own_pids = {each.pid for each in known_processes}
    users, containers = {each.user for each in target.processes}, {each.id for each in target.containers}
    strangers = strangers_on(number if counts else None, target.host, block, own_pids, containers)
    rows = ((each.process, each.user, why) for each, why in strangers if each.process or each.user not in users)
    if summary := "; ".join(f"{process_line(of, _SHOWN) if of else f'user {user}'}: {why}" for of, user, why in rows):
        return fatal(summary, "it serves on, and the run ends NotContained", f"ss -ltnp 'sport = :{number}'")
    if number is None or not counts:
        return sound("no port of the API is known")
    listening = {each.process.pid for each in target.host.owners(number) if each.process}
    heard = ((of, why) for of, why in others if of.pid in listening)
    if known := "; ".join(f"process {of.pid} {process_line(of, _SHOWN)}: {why}" for of, why in heard):
        matters = "whose it is has to be said first: it may serve on"
        return fatal(f"on port {number} listens {known}", matters, "as said of it above")
    if excused := [str(each.pid) for each in target.excused_processes if each.pid in listening]:
        return sound(f"of others only who is excused listens on port {number}: process {', '.join(excused)}")
    listener = _listener(target, number, listening - own_pids)
    return sound(listener or f"nobody {'else ' * serves}listens on port {number}")


def _listener(target: CheckTarget, port: int, rest: Collection[int]) -> str:
    """Return which containers have a port, else whose proxies: `rest` are pids on it of which nothing else is known."""
    if names := sorted(each.name for each in containers_on(port, target)):
        return f"container {', '.join(names)} has port {port}; nobody else listens there"
    proxies = [f"process {pid} {process_line(target.snapshot[pid], _SHOWN)}" for pid in rest if pid in target.snapshot]
    return f"on port {port} listens {'; '.join(proxies)}, of no container of the block" if proxies else ""


def check_excused(target: CheckTarget) -> Finding:
    """Name what the block's bystanders excuse."""
    summary = "; ".join(f"process {each.pid} {process_line(each, _SHOWN)}" for each in target.excused_processes)
    return sound(summary or "none")


def check_files(target: CheckTarget) -> Finding:
    """Look for collectors whose patterns match nothing, and for files that may not be read."""
    root, block = os.fsencode(target.workload.root), target.workload
    matches = {each: found_files(root, getattr(block, each)) for each in ("logs", "artifacts", "models")}
    unread = [f"{each.source}: {each.reason}" for _, losses in matches.values() for each in losses]
    names = [os.fsdecode(name) for those, _ in matches.values() for name in those]
    unread += [visible(name) for name in names if not os.access(Path(block.root, name), os.R_OK)]
    if unread:
        cure = "ls -l there; docs/setup.md, 'Accounts and containers'"
        return loss(f"not readable: {', '.join(unread[:_NAMED])}", "they are not collected: Partial", cure)
    if gone := [each for each in required_folders(block) if not os.path.lexists(block.root / each)]:
        cure = 'correct the name in folders, or may_be_missing = ["folders"]'
        return loss(f"folders that are not there: {', '.join(gone)}", "a needed collector loses them: Partial", cure)
    empty = [each for each, (those, _) in matches.items() if not those]
    summary = ", ".join(f"{each} {getattr(block, each)}" for each in empty) or "none"
    needed_names = [each for each in empty if is_needed(block, discover()[each]) and each not in block.may_be_missing]
    if needed_names and not block.containers:
        cure = "correct the patterns, or name the collector in may_be_missing"
        return loss(f"patterns that match nothing: {summary}", "a needed collector finds nothing: Partial", cure)
    line = in_a_line(target.root_walk.remainders)
    return sound("; ".join(filter(None, (f"{len(names)} files; patterns that match nothing: {summary}", line))))


def check_models(target: CheckTarget) -> Finding:
    """Judge the models that the block names, in a sandbox, as an evacuation would."""
    root, block = os.fsencode(target.workload.root), target.workload
    names, _ = found_files(root, block.models)
    findings = [_judge_model(root, name, target) for name in names]
    good = [each.stored for each in findings if each.outcome is Soundness.SOUND]
    unjudged = [each.stored for each in findings if of_another_format(each)]
    bad = [each.summary for each in findings if each.stored not in {*good, *unjudged}]
    is_in_container = not names and bool(containers_on(port_of(block), target))
    target.unsound = "" if is_in_container else why_none(findings)
    line = line_of_formats(findings, block.model_formats)
    trust = f"if you trust what reads them 信頼するなら: {line} in the block; else " if line else ""
    number = f"{len(unjudged)} model{' is' if len(unjudged) == 1 else 's are'}"
    of_format = f"{number} of a format that is not judged" if unjudged else ""
    if lost := find_uncollected(target):
        matters = "the run ends Partial, whatever may_be_missing says"
        return loss("; ".join(each.problem for each in lost), matters, "; ".join(each.cure for each in lost))
    if is_in_container:
        return sound("none in the root; those of the API's container are judged by a rehearsal: evacuation plan")
    if bad:
        cure = "model_imports in the block, if the imports are your own; else save the model again"
        target.model_cure, matters = cure, "no recovery starts on such a model, and latest/ goes without"
        return loss("; ".join(filter(None, (*bad, of_format))), matters, cure)
    if unjudged and not good:
        reasons = "".join([*dict.fromkeys(each.reason.removeprefix(OTHER_FORMAT) for each in findings)][:_NAMED])
        cure = f"{trust}after a recovery prove by hand which model the API serves; or save models by pickle or joblib"
        target.model_cure = cure
        return loss(f"{of_format}{reasons}; judged are {JUDGED}", _tell_unjudged(root, unjudged), cure)
    return sound("; ".join(filter(None, (f"{len(good)} sound", of_format))) if names else "no model is there")


def _tell_unjudged(root: bytes, names: Collection[str]) -> str:
    """Return what becomes of models that nobody judges: of JSON it is known whether it is whole."""
    whole = [name for name in names if name.endswith(".json") and not _may_be_pickled(root, name)]
    rest = [name for name in names if name not in whole]
    parts = ["no recovery is proven by such a model (PartlyRecovered), nor takes it as --model"]
    parts += [f"latest/ gets {', '.join(whole[:_NAMED])}{' …' * bool(whole[_NAMED:])} if it is whole"] if whole else []
    parts += [f"latest/ goes without {', '.join(rest[:_NAMED])}{' …' * bool(rest[_NAMED:])}"] if rest else []
    return "; ".join(parts)


def _may_be_pickled(root: bytes, name: str) -> bool:
    with suppress(OSError), real_file(root, os.fsencode(name)).open("rb") as file:
        return looks_like_a_model(file.read(BEGINNING))
    return True


def _judge_model(root: bytes, name: bytes, target: CheckTarget) -> ModelFinding:
    path = os.fsdecode(name)
    try:
        with real_file(root, name).open("rb") as file:
            return ModelFinding(path, "", **read_model(path, file, _MODEL_SECONDS, target.workload))
    except OSError as error:
        return ModelFinding(path, "", Soundness.UNKNOWN, error.strerror or str(error))


def check_launch(target: CheckTarget) -> Finding:
    """Look whether the program that starts a training is there: the cordon is tried by it."""
    block = target.workload
    for word in no_program(block, block.training_command):
        matters = "the cordon cannot be tried: the run fails"
        return fatal(f"training_command: {word} is no program here", matters, f"correct the block: ls -l {word}")
    return sound("training_command is there" if block.training_command else "the block names no training_command")


def check_declared(target: CheckTarget) -> Finding:
    """Look whether a file of root's says what root may freeze and start here."""
    root, (tables, broken) = target.workload.root, read_declared()
    if of_root(root, tables) or (os.geteuid() and not broken):
        return sound(f"{root} and its commands are declared" if not os.geteuid() else "not asked: we are not root")
    problem = f"not believed: {'; '.join(broken)}" if broken else f"no file of root's declares {root}"
    matters = "whoever writes to the Prefect server has root freeze, and start as the workload, what he likes"
    return loss(problem, matters, f"evacuation install evacuation.toml; ls -l {FOLDER}")


def check_restart(target: CheckTarget) -> Finding:
    """Look whether what a recovery needs to start the API is there."""
    block, apis = target.workload, [identity.pid for identity, each in target.members.items() if each.role == "api"]
    in_units = apis and {unit_of(target.snapshot[pid].cgroup) for pid in apis} <= {*block.units}
    in_container = not block.api_image and containers_on(port_of(block), target)
    if reason := "; ".join(lacking(block, command=not (in_units or in_container))):
        return loss(reason, "a recovery could not start the API", "correct the block, save it, and run this again")
    if block.containers and not apis and not block.api_image:
        with_it = "with whatever its image and command start, be it a training"
        return sound(f"no API runs as a process; one in the block's containers is started in its own again, {with_it}")
    user = next((target.snapshot[pid].user for pid in apis), block.root.stat().st_uid)
    try:
        starts = process_start.read_starts(target.members)
        account = account_for(block, user, why_not_roots=lambda: why_not_roots(block, starts))
        lacks = process_start.lacking(starts, account, block)
        if block.api_image:
            with closing(DockerEngine(block.docker_host)) as docker:
                new_container(block, docker, account_for(block, user, container=True))
    except EvacuationError as error:
        return finding_of_error(error, "a recovery could not start the API, unless as a unit or container", loss)
    if apis and not starts and not (block.units or block.containers):
        reason = "what the API runs with may not be read"
        return loss(reason, "a start may lack variables", "run this as root, or name variables in api_environment")
    if lacks and not block.units:
        by_hand = "recover by hand as root, or " if os.geteuid() else ""
        cure = f"name variables in api_environment; for what is no variable {by_hand}run it as a service (units)"
        return loss(f"a start would lack {', '.join(lacks)}", "the API may fail", cure)
    return sound("api_command and api_headers are there")


def check_api(target: CheckTarget) -> Finding:
    """Ask the API by GET, and for a prediction only with the block's canary_request. Reloads nothing."""
    matters = "a recovery could not be proven: PartlyRecovered or NotRecovered"
    cure = "start it, or correct the fields of the API in the block"
    try:
        headers = secret_headers(target.workload.api_headers)
        if headers and not is_the_workloads(target):
            return loss("no process of the workload listens there, so the key was not sent", matters, cure)
        with Api(target.workload, headers) as client:
            rows = answers_of(client, target.unsound)
    except EvacuationError as error:
        return finding_of_error(error, matters, loss)
    if bad := {what: why for what, (good, why) in rows.items() if not good}:
        if target.unsound and bad.get("the model", "").endswith(target.unsound):
            of_model = target.model_cure or _NAME_MODEL
            cure = of_model if len(bad) == 1 else f"{cure}; of the model: {of_model}"
        return loss("; ".join(f"{what}: {why}" for what, why in bad.items()), matters, cure)
    return sound("; ".join(f"{what}: {why}" for what, (_, why) in rows.items()))
