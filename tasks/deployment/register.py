"""Register what a Prefect server needs for a workload, in one command: `evacuation deploy`. It is idempotent.

Block types and blocks, the pool, the queues of the workload's host, the deployments and alarms of prefect.yaml, the
automation that finds runs that have gone silent, and what tells people.
"""

import socket
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Final
from uuid import UUID
from zlib import crc32
from zoneinfo import available_timezones

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from blocks import EvidenceStore, Fleet, SigningKey, Workload
from blocks.file import load
from blocks.file import save as save_blocks
from blocks.saved import asking_server
from tasks.containment.containers.named import find_named
from tasks.containment.suspects import roster_now
from tasks.custody.errors import EngineError, Refused
from tasks.custody.incident.description import read_tables
from tasks.custody.incident.exit_codes import REFUSED
from tasks.custody.incident.news import PEOPLE, TELL
from tasks.custody.visible import say
from tasks.deployment.automations import (
    long_runs,
    message_of_cancelled_fleets,
    message_of_each_end,
    put,
    silent_runs,
    unbegun_runs,
    untaken_messages,
    untaken_runs,
)
from tasks.deployment.deployments import deploy, find_deployments, template, templates
from tasks.host.host import LinuxHost
from tasks.incident.directory import evidence_of
from tasks.prefect_side.saved_blocks import load_block
from tasks.system.files.ours import why_not_followed
from tasks.system.installation import NAME
from tasks.system.parallel import side_by_side

_AT_ONCE: Final = 3
"""Workloads that are deployed at the same time: the server works while we prepare the next request."""
FLEETS: Final = "fleet"
"""The queue that runs of fleets wait in."""
_QUEUES: Final = {
    "": "Evacuations of the workloads of this host; its worker serves it.",
    "-training": "Training on this host; a cordon may pause it.",
}


@dataclass(frozen=True)
class DeploymentTarget:
    """One workload, where its evidence goes, and the host that its worker runs on."""

    workload: str
    store: str
    host: str

    def variables(self, pool: str, engine: str) -> dict[str, str]:
        """Return the values of the variables in prefect.yaml, by their names there."""
        minute = str(crc32(self.workload.encode()) % 60)
        zone = str(Path("/etc/localtime").resolve()).rpartition("zoneinfo/")[2]  # UTC if the link names none
        zone = zone if zone in available_timezones() else "UTC"
        return {**asdict(self), "pool": pool, "python": engine, "minute": minute, "zone": zone}


def load_target(name: str, store: str) -> DeploymentTarget:
    """Return the target of blocks that are saved on the server. Raises Refused for one that is unknown or invalid."""
    workload: Workload = load_block(Workload, name)
    load_block(EvidenceStore, store)
    _require_followed(name, workload)
    return DeploymentTarget(name, store, workload.host)


def save(path: Path) -> tuple[list[DeploymentTarget], list[str]]:
    """Save every block of a file; return its workloads as targets, and its fleets' names.

    Raises Refused if a workload has no store, if there is neither a workload nor a fleet, or if workloads beside a
    fleet would share the ids of their incidents.
    """
    blocks = load(path)
    fleets = [name for name, block in blocks if isinstance(block, Fleet)]
    stores = {name: block for name, block in blocks if isinstance(block, EvidenceStore)}
    workloads = [(name, block) for name, block in blocks if isinstance(block, Workload)]
    each_has_one = len(stores) == 1 or {name for name, _ in workloads} <= stores.keys()
    if not (workloads or fleets) or (workloads and not each_has_one):
        raise Refused(
            "a [workload.NAME] with a [store.NAME] of the same name, or one store for all",
            f"workloads {', '.join(name for name, _ in workloads) or 'none'}; stores {', '.join(stores) or 'none'}",
            "Nothing was saved. Correct the file, or save the blocks and give --name and --store.",
        )
    store = next(iter(stores), "")
    targets = [DeploymentTarget(name, name if name in stores else store, block.host) for name, block in workloads]
    if fleets:
        _require_apart(targets, {name: block.incident_suffix for name, block in workloads})
    for name, block in workloads:
        _require_followed(name, block)
    save_blocks(blocks)
    say(*_one_latest(targets, stores))
    return targets, fleets


