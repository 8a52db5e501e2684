"""Look at the host: rights, control groups, lock, folders and their room, engine, tools, an open incident."""

import os
import stat
import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

from tasks.acquisition.collector import NothingThere
from tasks.collectors.stacks import find_spy
from tasks.containment.api_port import port_of
from tasks.containment.containers.unnamed import ask_engine, judge_unnamed
from tasks.custody.errors import EngineError, Refused
from tasks.custody.incident.description import STATE
from tasks.custody.incident.readiness import Finding, fatal, finding_of_error, loss, sound
from tasks.host.cgroup.group import Hierarchy
from tasks.host.cgroup.ownership import path_of
from tasks.host.container.docker_engine import DockerEngine
from tasks.host.file_lock import may_be_locked, tell_holder
from tasks.host.rights import effective_capabilities, hidden_from_us
from tasks.incident.current import at_work_or_left
from tasks.incident.directory import base_of, cordon_base, disks, evidence_of
from tasks.incident.layout import CORDON
from tasks.incident.run_lock import owner
from tasks.preflight.privileges import in_strange_hands, missing_rights
from tasks.preflight.requirements import (
    require_here,
    require_known_account,
    require_known_collectors,
    require_known_units,
)
from tasks.readiness.check_target import CheckTarget
from tasks.system.files.disk_reserve import MIB
from tasks.system.files.ours import why_not_followed
from tasks.system.unit_files import BOOTED, escape

_SECONDS: Final = 10.0
_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


def check_preflight(target: CheckTarget) -> Finding:
    """Ask what the preflight of a run refuses."""
    try:
        for require in (require_here, require_known_account, require_known_collectors, require_known_units):
            require(target.workload)
    except Refused as error:
        return finding_of_error(error, "the run is refused before it begins")
    return sound("host, root, account, collectors and units are as the block says")


def check_rights(target: CheckTarget) -> Finding:
    """Weigh missing capabilities by whose processes the workload consists of."""
    user, missing = os.geteuid(), missing_rights(effective_capabilities(), os.geteuid(), _owner(target))
    strangers = sorted({each.user for each in target.processes} - {user})
    summary = f"user {user}; " + ("; ".join(missing) or "has every right that is used")
    cure = f"run the worker as root by evacuation install, or as user {_owner(target)}"
    if option := hidden_from_us():
        matters = "whether others' processes are left is not known, and the run ends NotContained"
        hidden = f"{summary}; /proc hides processes of other users ({option})"
        return fatal(hidden, matters, f"{cure}, in its group gid=")
    if strangers and any("CAP_KILL" in each for each in missing):
        return fatal(f"{summary}; members of users {strangers}", "they can be neither frozen nor stopped", cure)
    if strangers and missing:
        return loss(f"{summary}; members of users {strangers}", "their evidence is not whole", cure)
    return sound(summary)


def _owner(target: CheckTarget) -> int:
    return target.workload.root.stat().st_uid


def check_groups(target: CheckTarget) -> Finding:
    """Look whether members can be moved into a control group of an incident."""
    matters = "a chain of short-lived processes cannot be held, and ends NotContained"
    cure = "loginctl enable-linger USER of the worker, or run the worker as root"
    if Hierarchy.find() is None:
        return loss("no writable mount of control groups of version 2", matters, "mount -t cgroup2 none /sys/fs/cgroup")
    paths = {path_of(each.cgroup) for each in target.processes} or {path_of(target.snapshot[os.getpid()].cgroup)}
    groups = {path: target.host.group(f"{path.rstrip('/')}/evacuation") for path in paths}
    obstacles = [(group.obstacle if group else f"{path} cannot be used") for path, group in groups.items()]
    if problems := "; ".join(filter(None, obstacles)):
        return loss(problems, matters, cure)
    return sound(f"{len(paths)} groups of the workload can be used")


def check_lock(target: CheckTarget) -> Finding:
    """Look who holds the training lock, and whether the cordon could take it; try it where no holder is seen."""
    path = target.workload.lock
    matters = "training could start under the cordon: NotContained"
    cure = f"correct `lock` in the block, or: ls -l {path}"
    try:
        status = path.lstat()
    except FileNotFoundError:
        if os.access(path.parent, os.W_OK | os.X_OK):
            return sound(f"{path} is free; the cordon makes it")
        return fatal(f"{path} is not there and cannot be made", matters, cure)
    plain = may_be_locked(status)
    if not plain or not os.access(path, os.R_OK | os.W_OK):
        return fatal(f"{path} is {'denied' if plain else 'a link or a device'}", matters, cure)
    holder = target.host.holder(path)
    if holder is None:
        unseen = f"{path} is held by what is not seen from here"
        free = sound(f"{path} is free")
        return fatal(unseen, matters, f"as root: fuser -v {path}") if target.host.refuses(path) else free
    guard = target.host.guard(cordon_base(target.workload) / CORDON)
    if ours := "the workload" if holder.identity in target.members else "the guard" if holder.identity == guard else "":
        return sound(f"{path} is held by {ours}")
    return fatal(f"{path}: {tell_holder(holder, path)}, not of the workload", matters, f"ps -fp {holder.pid}")


