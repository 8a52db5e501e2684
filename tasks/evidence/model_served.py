"""§4: read from the evidence, or its container's configuration, which model the API served at the freeze."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path, PurePath
from stat import S_ISDIR
from typing import Any, Final, NamedTuple

from tasks.containment.containers.kept import kept_config
from tasks.containment.containers.pause import WorkloadContainers, starts_kept
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import BOOT, Frozen
from tasks.custody.evidence.keys import OWN_MOUNTS, TREE, volume_folder
from tasks.custody.evidence.pattern import literal_folder
from tasks.custody.incident.description import leads_to
from tasks.custody.incident.log import CustodyLog
from tasks.custody.models.contract import ServedBefore, first_certain, served_before
from tasks.host.container.membership import Mount
from tasks.host.container.mounts import find_mount, paths_inside, real_mounts
from tasks.host.mounted import find_late_mount, find_point
from tasks.host.process.table import began_at
from tasks.incident.paths import IncidentDirectory
from tasks.runtime.context import RunContext
from tasks.runtime.frozen import frozen_before, load_frozen
from tasks.runtime.state import IncidentState

_LINKS: Final = 40
_LONGEST: Final = 4096
"""As many links as the kernel follows, in as long a path."""
UNKNOWN: Final = datetime.fromtimestamp(0, UTC)
_HALF_A_SECOND: Final = 0.5
"""To which the log rounds how long a process had run."""


class Began(NamedTuple):
    """When an API had started, or, if that is not known because it `was_forked` by one that has ended, the boot.

    `UNKNOWN` if it was frozen before a reboot, and the log does not tell how long it had run.
    """

    at: datetime
    was_forked: bool = False

    def __str__(self) -> str:
        """Return how that is told after a change."""
        if self.at == UNKNOWN:
            return "and when the API had started is not known 起動時刻不明"
        if self.was_forked:
            return "and the API was forked by a process that has ended: when it read it is not known"
        return f"after the API had started ({self.at:%H:%M:%S}Z)"


def model_served(context: RunContext, volumes: Iterable[int], models: Mapping[str, str]) -> ServedBefore:
    """Return what the API served when it was frozen, by the oldest of these volumes that tells.

    Of an incident that was evacuated again after a recovery it is what was frozen then; what a recovery that failed had
    started counts for nothing. A cancelled run has sealed nothing: what it saw lies in the same volume as what the next
    run saw, which may have found the API ended or about to end. So all looks at one freeze count. `models` are the
    digests of the models by path.
    """
    answer = answer_of(context.log)
    root, folders = str(context.workload.root), [literal_folder(each) for each in context.workload.models]
    if was := WorkloadContainers(context).find_api(leads_to(context.workload.api_address)[1]):
        config = kept_config(context.directory.path, was.identity)
        given = {"command": [config["Path"], *config["Args"]], "environment": config["Config"].get("Env") or []}
        looks = [_values(starts_kept(config)), _values([given])]
        names = names_inside(os.path.realpath(root), models, real_mounts(config))
        inside = {path: models[name] for path, name in names.items()}
        worked = config["Config"].get("WorkingDir") or "/"
        served = (served_before(look, worked, inside or models, folders, answer=answer) for look in looks)
        found = first_certain(each for each in served if each.names)
        return replace(found, names=tuple(dict.fromkeys(names.get(each, each) for each in found.names)))
    frozen = [*frozen_before(context.state)]
    real = {os.path.relpath(os.path.realpath(f"{root}/{name}"), root): sha256 for name, sha256 in models.items()}
    follow = (
        partial(_follow, root, max((each.frozen_at or each.seen_at).timestamp() for each in frozen)) if frozen else str
    )
    for ours in (
        *api_looks(context.directory, context.log, context.state, volumes),
        [],
    ):  # an API of which nothing was seen may have answered
        look = served_before(ours, root, {**real, **models}, folders, partial(_is_in, root), follow, answer)
        if look.names or (ours and evacuated_again_at(context.log)):
            return look
    return ServedBefore()


def doubts_since_start(context: RunContext, served: ServedBefore, volumes: Iterable[int]) -> dict[str, str]:
    """Return of which files that the API named it is not known that they are what it had read, each with why.

    One that its process had open or mapped is the one that it had read, unless that was written since.
    """
    if not (began := api_began(context)):
        return {}
    if served.is_held:
        changes = {name: _tell_own_change(context, name, began, held=True) for name in served.names}
        return {name: _may_be_former(change) for name, change in changes.items() if change}
    looks = api_looks(context.directory, context.log, context.state, volumes)
    own = {point for look in looks for row in look for point in _own_mounts(row)}
    found = {name: tell_doubt(context, name, began, answered=served.answered, own=own) for name in served.names}
    return {name: doubt for name, doubt in found.items() if doubt}


def tell_doubt(context: RunContext, name: str, began: Began, *, answered: bool, own: Iterable[str] = ()) -> str:
    """Return why an API that began then may serve another than the file that is at a path; empty if nothing says so.

    A mount over a folder, and a reload, leave no trace but what systemd tells of the one, and the API of the other.
    After a reboot all mounts are new, and tell nothing.
    `own` are the folders at which it had mounts of its own.
    """
    block, root = context.workload, str(context.workload.root)
    if change := _tell_own_change(context, name, began):
        return _may_be_former(change)
    if not name.startswith("/"):  # else it is a container's
        mounted_at, is_of_boot = context.adapters.host.systemd.mounted_at, began.at >= began_at(0)
        if is_of_boot and (mount := find_late_mount(root, name, began.at, mounted_at)):
            return f"{mount}: it may have read what the mount covers マウント前の可能性"
        if point := find_point(own, root, name):
            return f"it had a mount of its own at {point}, and may have read another file there 独自マウントの可能性"
    if (block.reload_path or block.model_at) and not answered:
        silent = f"it named none at {block.model_at} before its freeze" if block.model_at else "it names none"
        return f"it may have loaded another since its start, and {silent} 再読込の可能性"
    return ""


def _may_be_former(change: str) -> str:
    return f"{change}, and may have served what was there before 変更前の可能性"


def _own_mounts(row: Mapping[str, Any]) -> list[str]:
    return points if isinstance(points := row.get(OWN_MOUNTS), list) else []


def _tell_own_change(context: RunContext, name: str, began: Began, *, held: bool = False) -> str:
    """Return that a file of the root, or of the API's container, was changed after the API had started; else empty."""
    if not name.startswith("/"):
        return tell_change(context.workload.root, name, began, held=held)
    if not (was := WorkloadContainers(context).find_api(leads_to(context.workload.api_address)[1])):
        return ""
    folder, below, in_layer = find_outside(kept_config(context.directory.path, was.identity), name)
    if not folder:
        return ""
    if not os.path.isdir(folder):  # noqa: PTH112
        return f"when {name} was changed is not seen from here, as {folder} is not there"
    at = find_change(folder, below, began.at, held=held or in_layer)  # folders of a layer are copies of the image's
    return f"{name} was changed at {at:%H:%M:%S}Z, {began}" if at else ""