def _one_latest(targets: Sequence[DeploymentTarget], stores: Mapping[str, EvidenceStore]) -> Iterator[str]:
    """Yield which workloads promote into one latest/: a file of one replaces what another has under its name."""
    sharing = dict[tuple[str | None, str], list[str]]()
    for target in targets:
        if (store := stores[target.store]).latest != "never":
            sharing.setdefault((store.endpoint, store.place), []).append(target.workload)
    for (_, place), names in sharing.items():
        if len(names) > 1:
            cure = 'give each a folder or prefix of its own, or latest = "never".'
            shared = f"{', '.join(names)} share {place}/latest/, each file is the last one's latest/ を共有"
            yield f"{shared}. Unless they are copies of one service, {cure}"


def _require_followed(name: str, block: Workload) -> None:
    """Raise Refused if a link leads to a workload's evidence folder on this host that another account can change."""
    if block.host == socket.gethostname() and (why := why_not_followed(evidence_of(block))):
        cure = "Nothing was deployed. Give evidence_dir a folder in which only the evacuation's account can write."
        raise Refused(f"an evidence folder of {name} that is the evacuation's own", why, cure)


def _require_apart(targets: list[DeploymentTarget], suffixes: Mapping[str, str]) -> None:
    """Raise Refused if incidents that a fleet opens in the same second would have one id in one store."""
    counts = Counter((target.store, suffixes[target.workload]) for target in targets)
    if names := [each.workload for each in targets if counts[each.store, suffixes[each.workload]] > 1]:
        raise Refused(
            "workloads of a fleet with a store or an incident_suffix of their own",
            f"the same for {', '.join(names)}",
            'Nothing was saved. Give each a [store.NAME] of its name, or incident_suffix = "NAME".',
        )


def register() -> None:
    """Register the block types, so that the UI has their forms."""
    for kind in (Workload, EvidenceStore, SigningKey, Fleet):
        kind.register_type_and_schema()


def make_pool(client: SyncPrefectClient, pool: str) -> None:
    """Create the evacuation's pool, and its queue of messages. Raises Refused for a pool of that name of another type.

    The queue is created even if nobody is notified: a worker that polls a missing queue gets no runs at all.
    """
    try:
        kind = client.read_work_pool(pool).type
    except ObjectNotFound:
        description = "Evacuations, and the training that they may pause. A worker on each host. 緊急撤収。"
        kind = client.create_work_pool(WorkPoolCreate(name=pool, type="process", description=description)).type
        print(f"made the work pool {pool}")
    if kind != "process":
        raise Refused(
            f"{pool} to be a pool of type process: the evacuation acts on the worker's own host",
            kind,
            "Nothing was deployed. Give --pool, another name.",
        )
    make_queue(client, pool, PEOPLE, "Messages to people. At least one worker serves it.")


def make_queue(client: SyncPrefectClient, pool: str, name: str, description: str) -> None:
    """Create a queue unless there is one of that name.

    A later queue comes later in the pool's order: to name its place would move all others of a large pool.
    """
    with suppress(ObjectAlreadyExists):
        client.create_work_queue(name, description=description, work_pool_name=pool)
        print(f"made the queue {pool}/{name}")


def notification_block(client: SyncPrefectClient, notify: str) -> UUID:
    """Return the id of the saved notification block. Raises Refused for a name that the server does not know."""
    kind, _, name = notify.partition("/")
    try:
        return client.read_block_document_by_name(name, kind).id
    except ObjectNotFound as error:
        raise Refused(
            "a saved notification block, as in slack-webhook/ops or custom-webhook/ops",
            repr(notify),
            "Save it (docs/triggers.md, 'Tell people') and run this again.",
        ) from error


def deploy_fleet(fleet: str, pool: str, engine: str) -> str:
    """Deploy examples/fleet/fleet.yaml for one fleet; return what is left to do."""
    with get_client(sync_client=True) as client:
        make_pool(client, pool)
        make_queue(client, pool, FLEETS, "Runs of fleets. A worker anywhere that reaches server and store serves it.")
        values = {"fleet": fleet, "pool": pool, "queue": FLEETS, "python": engine}
        all_of = templates(client, "examples/fleet/fleet.yaml")
        deploy(client, all_of, values, find_deployments(client, all_of, [values]))
        put(client, silent_runs())
    print(f"deployed the fleet {fleet} on {pool}/{FLEETS}")
    return f"worker of fleets: {_command(engine)} worker --pool {pool} --work-queue {FLEETS} --work-queue {PEOPLE}"


def _command(engine: str) -> str:
    return quote(str(Path(engine).with_name(NAME)))


