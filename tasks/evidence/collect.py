"""§4: run one collector within its deadline; keep what it got, and a reason for each thing that it did not get."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from prefect.client.schemas.objects import State

from blocks.workload import Workload
from tasks.acquisition.collector import Collector, Files, Target
from tasks.collectors import discover
from tasks.collectors.attempt import attempt
from tasks.custody.evidence.acquisition import Evidence, Loss, Outcome, StoredFile, worst
from tasks.custody.evidence.keys import CODE, FOLDERS, unquote
from tasks.custody.evidence.parts import Parts
from tasks.custody.evidence.pattern import ends_with, matches_any
from tasks.custody.evidence.secrets import Hit, Search
from tasks.custody.store.manifest import digest_of
from tasks.evidence.lost_look import EARLIER_LOOK, lost_look
from tasks.evidence.process_start import read_starts
from tasks.evidence.staging import Staging, keep, staging
from tasks.host.workload import interpreter_of
from tasks.incident.layout import SALT, STARTS, earlier_boots
from tasks.runtime.context import RunContext
from tasks.runtime.freeze_budget import FreezeBudget
from tasks.runtime.frozen import frozen_containers, frozen_key, load_frozen, unended_key
from tasks.runtime.retry import may_pass
from tasks.runtime.step import step
from tasks.system.files.atomic_files import write_whole
from tasks.system.files.disk_reserve import MIB
from tasks.system.files.durable_files import flush

_MARGIN: Final = 4


def _key(_: Any, parameters: Mapping[str, Any]) -> str:
    """What the incident has frozen, what of it may still write (of a look the boots), and what the block asks for.

    A look belongs to its boot, in which nothing may have been frozen yet.
    """
    context, collector = parameters["context"], parameters["collector"]
    what = discover()[collector]
    living = "" if what.early else unended_key(context)
    living = ",".join(earlier_boots(context.state.home)) if what.while_frozen else living
    patterns = [_globs(context.workload).get(source.field) for source in what.sources if isinstance(source, Files)]
    containers = f":{context.workload.containers}:{_globs(context.workload)}" if what.of_containers else ""
    sensitive = context.workload.sensitive if patterns or containers else ""
    lost = f":{sources}" if (sources := _lost_files(context, what)) else ""
    chosen = _other_settings(context.workload, what)
    return f"{collector}:{frozen_key(context)}:{living}:{patterns}{containers}:{sensitive}{lost}{chosen}"


def _other_settings(block: Workload, what: Collector) -> str:
    """Return the block's other settings that the result depends on, where they differ from the defaults.

    A look at frozen processes stays what it was: after the stop it would only find them gone.
    """
    usual = Workload.model_fields["interpreter"].default
    differs = {
        "needed": not what.while_frozen and is_needed(block, what) != what.needed,
        "may be missing": not what.while_frozen and what.name in block.may_be_missing,
        "units": what.of_units and block.units,
        "folders": what.name == FOLDERS and (_globs(block), block.folder_file_mb),
        "beside": what.name == CODE and _globs(block),
        "interpreter": what.of_interpreter and block.interpreter != usual and block.interpreter,
    }
    return "".join(f":{name}={value}" for name, value in differs.items() if value)


def _lost_files(context: RunContext, what: Collector) -> list[str]:
    """Return this collector's files that were hashed in place and could not be sent: they may have space now."""
    sources = [source for source in what.sources if isinstance(source, Files)]
    globs = _globs(context.workload)
    paths = {name: os.fsdecode(unquote(name)) for name in context.state.lost_in_place.read()}
    if what.name == CODE:
        return [name for name, path in paths.items() if not any(matches_any(path, each) for each in globs.values())]
    patterns = [each for source in sources for each in source.patterns or globs[source.field]]
    beside = [each for source in sources for field in source.beside for each in globs[field]]
    return [name for name, path in paths.items() if matches_any(path, patterns) and not matches_any(path, beside)]


def required_folders(block: Workload) -> list[str]:
    """Return the folders that the block names beside the usual ones, unless it lets them be missing."""
    usual = {*Workload.model_fields[FOLDERS].default, *(block.folders if FOLDERS in block.may_be_missing else ())}
    return [each for each in block.folders if each not in usual]