def find_outside(config: Mapping[str, Any], name: str) -> tuple[str, str, bool]:
    """Return the folder of the host that has a file of a container, the path below, and whether it is its own layer.

    Else it is a mount. Empty if the engine does not tell where its layer lies. What lies in its image is in neither.
    """
    if mount := find_mount(PurePath(name), real_mounts(config)):
        place = PurePath(mount.source)
        below = PurePath(name).relative_to(mount.target)
        return (mount.source, str(below), False) if below.parts else (str(place.parent), place.name, False)
    layer = ((config.get("GraphDriver") or {}).get("Data") or {}).get("UpperDir", "")
    return layer, name.lstrip("/"), True


def tell_change(root: Path, name: str, began: Began, *, held: bool = False) -> str:
    """Return that a file of the root was changed after its API had started; empty if not, or if it is a container's.

    Of one that the API `held` the way to it does not count.
    """
    if name.startswith("/") or not (at := find_change(str(root), name, began.at, held=held)):
        return ""
    return f"{name} was changed at {at:%H:%M:%S}Z, {began}"


def find_change(root: str, name: str, since: datetime, *, held: bool = False) -> datetime | None:
    """Return when the file at a path of the root was last changed, or put in its place, if that was after `since`.

    So it is by a link on the way that was made since, or a folder that was renamed: that changes when its status was
    changed, and not when its entries were. A mount over a folder leaves no time.
    """
    times, place = list[float](), root
    for part in [name] if held else PurePath(name).parts:
        place = os.path.join(place, part)  # noqa: PTH118  a name of any bytes
        with suppress(OSError, ValueError):
            both = os.lstat(place), os.stat(place)  # noqa: PTH116
            own = (each for each in both if not S_ISDIR(each.st_mode) or each.st_ctime_ns != each.st_mtime_ns)
            times += [each.st_ctime for each in own]
    latest = datetime.fromtimestamp(max(times, default=0.0), UTC)
    return latest if latest > since else None