def deploy_people(pool: str, engine: str, notify: Sequence[str]) -> None:
    """Deploy what tells people by saved notification blocks, each as TYPE/NAME. Raises Refused for an unknown one.

    That is the flow `tell`, the automations that start it, and one that sends where no worker is left.
    """
    with get_client(sync_client=True) as client:
        blocks = [notification_block(client, each) for each in notify]
        make_pool(client, pool)
        command, heartbeat = f"{quote(engine)} -P -m prefect.engine", {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
        where = {"work_queue_name": PEOPLE, "job_variables": {"command": command, "env": heartbeat}}
        fields = {"tags": [PEOPLE], "parameters": {"to": list(notify)}, "work_pool": {"name": pool, **where}}
        tell = template(client, {"name": PEOPLE, "entrypoint": "flows.tell.tell", **fields})
        deploy(client, [tell], {}, find_deployments(client, [tell], [{}]))
        deployment_id = client.read_deployment_by_name(f"{TELL}/{PEOPLE}").id
        of_runs = (message_of_each_end, message_of_cancelled_fleets, long_runs, untaken_runs, unbegun_runs)
        for automation in (*(make(deployment_id) for make in of_runs), untaken_messages(blocks)):
            put(client, automation)
    print(f"deployed messages to {', '.join(notify)}")


def deploy_all(targets: list[DeploymentTarget], pool: str, engine: str, also: Sequence[str] = ()) -> Iterator[str]:
    """Deploy each; yield what is left to do, a line each. `also` are queues that the workers of all hosts serve."""
    with get_client(sync_client=True) as client:
        prepare(client, pool, {target.host for target in targets})
        all_of = templates(client)
        every = [target.variables(pool, engine) for target in targets]
        existing = find_deployments(client, all_of, every)
        results = side_by_side(lambda values: deploy(client, all_of, values, existing), every, _AT_ONCE)
        for target, _ in zip(targets, results, strict=True):
            print(f"deployed {target.workload} on {pool}/{target.host}, evidence to {target.store}")
    for host in sorted({target.host for target in targets}):
        yield worker_of(host, pool, engine, also)


def prepare(client: SyncPrefectClient, pool: str, hosts: Iterable[str]) -> None:
    """Make what the deployments of workloads on these hosts need: pool, queues, the automation of silent runs."""
    make_pool(client, pool)
    for name, description in ((host + suffix, each) for host in sorted(hosts) for suffix, each in _QUEUES.items()):
        make_queue(client, pool, name, description)
    put(client, silent_runs())


def worker_of(host: str, pool: str, engine: str, also: Sequence[str]) -> str:
    """Return the line that starts a host's worker, which serves its own queues and these."""
    queues = " ".join(f"--work-queue {name}" for name in (*(host + suffix for suffix in _QUEUES), *also))
    return f"worker on {host}: {_command(engine)} worker --pool {pool} {queues} --name {host}"


def find_hindrances(target: DeploymentTarget) -> Iterator[str]:
    """Yield how many processes an evacuation would end NotContained or Unanswered for now, if it is this host's."""
    if target.host != socket.gethostname():
        return
    workload: Workload = load_block(Workload, target.workload)
    container_ids: list[str] | None = None
    with suppress(EngineError):
        container_ids = [each.id for each in find_named(workload)]
    roster = roster_now(LinuxHost(workload.api_port, root=workload.root), workload, container_ids)
    counts = {"suspect 不審": len(roster.suspects), "not known 未確認": len(roster.unknown)}
    if summary := ", ".join(f"{count} {word}" for word, count in counts.items() if count):
        yield (
            f"{target.workload}: {summary} beside the workload now, each of which would hinder a green end; "
            f"evacuation doctor {target.workload} names them, with their lines"
        )


def deploy_by_hand(file: str, *, name: str, store: str, pool: str, engine: str, notify: Sequence[str]) -> int:  # noqa: PLR0913
    """Deploy the workloads of a file, whose blocks are saved first, or the saved one of this `name` and `store`.

    `engine` is the worker's Python, `notify` what tells people. Raises EvacuationError.
    """
    if bool(file) == bool(name):
        got = "both" if file else "neither"
        raise Refused("either FILE or --name", got, "As in: evacuation deploy evacuation.toml")
    if file:
        read_tables(Path(file))
    try:
        with asking_server():
            register()
            targets, fleets = save(Path(file)) if file else ([load_target(name, store or name)], [])
            engine = engine or sys.executable
            if notify:
                deploy_people(pool, engine, notify)
            if targets:
                say(*deploy_all(targets, pool, engine, () if fleets else (PEOPLE,)))
                say(*(line for target in targets for line in find_hindrances(target)))
            say(*(deploy_fleet(fleet, pool, engine) for fleet in fleets))
    except (ValueError, RuntimeError) as error:
        say(*str(error).splitlines(), error=True)
        return REFUSED
    return 0
