"""§4: run one collector within its deadline; keep what it got, and a reason for each thing that it did not get."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from prefect.client.schemas.objects import State

from blocks.workload import Workload
from tasks.acquisition.collector import Collector, Files, Target
from tasks.collectors import discover
from tasks.collectors.attempt import attempt
from tasks.collectors.code import globs_of
from tasks.custody.evidence.acquisition import Evidence, Loss, Outcome, StoredFile, worst
from tasks.custody.evidence.keys import (
    CHANGED,
    CODE,
    CONTAINER_FILES,
    CONTAINERS,
    FOLDERS,
    IN_CONTAINER,
    LAST_WRITES,
    LOCKFILES,
    NOT_TAKEN,
    OPEN,
    unquote,
    volume_order,
)
from tasks.custody.evidence.part_sizes import Parts
from tasks.custody.evidence.pattern import ends_with, matches_any
from tasks.custody.evidence.secrets_in_files import Hit, Search
from tasks.custody.store.manifest import digest, digest_of
from tasks.evidence.lost_look import EARLIER_LOOK, lost_look
from tasks.evidence.other_starts import with_unmended
from tasks.evidence.process_start import read_starts
from tasks.evidence.staging import Staging, keep, staging
from tasks.evidence.written_since import state_of
from tasks.host.workload import interpreter_of
from tasks.incident.directory import find_own_places, homes
from tasks.incident.layout import SALT, STARTS, earlier_boots
from tasks.incident.paths import IncidentDirectory
from tasks.runtime.context import RunContext
from tasks.runtime.freeze_budget import FreezeBudget
from tasks.runtime.frozen import frozen_containers, frozen_key, load_frozen, stopped_containers, unended_key
from tasks.runtime.retry import may_pass
from tasks.runtime.state import IncidentState
from tasks.runtime.step import step
from tasks.system.files.atomic_files import write_whole
from tasks.system.files.disk_reserve import MIB, with_reserve
from tasks.system.files.durable_files import flush

_MARGIN: Final = 4


def _key(_: Any, parameters: Mapping[str, Any]) -> str:
    """What the incident has frozen, what of it may still write (of a look the boots), and what the block asks for.

    Files that were written after they were taken count as they are now.

    A look belongs to its boot, in which nothing may have been frozen yet.
    """
    context, what = parameters["context"], discover()[parameters["collector"]]
    block, state = context.workload, context.state
    living = "" if what.early else unended_key(state)
    living = ",".join(earlier_boots(state.home)) if what.while_frozen else living
    patterns = [globs_of(block).get(source.field) for source in what.sources if isinstance(source, Files)]
    containers = f":{block.containers}" if what.of_containers else ""
    containers += f":{globs_of(block)}" if what.name == CONTAINER_FILES else ""
    others = _other_lists(context.directory) if what.name == CODE else ()
    lists = f":{[digest(each) for each in others]}" if others else ""
    sensitive = block.sensitive if patterns or containers else ""
    lost = f":{sources}" if (sources := _lost_files(globs_of(block), state.lost_in_place.read(), what)) else ""
    written = _lost_files(globs_of(block), state.written_since.read(), what)
    again = f":{ {name: state_of(context.directory.root, name) for name in written} }" if written else ""
    chosen = _other_settings(block, what)
    return f"{what.name}:{frozen_key(state)}:{living}:{patterns}{containers}:{sensitive}{lost}{again}{chosen}{lists}"


def _other_settings(block: Workload, what: Collector) -> str:
    """Return the block's other settings that the result depends on, where they differ from the defaults.

    A look at frozen processes stays what it was: after the stop it would only find them gone.
    """
    usual = Workload.model_fields["interpreter"].default
    differs = {
        "needed": not what.while_frozen and is_needed(block, what) != what.needed,
        "may be missing": not what.while_frozen and what.name in block.may_be_missing,
        "units": what.of_units and block.units,
        "folders": what.name == FOLDERS and (globs_of(block), block.folder_file_mb),
        "beside": what.name in {CODE, LOCKFILES} and (globs_of(block), block.folder_file_mb),
        "interpreter": what.of_interpreter and block.interpreter != usual and block.interpreter,
    }
    return "".join(f":{name}={value}" for name, value in differs.items() if value)


def _other_lists(directory: IncidentDirectory) -> list[Path]:
    """Return the files that list what was left in containers and out of the root, of each the last."""
    found_volumes = (path for each in directory.folders for path in each.glob("evidence*"))
    volumes = sorted(found_volumes, key=lambda each: volume_order(each.name))
    names = (f"{CONTAINERS}/*", OPEN)
    found = [(each, path) for each in volumes for name in names for path in each.glob(f"{name}/{NOT_TAKEN}")]
    return sorted({path.relative_to(volume): path for volume, path in found}.values())


def _lost_files(globs: Mapping[str, list[str]], names: Iterable[str], what: Collector) -> list[str]:
    """Return those of files, by source, that are this collector's: to take again."""
    sources = [source for source in what.sources if isinstance(source, Files)]
    paths = {name: os.fsdecode(unquote(name)) for name in names}
    if what.name == CODE:
        return [name for name, path in paths.items() if not any(matches_any(path, each) for each in globs.values())]
    patterns = [each for source in sources for each in source.patterns or globs[source.field]]
    beside = [each for source in sources for field in source.beside for each in globs[field]]
    return [name for name, path in paths.items() if matches_any(path, patterns) and not matches_any(path, beside)]