def api_began(context: RunContext) -> Began | None:
    """Return when the first process of the API that was frozen, in any boot, had started; None if there was none."""
    if was := WorkloadContainers(context).find_api(leads_to(context.workload.api_address)[1]):
        with suppress(ValueError):
            return Began(datetime.fromisoformat(was.identity.started_at))
    since, here = evacuated_again_at(context.log), [*load_frozen(context.state).values()]
    apis = _apis(each for each in frozen_before(context.state) if not since or each.seen_at > since)
    return min((_began(each, None if each in here else context.log) for each in apis), default=None)


def _began(frozen: Frozen, log: CustodyLog | None) -> Began:
    """Return when a process had started that was frozen in this boot, or, as the log has it, in an earlier one."""
    start = frozen.since or frozen.identity.start
    if log is None:
        return Began(began_at(start), was_forked=start <= BOOT)
    same = {"action": "frozen", "object": str(frozen.identity.pid), "at": str(frozen.frozen_at)}
    row = next((each for each in log.entries() if same.items() <= each.items() and "ran_seconds" in each), None)
    if row is None:
        return Began(UNKNOWN)
    before = (frozen.identity.start - start) / os.sysconf("SC_CLK_TCK")
    ran = timedelta(seconds=row["ran_seconds"] + _HALF_A_SECOND + before)
    return Began(datetime.fromisoformat(row["utc"]) - ran, was_forked=start <= BOOT)


def _apis(processes: Iterable[Frozen]) -> list[Frozen]:
    """Return those that are the API's; where no pattern for it matches, all that are no training's."""
    others = [each for each in processes if each.role not in {"training", "worker"}]
    return [each for each in others if each.role == "api"] or others


def doubts_of(log: CustodyLog, names: Iterable[str]) -> str:
    """Return why the log has it that one of these files may not be what the API had read; empty if it has not."""
    found = {str(each["object"]): str(each["result"]) for each in _rows_since_freeze(log, "model unsure")}
    return next((found[name] for name in names if name in found), "")


def answer_of(log: CustodyLog) -> str:
    """Return the model that the API named before the freeze that counts, as the custody log has it; empty if none."""
    return next((str(each["object"]) for each in _rows_since_freeze(log, "model named")), "")


def _rows_since_freeze(log: CustodyLog, action: str) -> Iterator[Mapping[str, Any]]:
    since = _ran_last(log)
    rows = (each for each in log.entries() if each["action"] == action)
    return (each for each in rows if not since or datetime.fromisoformat(each["utc"]) > since)


