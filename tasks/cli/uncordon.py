"""Uncordon a workload without a Prefect server."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from blocks.workload_fields import WorkloadFields
from tasks.cli.next_step import NAMELESS, Called
from tasks.cli.status import last, status
from tasks.containment.release.resume_prefect import read_prior
from tasks.containment.release.uncordon import doubtful, living, standing_strangers, still_held, uncordon
from tasks.custody.errors import Refused
from tasks.custody.incident.incident import parse_id
from tasks.custody.incident.log import CustodyLog
from tasks.guard.containers import identities
from tasks.host.container.docker_engine import DockerEngine
from tasks.host.host import Host, thaw_process
from tasks.host.wrappers import continue_above
from tasks.incident.directory import base_of, cordon_base, find_home, homes
from tasks.incident.last_word import THAWED, last_word
from tasks.incident.layout import CORDON, CUSTODY_LOG, EARLY, FROZEN_CONTAINERS, INCIDENT
from tasks.incident.run_lock import Purpose, take_ownership
from tasks.prefect_side.scheduler import PrefectScheduler
from tasks.prestart.journal import read_early, resume_containers, take_over
from tasks.runtime.actor import BY_HAND, actor
from tasks.system.files.atomic_files import read_marker, read_private


def let_go(workload: WorkloadFields, host: Host, called: Called = NAMELESS) -> Iterator[str]:
    """Uncordon, yield what was done, and log it with the incident. Raises Refused while a run is at work."""
    base, marker = base_of(workload), cordon_base(workload) / CORDON
    stands = marker.exists() or read_prior(marker)
    if not stands and not (base / EARLY).exists():
        notes = "".join(f"; systemd may start {unit} again" for unit in host.systemd.release(marker))
        yield f"no cordon stands{notes or '; nothing was done'}"
        return
    with no_run_at_work(base, "release of the cordon"):
        yield from thaw_remaining(base / EARLY, workload, host)
        if not stands:
            return
        log = CustodyLog(_home(workload) / CUSTODY_LOG, actor(BY_HAND))
        with closing(DockerEngine(workload.docker_host)) as engine:
            own_engine = engine if workload.containers else None
            yield uncordon(host, PrefectScheduler(), workload, log, own_engine).summary
    yield from status(workload, host, called)


@contextmanager
def no_run_at_work(base: Path, purpose: Purpose) -> Iterator[None]:
    """Keep runs of the workload out while the body runs. Raises Refused if one is at work."""
    ownership = take_ownership(base, purpose)
    if ownership is None:
        cure = "Wait for it, or cancel it in Prefect or by Ctrl-C where it was typed; then run this again."
        raise Refused("no evacuation of this workload at work", "one that is", cure)
    try:
        yield
    finally:
        os.close(ownership)


def thaw_remaining(path: Path, workload: WorkloadFields, host: Host) -> Iterator[str]:
    """Thaw what a run left that was killed between its early freeze and its cordon; yield what was done.

    What an incident holds is left to it. A process that is not of the workload is left to a person and stays named.
    """
    if doubts := list(doubtful(path)):
        yield from doubts
        return
    early, now, known = read_early(path), living(host, workload), still_held(workload)
    thawed = tuple(identity for identity in early.frozen if identity in now and identity not in known)
    for identity in thawed:
        thaw_process(host, identity)
    groups = {name: group for name in early.groups if (group := host.group(name)) and group.place.exists()}
    unthawed = {name: reason for name, group in groups.items() if (reason := group.thaw())}
    continue_above(host, {*thawed, *early.above}, known)
    strangers = standing_strangers(host, early.frozen, now)
    take_over(path, strangers, unthawed)
    held = identities(home / FROZEN_CONTAINERS for home in homes(workload) if last_word(home) != THAWED)
    paused = early.containers.keys()
    with closing(DockerEngine(workload.docker_host)) as engine:
        stay = resume_containers(path, engine, paused - held)
    if thawed:
        pids = ", ".join(str(identity.pid) for identity in thawed)
        yield f"thawed, a run that died before it began had frozen them: {pids}"
    if resumed := paused - read_early(path).containers.keys():
        ids = ", ".join(identity.id[:12] for identity in sorted(resumed))
        yield f"resumed, a run that died before it began had paused them 一時停止を解除: {ids}"
    yield from (*unthawed.values(), *strangers.values(), *stay)


def _home(workload: WorkloadFields) -> Path:
    """Return the folder of the incident that the marker names, else of the one opened last.

    Raises Refused if that is none of ours, because the marker may be forged.
    """
    marker = cordon_base(workload) / CORDON
    named = read_marker(marker).get("incident", "") if marker.exists() else last(workload)
    home = find_home(workload, parse_id(str(named)))
    try:
        read_private(home / INCIDENT)
    except OSError as error:
        look = "look who wrote the marker; end the guard that it names by hand and remove it"
        cure = f"Run this as the user of the evacuation. Else {look}: {marker}"
        raise Refused(f"{marker} to name an incident of this host", f"{home.name} ({error.strerror})", cure) from error
    return home