def required_folders(block: Workload) -> list[str]:
    """Return the folders that the block names beside the usual ones, unless it lets them be missing."""
    usual = {*Workload.model_fields[FOLDERS].default, *(block.folders if FOLDERS in block.may_be_missing else ())}
    return [each for each in block.folders if each not in usual]


def worth_repeating(_: Any, __: Any, state: State[Any]) -> bool:
    """Its error may pass. Not if it was denied, timed out, or lost an earlier look."""
    result = state.result(raise_on_failure=False)
    if not isinstance(result, Evidence):
        return may_pass(result)
    return result.outcome is Outcome.FAILED and {loss.source for loss in result.losses} != {EARLIER_LOOK}


@step(
    "collect",
    "collect {collector}",
    section="§4",
    ja="採取",
    retries=1,
    retry_delay_seconds=0.5,
    retry_condition_fn=worth_repeating,
    cache_key_fn=_key,
)
def collect(context: RunContext, collector: str, budget: FreezeBudget | None = None) -> Evidence:
    """Collect into a staging folder, then move complete files into the evidence folder (runbook §4).

    `budget` is the time that collectors of frozen processes share.
    """
    what, began, block, state = discover()[collector], datetime.now(UTC), context.workload, context.state
    directory, volume = context.directory, context.run.volume
    keeps_starts = collector == "tree" and not context.run.dry_run
    if keeps_starts and (starts := read_starts(frozen := load_frozen(state), state.groups.read())):
        with suppress(OSError):  # a disk that takes nothing
            kept = with_unmended(starts, homes(context.workload), frozen)
            write_whole(directory.path / STARTS, json.dumps(kept).encode(), 0o600)
    with staging(directory, collector) as at:
        lines, lost = _attempt(context, what, at, budget)
        ended, taken = datetime.now(UTC), [_file(line["file"]) for line in lines if "file" in line]
        files = tuple(with_reserve(directory.reserve, 1, partial(keep, directory, volume, at, each)) for each in taken)
        if not what.while_frozen:  # that result is cached, and after a power loss believed
            flush([directory.locate(volume, each) for each in files if not each.in_place])
    rows = (line["loss"] for line in lines if "loss" in line)
    losses = (*(Loss(**fields | {"outcome": Outcome(fields["outcome"])}) for fields in rows), *lost)
    evidence = Evidence(
        collector=collector,
        needed=is_needed(block, what),
        may_be_missing=collector in {*block.may_be_missing, FOLDERS},
        outcome=sum_up(files, losses),
        reason="; ".join(f"{loss.source}: {loss.reason}" for loss in losses[:3]),
        started_at=began,
        ended_at=ended,
        volume=volume,
        files=files,
        losses=losses,
        searches=tuple(_search(line["search"]) for line in lines if "search" in line),
    )
    for line in lines:
        if "room" in line:
            without = Counter(file.where for file in files if file.where)  # had no space in the evidence folder
            context.log.write("room", collector, **line["room"], elsewhere=dict(without))
    got = {"files": len(files), "bytes": evidence.size, "losses": len(losses)}
    context.log.write("acquired", collector, result=evidence.outcome, **got, digest=digest_of(files))
    if what.name == CONTAINER_FILES and files:
        _keep_copies(state, files)
    if what.name == LAST_WRITES and evidence.is_complete:  # else a second try reads what is held
        _let_go(state)
    if what.of_containers and files:  # the root may then have none of these kinds
        # what was taken because a container had changed it, no pattern names
        named = (each for each in files if each.source and each.stored.split("/")[::2][:2] != [CONTAINERS, CHANGED])
        inside = [unquote(file.source).decode(errors="surrogateescape") for file in named]
        kinds = {kind for kind, globs in globs_of(block).items() if any(ends_with(path, globs) for path in inside)}
        state.container_files.write(sorted(kinds | set(state.container_files.read())))
    return evidence


def _let_go(state: IncidentState) -> None:
    """Close what was held open over the stop, and look into no container again: it has been collected."""
    if ended := [*stopped_containers(state)]:
        state.looked_again.write(ended)
    for journal in (state.held_files, state.container_ends):
        if kept := journal.read():
            for each in kept:
                each.close()
            journal.write([])