def evacuated_again_at(log: CustodyLog) -> datetime | None:
    """Return when the incident was evacuated last after a recovery: what was served then is what that had started."""
    return _last(log, "recovery ended")


def _ran_last(log: CustodyLog) -> datetime | None:
    """Return until when what was frozen before may have run on: the freeze after that counts."""
    return _last(log, "thawed", "recovery ended")


def _last(log: CustodyLog, *actions: str) -> datetime | None:
    rows = (each["utc"] for each in log.entries() if each["action"] in actions)
    return max(map(datetime.fromisoformat, rows), default=None)


def api_looks(
    directory: IncidentDirectory, log: CustodyLog, state: IncidentState, volumes: Iterable[int]
) -> Iterator[list[dict[str, Any]]]:
    """Yield what each of these volumes saw of the API's processes since the freeze that counts, the oldest first."""
    apis = {each.identity for each in _apis(frozen_before(state))}  # it may match no pattern
    for look in find_looks(directory, log, volumes):
        if ours := [each for each in look if Identity(each["pid"], each["start_ticks"]) in apis]:
            yield ours


def find_looks(directory: IncidentDirectory, log: CustodyLog, volumes: Iterable[int]) -> Iterator[list[dict[str, Any]]]:
    """Yield what each of these volumes saw of frozen processes since the freeze that counts, the oldest first."""
    since = at.timestamp() if (at := _ran_last(log)) else 0.0
    for volume in sorted(volumes):
        rows = (row for tree in _trees(directory, volume, since) for row in _rows(tree))
        yield [each for each in rows if "not read" not in each]  # one that was gone is in an earlier look


def _trees(directory: IncidentDirectory, volume: int, since: float) -> list[Path]:
    """Return what each attempt of a volume saw of the processes since then."""
    folders = (each / volume_folder(volume) for each in directory.folders)
    found = [path for folder in folders for path in (*folder.glob(f"attempt-*/{TREE}"), folder / TREE)]
    return [path for path in found if path.is_file() and path.stat().st_mtime > since]


def _rows(tree: Path) -> list[dict[str, Any]]:
    with suppress(OSError, ValueError):
        return [*json.loads(tree.read_bytes())]
    return []


def _values(starts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return starts with the values of their variables alone."""
    return [{**each, "environment": [word.partition("=")[2] for word in each["environment"]]} for each in starts]


def names_inside(root: str, models: Iterable[str], mounts: Sequence[Mount]) -> dict[str, str]:
    """Return the models by their paths in a container: its own, over which go those of the root that are mounted."""
    names = dict[str, str]()
    for name in sorted(models):  # those in the container come first
        place = PurePath(os.path.normpath(f"{root}/{name}"))
        paths = [name] if name.startswith("/") else paths_inside(place, mounts)
        names |= dict.fromkeys(paths, name)
    return names


def _follow(root: str, frozen_at: float, path: str) -> str:
    """Return where a path in the root leads, by links that are as they were at the freeze; empty if to nothing there.

    Who may change a link afterwards does not say what was served.
    """
    path = os.path.normpath(path)
    for _ in range(_LINKS):
        if not path.startswith(f"{root}/") or len(path) > _LONGEST:
            return ""
        above = (str(each) for each in reversed((PurePath(path), *PurePath(path).parents)))
        link = next((each for each in above if each.startswith(f"{root}/") and os.path.islink(each)), "")  # noqa: PTH114  as below
        if not link:
            return path if os.path.exists(path) else ""  # noqa: PTH110  a word of any length and content
        try:
            if os.lstat(link).st_ctime > frozen_at:
                return ""
            end = os.path.join(os.path.dirname(link), os.readlink(link))  # noqa: PTH115, PTH118, PTH120
        except OSError:
            return ""
        path = os.path.normpath(f"{end}{path.removeprefix(link)}")
    return ""


def _is_in(root: str, path: str) -> bool:
    return path.startswith(f"{root}/") and os.path.isfile(path)  # noqa: PTH113  a word of any length and content
