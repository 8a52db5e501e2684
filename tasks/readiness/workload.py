"""Look at the workload as it is now: members, suspects, what is excused, files, API and models. Touches none of it."""

import json
import os
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from blocks.file import lacking, no_program
from tasks.acquisition.matching import find_names as found_files
from tasks.collectors import discover
from tasks.containment.api_port import port_of, strangers_on
from tasks.containment.starters import look_for_starters
from tasks.containment.suspects import suggest_line
from tasks.custody.errors import EvacuationError
from tasks.custody.incident.readiness import Finding, failed, fatal, loss, sound
from tasks.custody.models.content import HEAD, looks_like_a_pickle
from tasks.custody.models.inspection import OTHER_FORMAT, Soundness, named_as_model
from tasks.custody.visible import visible
from tasks.evidence import process_start
from tasks.evidence.collect import is_needed
from tasks.host.cgroup.ownership import unit_of
from tasks.host.container.engine import DockerEngine
from tasks.host.process.process import ancestry, process_line
from tasks.host.process.roster import Kind
from tasks.host.process.source import keeps_only, may_be_ended, source_of
from tasks.host.process.suspect import excuse_with_source
from tasks.host.process.table import ticks, untouchable
from tasks.models.inspect import read_model
from tasks.prefect_side.saved_blocks import secret_headers
from tasks.readiness.patient import Patient
from tasks.recovery.api_client import Api
from tasks.recovery.image_api import new_container
from tasks.recovery.recover import address_of
from tasks.recovery.rehearsal import answers_of
from tasks.system.declarations import FOLDER, account_for, of_root
from tasks.system.declarations import declared as read_declared
from tasks.system.open_beneath import real_file

_SHOWN: Final = 100
_MODEL_SECONDS: Final = 20.0
_NAMED: Final = 5
_AT_ANY_END: Final = frozenset({"always", "on-success"})
"""Values of Restart= by which systemd starts again what a graceful stop has ended."""


def members(patient: Patient) -> Finding:
    """Count the processes that a freeze would find, by role."""
    roles = [each.role for each in patient.members.values()]
    counts = ", ".join(f"{roles.count(role)} {role}" for role in dict.fromkeys(roles))
    block = patient.workload
    if "api" in roles or (roles and (block.units or block.containers)):
        rest = (
            "" if "training" in roles else "; training_pattern matches nothing now: no training runs, as far as known"
        )
        return sound(f"{counts}{rest}")
    if block.containers and not roles:
        return sound("none outside containers")
    matters = "an API that was renamed goes on serving while the rest is frozen"
    told = f"{counts or 'no process'}; api_pattern matches nothing in {block.root}"
    return loss(told, matters, f"start the API, or correct api_pattern: pgrep -af {os.fspath(block.root)}")


def suspects(patient: Patient) -> Finding:
    """Look for processes that a fact ties to the workload and no pattern matches."""
    found = patient.roster.of(Kind.SUSPECT)
    if not found:
        return sound("none")
    told = "; ".join(f"process {each.pid} {process_line(each, _SHOWN)}: {why}" for each, why in found)
    lines = filter(None, (suggest_line(patient.host, patient.workload, each) for each, _ in found))
    cure = "; ".join(dict.fromkeys(lines)) or "name its container in `containers`, or run with suspects=include"
    return fatal(told, "it lives on, and the run ends NotContained", f"in the workload block: {cure}")


def unknown(patient: Patient) -> Finding:
    """Look for processes in the root that nothing ties to the workload and nothing proves harmless."""
    found = patient.roster.of(Kind.UNKNOWN)
    if not found:
        return sound("none")
    text = "; ".join(f"process {each.pid} {process_line(each, _SHOWN)}: {why}" for each, why in found)
    cure = "; ".join(dict.fromkeys(excuse_with_source(patient.roster.snapshot, each) for each, _ in found))
    return fatal(text, "the run ends Unanswered until a person answers", f"if it is no part of the workload: {cure}")


def starters(patient: Patient) -> Finding:
    """Look for what may start the workload again after its stop: loops, supervisors, units, entries."""
    spared = {*untouchable(patient.snapshot), *(each.pid for each in patient.excused)}
    parents = ancestry(patient.snapshot, (who.pid for who in patient.members))
    others = {pid: each for pid, each in patient.snapshot.items() if each.identity not in patient.members}
    started = {source_of(each) for pid, each in others.items() if pid in parents}
    found = look_for_starters(patient.host, patient.workload, others, spared, started, ticks())
    told = "; ".join((*map(str, found.living), *found.notes))
    if not found.living:
        return sound(told or "none")
    cure = "name a service in `units`; set stop_supervisors = true for a loop; else know how to stop what is named"
    if found.living and not patient.workload.stop_supervisors:
        return fatal(told, "it starts the workload again, and the run ends NotContained", cure)
    return loss(told, "it starts the workload again, which the guard has to catch", cure)