def check_evidence(target: CheckTarget) -> Finding:
    """Look at owner, mode and room of the evidence folder, of every folder above, and of the links that lead there."""
    folder, matters = evidence_of(target.workload), "incidents are kept in the fallback folder or in memory"
    if why := why_not_followed(folder):
        return fatal(why, f"{matters}, and none ends Verified", f"ls -ld {folder}; give evidence_dir another folder")
    finding = _folder(folder, matters, "evidence_dir")
    if not os.geteuid() and (strange := in_strange_hands(folder, 0)):
        cure = f"leave evidence_dir out, or give it a folder in which only root can write, as in {STATE}/NAME"
        return fatal(strange, "that account can take the evidence away or forge it", cure)
    disk = os.statvfs(target.evidence_place)
    return replace(finding, found=f"{finding.found}; {disk.f_bavail * disk.f_frsize >> 20} MiB free")


def check_fallback(target: CheckTarget) -> Finding:
    """Look at the fallback folder."""
    folder, matters = target.workload.fallback_dir, "what has no room is hashed where it lies"
    if folder is None:
        return sound("the block names none: what has no room in the evidence folder is hashed where it lies")
    if not folder.is_dir():
        return loss(f"{folder} is no folder", matters, f"mount or make it, or correct fallback_dir: ls -ld {folder}")
    return _folder(folder, matters, "fallback_dir")


def _folder(folder: Path, matters: str, field: str) -> Finding:
    place = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    status = place.lstat()
    summary = f"{place} of user {status.st_uid}, mode {stat.S_IMODE(status.st_mode):04o}"
    if not stat.S_ISDIR(status.st_mode):
        return loss(f"{place} is a link or a file", matters, f"give {field} a folder of its own: ls -ld {place}")
    if not os.access(place, os.W_OK | os.X_OK):
        return loss(f"{summary}, is not writable", matters, f"let the worker's user write there: ls -ld {place}; mount")
    if strange := in_strange_hands(folder, os.geteuid()):
        return loss(strange, "that account can forge evidence", f"ls -ld {folder}; move {field}")
    if place == folder and status.st_mode & _OTHERS and not status.st_mode & stat.S_ISVTX:
        return loss(summary, "other accounts can put files there", f"chmod go-w {place}")
    return sound(summary)


def check_room(target: CheckTarget) -> Finding:
    """Compare size and number of the files that would be copied with the room for them."""
    place = target.evidence_place
    fits, summary = target.fits(place, target.workload.reserve_mb * MIB)
    if fits:
        return sound(summary)
    matters = "what has no room is hashed where it lies, and lost if it changes before it is sent: Partial"
    return loss(summary, matters, f"df -h {place}; df -i {place}; make room, or give fallback_dir on another disk")


def check_engine(target: CheckTarget) -> Finding:
    """Ask the container engine, if the block names containers."""
    rules = target.workload.containers
    if not rules:
        return sound("the block names no containers")
    try:
        containers = target.containers
    except EngineError as error:
        matters = "no container is paused or stopped: NotContained"
        return fatal(str(error), matters, "start it, or let the worker's user reach its socket: docker ps")
    if not containers:
        summary = f"no living container matches {rules}"
        return loss(summary, "what is renamed goes on running", "docker ps; correct containers")
    return sound(", ".join(each.summary for each in containers))


def check_unnamed(target: CheckTarget) -> Finding:
    """Look for containers that the block does not name and that have a part of the workload."""
    block = target.workload
    port, pids = port_of(block) if block.names_port else None, [each.pid for each in target.excused_processes]
    with closing(DockerEngine(block.docker_host)) as docker:
        suspects, notes = judge_unnamed(ask_engine(docker, block.containers), block, port, target.snapshot, pids)
    if suspects:
        cure = "name it in `containers` of the block, or stop it: docker ps"
        return fatal("; ".join(suspects.values()), "it lives on, and the run ends NotContained", cure)
    return sound("; ".join(notes) or "none")


def check_spy(target: CheckTarget) -> Finding:
    """Look for py-spy, and whether it runs."""
    del target
    try:
        command = [find_spy(), "--version"]
        process = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (NothingThere, OSError, subprocess.SubprocessError) as error:
        return loss(str(error), "the stacks of the frozen processes are missing", "uv pip install py-spy")
    return sound(process.stdout.strip())


def check_guard(target: CheckTarget) -> Finding:
    """Look whether systemd starts the guard again after a reboot."""
    if not BOOTED.is_dir():
        return sound("no systemd here: after a reboot under a cordon, carry the incident on")
    units = [f"evacuation-guard@{escape(folder)}.service" for folder in disks(target.workload)]
    answers = {unit: target.host.systemd.tell("is-enabled", "--quiet", "--", unit) for unit in units}
    if problems := "; ".join(f"{unit} is not enabled: {why}" for unit, why in answers.items() if why):
        matters = "after a reboot in the middle of an evacuation nothing keeps training out"
        return loss(problems, matters, "evacuation install evacuation.toml")
    return sound(f"{', '.join(units)}: enabled")


def check_incident(target: CheckTarget) -> Finding:
    """Look for an incident that is open, and for a cordon, also one that a reboot has left without its guard."""
    marker = cordon_base(target.workload) / CORDON
    if marker.exists() and not target.host.guard(marker) and not owner(base_of(target.workload)):
        state, matters = f"a cordon stands without a guard: {marker}", "training starts under it, and nothing stops it"
        cure = "evacuation status evacuation.toml; carry the incident on, or: evacuation uncordon"
        return fatal(state, matters, cure)
    if state := at_work_or_left(target.workload):
        matters = "no training starts, and what is written here is about a host in the middle of an incident"
        return loss(state, matters, "evacuation status evacuation.toml")
    return sound("none is open, no cordon stands")