def _attempt(
    context: RunContext, what: Collector, at: Staging, budget: FreezeBudget | None
) -> tuple[list[Any], list[Loss]]:
    block, state = context.workload, context.state
    if (what.of_containers and not block.containers) or (what.of_units and not block.units):
        return [], []
    lost, anything_left, stops = list[Loss](), True, what.name == LAST_WRITES and not context.run.dry_run
    if not context.run.dry_run:  # a rehearsal freezes nothing
        lost, anything_left = lost_look(what, state, context.log, context.adapters.host)
    if not anything_left:
        return [], lost
    hurried = budget if what.while_frozen and not what.unhurried else None
    seconds = min(what.deadline, hurried.remaining()) if hurried else what.deadline
    if hurried and not seconds:
        reason = f"not begun: the {hurried.seconds:g} s for looking at the frozen processes were used up"
        return [], [*lost, Loss(what.name, Outcome.TIMED_OUT, reason)]
    target = Target(
        incident=context.incident.id,
        root=str(block.root),
        interpreter=interpreter_of(block.root, block.interpreter),
        owner=block.root.stat().st_uid,
        globs=globs_of(block),
        frozen=[(identity.pid, identity.start) for identity in sorted(load_frozen(state))],
        seconds=seconds,
        limit=what.limit,
        containers=tuple((identity.id, each.name) for identity, each in frozen_containers(state).items()),
        container_selectors=tuple(block.containers),
        docker_host=block.docker_host,
        elsewhere=tuple(state.container_files.read()),
        sensitive=block.sensitive,
        fallback=str(at.fallback or ""),
        reserve=str(context.directory.reserve),
        margin=block.reserve_mb * MIB // _MARGIN,
        copies=not context.directory.volatile,
        units=tuple(block.units),
        apart=find_own_places(block),
        largest=block.folder_file_mb and block.folder_file_mb * MIB,
        salt=str(context.directory.path / SALT),
        reason=context.incident.reason,
        patterns=tuple(block.patterns),
        required_folders=tuple(required_folders(block)),
        other_lists=tuple(map(str, _other_lists(context.directory))) if what.name in {CODE, LAST_WRITES} else (),
        ended=tuple(_find_ended(state)) if stops else (),
        copies_inside=state.container_copies.read() if stops else {},
        last_writes=tuple(map(asdict, (*state.held_files.read(), *state.container_ends.read()))) if stops else (),
    )
    lines, trouble = attempt(what, target, at.folder, cancelled=context.cancelled)
    return lines, [*lost, *([trouble] if trouble else [])]


def _find_ended(state: IncidentState) -> Iterator[tuple[str, str, float]]:
    """Yield the containers that stay after their stop: id, name, and since when they may have written."""
    frozen, looked_again = frozen_containers(state), state.looked_again.read()
    for identity, receipt in stopped_containers(state).items():
        stays = identity in frozen and not frozen[identity].auto_remove
        if stays and identity not in looked_again:
            since = frozen[identity].paused_at
            yield identity.id, receipt.name, since.timestamp() if since else 0.0


def _keep_copies(state: IncidentState, files: Iterable[StoredFile]) -> None:
    """Keep what was copied out of paused containers, for the look after their stop."""
    inside = ((each, each.note.removeprefix(IN_CONTAINER)) for each in files if each.note.startswith(IN_CONTAINER))
    rows = {f"{name}:{each.source}": (each.stored, each.size, each.mtime_ns or 0) for each, name in inside}
    state.container_copies.write({**state.container_copies.read(), **rows})


def is_needed(workload: Workload, what: Collector) -> bool:
    """Return whether a loss of this collector counts: by the block, by the collector, or if containers are named."""
    chosen = workload.needed
    itself = what.needed if chosen is None else what.name in chosen
    return itself or ((what.of_containers or what.name == LAST_WRITES) and bool(workload.containers))


def _file(fields: dict[str, Any]) -> StoredFile:
    parts = fields["parts"]
    return StoredFile(**fields | {"parts": parts and Parts(parts["size"], parts["total"], tuple(parts["digests"]))})


def _search(fields: dict[str, Any]) -> Search:
    return Search(**fields | {"hits": tuple(Hit(**hit) for hit in fields["hits"])})


def sum_up(files: Sequence[StoredFile], losses: Sequence[Loss]) -> Outcome:
    """Return one outcome for an attempt: a loss outweighs what was collected, and empty files alone are EMPTY."""
    got = [Outcome.COLLECTED if file.size else Outcome.EMPTY for file in files]
    serious = [loss.outcome for loss in losses if loss.outcome not in {Outcome.WITHHELD, Outcome.MISSING}]
    if serious:
        return worst(serious)
    if Outcome.COLLECTED in got:
        return Outcome.COLLECTED
    return Outcome.EMPTY if got else worst(loss.outcome for loss in losses)