def units(patient: Patient) -> Finding:
    """Look for services of systemd that start a member again, and that `units` does not name."""
    block = patient.workload
    services = sorted({unit_of(each.cgroup) for each in patient.processes} - {"", *block.units})
    shown = {unit: patient.host.systemd.shown(unit) for unit in services}
    again = {
        unit: restart
        for unit, properties in shown.items()
        if properties
        and _falls_with_members(patient, properties)
        and (restart := properties.get("Restart", "not known")) != "no"
    }
    if not again:
        return sound(f"{', '.join(services) or 'no service'} has members; none starts one again")
    listed = "; ".join(f"{unit} has Restart={restart}" for unit, restart in again.items())
    cure = f"in the workload block: units = {json.dumps([*block.units, *again])}"
    if block.stop_supervisors or _AT_ANY_END.isdisjoint(again.values()):
        return loss(listed, "it may start the workload again, which the guard has to catch", cure)
    return fatal(listed, "it starts the workload again, and the run ends NotContained", cure)


def _falls_with_members(patient: Patient, properties: Mapping[str, str]) -> bool:
    """Return whether a service ends with its members: its main process is one, or runs nothing else."""
    pids, snapshot = {who.pid for who in patient.members}, patient.snapshot
    main = snapshot.get(int(properties.get("MainPID") or 0))
    if main is None or main.pid in pids:
        return True
    return main not in patient.excused and may_be_ended(main) and keeps_only(snapshot, main.pid, pids)


def port(patient: Patient) -> Finding:
    """Look for other programs on the API's port, as the check after the stop does."""
    block, number = patient.workload, port_of(patient.workload)
    counts = block.names_port or number in patient.host.ports(patient.members)
    others = [*patient.roster.of(Kind.SUSPECT), *patient.roster.of(Kind.UNKNOWN)]  # have findings of their own
    own_pids = {each.pid for each in (*patient.processes, *patient.excused, *(process for process, _ in others))}
    users, known = {each.user for each in patient.processes}, {each.id for each in patient.containers}
    found = strangers_on(number if counts else None, patient.host, block, own_pids, known)
    seen = [(each.process, f"user {each.user}", why) for each, why in found if each.process or each.user not in users]
    if listed := "; ".join(f"{process_line(of, _SHOWN) if of else user}: {why}" for of, user, why in seen):
        return fatal(listed, "it serves on, and the run ends NotContained", f"ss -ltnp 'sport = :{number}'")
    return sound(f"nobody else listens on port {number}" if counts else "no port of the API is known")


def excused(patient: Patient) -> Finding:
    """Name what the block's bystanders excuse."""
    told = "; ".join(f"process {each.pid} {process_line(each, _SHOWN)}" for each in patient.excused)
    return sound(told or "none")


def files(patient: Patient) -> Finding:
    """Look for collectors whose patterns match nothing, and for files that may not be read."""
    root, block = os.fsencode(patient.workload.root), patient.workload
    found = {each: found_files(root, getattr(block, each)) for each in ("logs", "artifacts", "models")}
    unread = [f"{each.source}: {each.reason}" for _, losses in found.values() for each in losses]
    names = [os.fsdecode(name) for those, _ in found.values() for name in those]
    unread += [visible(name) for name in names if not os.access(Path(block.root, name), os.R_OK)]
    if unread:
        cure = "ls -l there; docs/setup.md, 'Accounts and containers'"
        return loss(f"not readable: {', '.join(unread[:_NAMED])}", "they are not collected: Partial", cure)
    empty = [each for each, (those, _) in found.items() if not those]
    told = ", ".join(f"{each} {getattr(block, each)}" for each in empty) or "none"
    lost = [each for each in empty if is_needed(block, discover()[each]) and each not in block.may_be_missing]
    if lost and not block.containers:
        cure = "correct the patterns, or name the collector in may_be_missing"
        return loss(f"patterns that match nothing: {told}", "a needed collector finds nothing: Partial", cure)
    return sound(f"{len(names)} files; patterns that match nothing: {told}")