def _globs(block: Workload) -> dict[str, list[str]]:
    return {"logs": block.logs, "artifacts": block.artifacts, "models": block.models, FOLDERS: block.folders}


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
    what, began = discover()[collector], datetime.now(UTC)
    if collector == "tree" and not context.run.dry_run and (starts := read_starts(load_frozen(context.state))):
        with suppress(OSError):  # a disk that takes nothing
            write_whole(context.directory.path / STARTS, json.dumps(starts).encode(), 0o600)
    with staging(context.directory, collector) as at:
        lines, losses = _attempt(context, what, at, budget)
        evidence = _evidence(context, what, began, lines, losses)
        files = (keep(context.directory, evidence.volume, at, file) for file in evidence.files)
        evidence = replace(evidence, files=tuple(files))
        if not what.while_frozen:  # that result is cached, and after a power loss believed
            flush([context.directory.locate(evidence.volume, each) for each in evidence.files if not each.in_place])
    for line in lines:
        if "room" in line:
            context.log.write("room", collector, **line["room"], elsewhere=_elsewhere(evidence.files))
    got = {"files": len(evidence.files), "bytes": evidence.size, "losses": len(evidence.losses)}
    context.log.write("acquired", collector, result=evidence.outcome, **got, digest=digest_of(evidence.files))
    if what.of_containers and evidence.files:
        _note_found(context, evidence.files)
    return evidence


def _elsewhere(files: Sequence[StoredFile]) -> dict[str, int]:
    """Count the files that had no space in the evidence folder, by where they lie."""
    return dict(Counter(file.where for file in files if file.where))


def _attempt(
    context: RunContext, what: Collector, at: Staging, budget: FreezeBudget | None
) -> tuple[list[Any], list[Loss]]:
    block = context.workload
    if (what.of_containers and not block.containers) or (what.of_units and not block.units):
        return [], []
    lost, anything_left = lost_look(context, what)
    if not anything_left:
        return [], lost
    hurried = budget if what.while_frozen and not what.unhurried else None
    seconds = min(what.deadline, hurried.remaining()) if hurried else what.deadline
    if hurried and not seconds:
        reason = f"not begun: the {hurried.seconds:g} s for looking at the frozen processes were used up"
        return [], [*lost, Loss(what.name, Outcome.TIMED_OUT, reason)]
    lines, trouble = attempt(what, _target(context, what, seconds, at), at.folder, cancelled=context.cancelled)
    return lines, [*lost, *([trouble] if trouble else [])]


def _note_found(context: RunContext, files: Sequence[StoredFile]) -> None:
    """Log which kinds of the workload's files its containers have: the root may then have none."""
    inside = [unquote(file.source).decode(errors="surrogateescape") for file in files if file.source]
    kinds = {kind for kind, globs in _globs(context.workload).items() if any(ends_with(path, globs) for path in inside)}
    context.state.container_files.write(sorted(kinds | set(context.state.container_files.read())))


def is_needed(workload: Workload, what: Collector) -> bool:
    """Return whether a loss of this collector counts: by the block, by the collector, or if containers are named."""
    chosen = workload.needed
    itself = what.needed if chosen is None else what.name in chosen
    return itself or (what.of_containers and bool(workload.containers))


def _target(context: RunContext, what: Collector, seconds: float, at: Staging) -> Target:
    block = context.workload
    return Target(
        incident=context.incident.id,
        root=str(block.root),
        interpreter=interpreter_of(block.root, block.interpreter),
        owner=block.root.stat().st_uid,
        globs=_globs(context.workload),
        frozen=[(identity.pid, identity.start) for identity in sorted(load_frozen(context.state))],
        seconds=seconds,
        limit=what.limit,
        containers=tuple((identity.id, each.name) for identity, each in frozen_containers(context.state).items()),
        container_selectors=tuple(block.containers),
        docker_host=block.docker_host,
        elsewhere=tuple(context.state.container_files.read()),
        sensitive=block.sensitive,
        fallback=str(at.fallback or ""),
        reserve=str(context.directory.reserve),
        margin=context.workload.reserve_mb * MIB // _MARGIN,
        copies=not context.directory.volatile,
        units=tuple(block.units),
        apart=tuple(str(place.resolve()) for place in (block.evidence, block.fallback_dir) if place),
        largest=block.folder_file_mb and block.folder_file_mb * MIB,
        salt=str(context.directory.path / SALT),
        patterns=tuple(block.patterns),
        required_folders=tuple(required_folders(block)),
    )


def _evidence(
    context: RunContext, what: Collector, began: datetime, lines: Sequence[Any], whole: Sequence[Loss]
) -> Evidence:
    files = tuple(_file(line["file"]) for line in lines if "file" in line)
    losses = [Loss(**line["loss"] | {"outcome": Outcome(line["loss"]["outcome"])}) for line in lines if "loss" in line]
    losses += whole
    return Evidence(
        collector=what.name,
        needed=is_needed(context.workload, what),
        may_be_missing=what.name in {*context.workload.may_be_missing, FOLDERS},
        outcome=sum_up(files, losses),
        reason="; ".join(f"{loss.source}: {loss.reason}" for loss in losses[:3]),
        started_at=began,
        ended_at=datetime.now(UTC),
        volume=context.run.volume,
        files=files,
        losses=tuple(losses),
        searches=tuple(_search(line["search"]) for line in lines if "search" in line),
    )


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
