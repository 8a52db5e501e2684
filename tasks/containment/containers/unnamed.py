"""§3: find the containers that the block does not name and that have a part of the workload. They are only named."""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import PurePath
from typing import Final

from blocks.workload import Workload
from tasks.containment.api_port import counted_port
from tasks.containment.containers.collected import collected_folders
from tasks.containment.members import Membership, Snapshot, description_of
from tasks.custody.errors import EngineError
from tasks.custody.evidence.pattern import literal_folder, of_root
from tasks.custody.incident.log import CustodyLog
from tasks.host.container.docker_engine import Engine, may_be_there
from tasks.host.container.membership import Container, Mount, belongs
from tasks.host.container.mounts import ContainerView, Ground, Spot, Spots, spot_of
from tasks.host.process.table import standpoint
from tasks.system.cancellation import run_in_thread
from tasks.system.kernel_tables import read_table

_SECONDS: Final = 5.0
Listed = list[tuple[Container, Spots]]
Found = tuple[dict[str, str], list[str]]


def ask_engine(engine: Engine, names: Sequence[str]) -> Future[Listed]:
    """Begin to list all living containers, with where their mounts lie, in a thread that nobody has to wait for.

    `names` are the block's `containers`. Call it after a freeze, never before one.
    """

    def list_containers() -> Listed:
        found = engine.containers(names, others=True) if may_be_there(engine.place) else ()
        return [(each, [*_spots(each)]) for each in found]

    return run_in_thread(list_containers)[0]


def list_ids(listing: Future[Listed]) -> frozenset[str]:
    """Return the ids of all containers that the engine lists; none if it does not answer within five seconds."""
    with suppress(Exception):  # it is told with what the listing was for
        return frozenset(each.id for each, _ in listing.result(_SECONDS))
    return frozenset()


def _spots(container: Container) -> Iterator[tuple[Mount, Spot]]:
    """Yield where each mount lies by its source, unless that is not ours to see, and by the container's own mounts.

    The engine may have a mount namespace of its own, in which a volume is another folder than in ours.
    """
    here, pid = "" if standpoint().own else _text("self", "mountinfo"), str(container.pid)
    there = container.id in _text(pid, "cgroup")  # else its pid is of another namespace
    inside = _text(pid, "mountinfo") if there else ""
    for mount in container.mounts:
        yield mount, _spot(mount.source, here)
        yield mount, spot_of(mount.target, inside)


def _text(pid: str, name: str) -> str:
    with suppress(OSError):
        return read_table(f"/proc/{pid}/{name}")
    return ""


def _spot(path: str, mountinfo: str) -> Spot:
    return spot_of(PurePath(os.path.realpath(path)), mountinfo)


def find_unnamed(  # noqa: PLR0913, PLR0917  what a judgement depends on
    membership: Membership,
    engine: Engine,
    log: CustodyLog,
    listing: Future[Listed],
    visible: Snapshot,
    ended: Iterable[ContainerView],
) -> Found:
    """Return suspects and notes as `judge_unnamed` does, and log them. What fails is a note."""
    workload, excused = membership.workload, membership.excused_pids(visible)
    port = counted_port(workload, membership.state)
    keeper = membership.host.get_process(guard) if (guard := membership.guard) else None
    ours = keeper.container if keeper else None
    try:
        suspects, notes = judge_unnamed(listing, workload, port, visible, excused, ours, ended)
    except Exception as error:  # noqa: BLE001  whatever an engine answers, the rest of the check is needed
        why = error.got if isinstance(error, EngineError) else str(error)
        log.write("engine not asked", engine.place, reason=why)
        blind = "containers with the root mounted would not be seen (ルートをマウントしたコンテナは確認できません)"
        return {}, [f"the Docker engine at {engine.place} could not be asked: {why}; {blind}"]
    for id_, why in suspects.items():
        log.write("suspect", id_, why=why)
    return suspects, notes


def judge_unnamed(  # noqa: PLR0913, PLR0917  what a judgement depends on
    listing: Future[Listed],
    workload: Workload,
    port: int | None,
    visible: Snapshot,
    excused: Collection[int],
    ours: str | None = None,
    ended: Iterable[ContainerView] = (),
) -> Found:
    """Return the line on each suspect container by its id, and notes on others that see the root, within five seconds.

    What the block names is left out, our own container and the guard's (`ours`), and one whose processes are all
    `excused`. `ended` are containers of the workload that may live no more.
    """
    try:
        listed = listing.result(_SECONDS)
    except TimeoutError:
        raise TimeoutError(f"no answer within {_SECONDS:g} s") from None
    mounts, names, suspects, notes = _text("self", "mountinfo"), workload.containers, dict[str, str](), []
    root, *models = (
        _spot(str(workload.root / each), mounts) for each in ("", *map(literal_folder, of_root(workload.models)))
    )
    living = (each for each, _ in listed if any(belongs(each, name) for name in names))
    own = [*ended, *map(ContainerView.of_container, living)]
    shared = frozenset(_spot(folder, mounts) for folder in collected_folders(workload, own))
    ground = Ground(root, frozenset(models), port, description_of(workload), shared)
    for each, spots in listed:
        inside = [process for process in visible.values() if process.container == each.id and process.alive]
        named = each.id in {standpoint().own, ours} or any(belongs(each, name) for name in names)
        fact, suspect = ("", False) if named else ground.tie(each, spots, inside)
        if not fact or (inside and all(process.pid in excused for process in inside)):
            continue
        if suspect:
            entries = json.dumps([*names, f"name={each.name}"], ensure_ascii=False)
            suspects[each.id] = (
                f"{each.summary} is {each.state}, and not named in the block: {fact}; if it is the workload's: "
                f"containers = {entries}; if not: docker stop {each.name} "
                "(ワークロードの一部なら containers に追加、無関係なら停止してください)"
            )
        else:
            notes.append(f"{each.summary} is left alone 対象外: {fact}")
    return suspects, notes