def models(patient: Patient) -> Finding:
    """Judge the models that the block names, in a sandbox, as an evacuation would."""
    root, block = os.fsencode(patient.workload.root), patient.workload
    names, _ = found_files(root, block.models)
    judged = {os.fsdecode(name): _judged(root, name, patient) for name in names}
    good = [name for name, about in judged.items() if about["outcome"] is Soundness.SOUND]
    patient.has_sound_model = bool(good)
    bad = [f"{name} is {about['outcome']}: {about['reason']}" for name, about in judged.items() if _bad(about)]
    if bad or (names and not good):
        cure = "model_imports in the block, if the imports are your own; else save the model again"
        return loss(
            "; ".join(bad) or "none is sound", "no recovery starts on such a model, and latest/ goes without", cure
        )
    return sound(f"{len(good)} sound" if names else "no model is there")


def _bad(about: Mapping[str, Any]) -> bool:
    return about["outcome"] is not Soundness.SOUND and about["reason"] != OTHER_FORMAT


def _judged(root: bytes, name: bytes, patient: Patient) -> dict[str, Any]:
    try:
        with real_file(root, name).open("rb") as file:
            known = named_as_model(os.fsdecode(name)) or looks_like_a_pickle(file.read(HEAD))
            about = read_model(file, _MODEL_SECONDS, patient.workload)
    except OSError as error:
        return {"outcome": Soundness.UNKNOWN, "reason": error.strerror or str(error)}
    other = about["outcome"] is Soundness.TORN and not known
    return {"outcome": Soundness.UNKNOWN, "reason": OTHER_FORMAT} if other else about


def launch(patient: Patient) -> Finding:
    """Look whether the program that starts a training is there: the cordon is tried by it."""
    block = patient.workload
    for word in no_program(block, block.training_command):
        matters = "the cordon cannot be tried: the run fails"
        return fatal(f"training_command: {word} is no program here", matters, f"correct the block: ls -l {word}")
    return sound("training_command is there" if block.training_command else "the block names no training_command")


def declared(patient: Patient) -> Finding:
    """Look whether a file of root's says what root may freeze and start here."""
    root, (tables, broken) = patient.workload.root, read_declared()
    if of_root(root, tables) or (os.geteuid() and not broken):
        return sound(f"{root} and its commands are declared" if not os.geteuid() else "not asked: we are not root")
    found = f"not believed: {'; '.join(broken)}" if broken else f"no file of root's declares {root}"
    matters = "whoever writes to the Prefect server has root freeze, and start as the workload, what he likes"
    return loss(found, matters, f"evacuation install evacuation.toml; ls -l {FOLDER}")


def restart(patient: Patient) -> Finding:
    """Look whether what a recovery needs to start the API is there."""
    told = "; ".join(lacking(patient.workload))
    if told:
        return loss(told, "a recovery could not start the API", "correct the block, save it, and run this again")
    block, apis = patient.workload, [who.pid for who, each in patient.members.items() if each.role == "api"]
    user = next((patient.snapshot[pid].user for pid in apis), block.root.stat().st_uid)
    try:
        starts = process_start.read_starts(patient.members)
        lacks = process_start.lacking(starts, account_for(block, user), block)
        if block.api_image:
            with closing(DockerEngine(block.docker_host)) as docker:
                new_container(block, docker, account_for(block, user, container=True))
    except EvacuationError as error:
        return failed(error, "a recovery could not start the API, unless as a unit or container", loss)
    if apis and not starts and not (block.units or block.containers):
        told = "what the API runs with may not be read"
        return loss(told, "a start may lack variables", "run this as root, or name variables in api_environment")
    if lacks and not block.units:
        return loss(f"a start would lack {', '.join(lacks)}", "the API may fail", "name variables in api_environment")
    return sound("api_command and api_headers are there")


def api(patient: Patient) -> Finding:
    """Ask the API by GET, and for a prediction only with the block's canary_request. Reloads nothing."""
    matters, cure = (
        "a recovery could not be proven: PartlyRecovered or NotRecovered",
        "start it, or correct the fields of the API in the block",
    )
    try:
        headers = secret_headers(patient.workload.api_headers)
        if headers and not _is_the_workloads(patient):
            return loss("no process of the workload listens there, so the key was not sent", matters, cure)
        with Api(patient.workload, headers) as asked:
            rows = answers_of(asked, has_sound=patient.has_sound_model)
    except EvacuationError as error:
        return failed(error, matters, loss)
    if bad := [f"{what}: {why}" for what, (good, why) in rows.items() if not good]:
        return loss("; ".join(bad), matters, cure)
    return sound("; ".join(f"{what}: {why}" for what, (_, why) in rows.items()))


def _is_the_workloads(patient: Patient) -> bool:
    owners = patient.host.owners(address_of(patient.workload)[1])
    return bool(owners) and all(each.process and each.process.identity in patient.members for each in owners)


CHECKS: Final = (
    members,
    suspects,
    unknown,
    starters,
    units,
    port,
    excused,
    files,
    models,
    launch,
    declared,
    restart,
    api,
)
