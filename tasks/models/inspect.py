"""§4: judge each model in the evidence before the seal, in sandboxed processes."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, BinaryIO, Final

from blocks.workload import Workload
from tasks.custody.evidence.acquisition import Evidence, StoredFile
from tasks.custody.evidence.artifact import unsteady
from tasks.custody.evidence.keys import MODELS, unquote
from tasks.custody.models.content import HEAD, looks_like_a_pickle
from tasks.custody.models.inspection import (
    OTHER_FORMAT,
    TRUSTED_FORMAT,
    Inspection,
    ModelFinding,
    Soundness,
    is_named_as_model,
    of_another_format,
    plain,
    plain_all,
)
from tasks.custody.store.manifest import digest
from tasks.evidence.being_written import BEING_WRITTEN, find_being_written
from tasks.evidence.left_alone import left_alone, steady
from tasks.evidence.model_served import doubts_since_start, model_served
from tasks.host.workload import interpreter_of
from tasks.incident.paths import IncidentDirectory
from tasks.models.findings import is_model, latest_place, sealed_findings, trusted_format
from tasks.runtime.context import RunContext
from tasks.runtime.step import step
from tasks.system.accounts import clean_environment, groups_of
from tasks.system.cancellation import Cancellation
from tasks.system.sandbox import Limits, run_confined

_ALL_SECONDS: Final = 600.0
_SECONDS: Final = 30.0
_BYTES_A_SECOND: Final = 20e6
_MEMORY: Final = 2 << 30
_LOADED_MEMORY: Final = 8 << 30
_NOBODY: Final = 65534
_RULED: Final = frozenset({Soundness.SOUND, Soundness.SUSPECT})


def _what_is_judged(_: Any, parameters: Mapping[str, Any]) -> str:
    """The digests of all files of the workload, and the block's fields on models."""
    block, evidence = parameters["context"].workload, parameters["evidence"]
    files = sorted({(item.volume, file.stored, file.sha256) for item in evidence for file in item.files if file.source})
    fields = block.models, block.model_imports, block.model_formats, block.inspect_models, block.interpreter
    return f"{files}:{fields}"


@step("judge_models", "judge the models", section="§4", ja="モデルの判定", retries=1, cache_key_fn=_what_is_judged)
def judge_models(context: RunContext, evidence: Sequence[Evidence]) -> Inspection:
    """Judge the models in this run's folder, and write the findings there before it is sealed.

    Returns these findings and those of folders sealed before.
    """
    directory, volume, block = context.directory, context.run.volume, context.workload
    before = [finding for earlier in range(1, volume) for finding in sealed_findings(directory, earlier)]
    ours = [item for item in evidence if item.volume == volume]
    files = {file.stored: file for item in ours for file in item.files}
    models = {file for file in files.values() if is_model(directory, volume, file, block)}
    since = min((item.started_at for item in ours if not models.isdisjoint(item.files)), default=None)
    is_half = find_being_written(directory, context.log, context.run.volume)
    judge = _Judge(directory, volume, block, context.cancelled, is_half, since)
    found = Inspection(tuple(_judge_all(judge, models)))
    if models:
        directory.write(directory.evidence_dir(volume) / MODELS, found.to_bytes())
    for finding in found.findings:
        latest = latest_place(files[finding.stored], block)
        context.log.write("model judged", finding.stored, sha256=finding.sha256, result=finding.summary, latest=latest)
    digests = {unquote(file.source).decode(errors="backslashreplace"): file.sha256 for file in models}
    if (served := model_served(context, [volume], digests)).names:
        context.log.write("model served", " or ".join(served.names), result=served.summary)
    doubts = doubts_since_start(context, served, [volume])
    for name, doubt in doubts.items():
        context.log.write("model unsure", name, result=doubt)
    return Inspection((*before, *found.findings), doubts)


def judge_again(
    context: RunContext,
    judged: dict[tuple[str, bool, str, Soundness], Mapping[str, Any]],
    volume: int,
    files: Iterable[StoredFile],
) -> tuple[ModelFinding, ...]:
    """Judge a sealed folder's models by the block's present rules, from the sealed bytes. Changes nothing sealed.

    Judges only what the rules decide: a suspect model may become sound, and a sound one suspect; so may one be whose
    format the block trusts. `judged` takes in the fields of each content, so that a model of several folders is judged
    once.
    """
    named, directory, block = {file.stored: file for file in files}, context.directory, context.workload
    is_half = find_being_written(directory, context.log, context.run.volume)
    judge = _Judge(directory, volume, block, context.cancelled, is_half)

    def again(finding: ModelFinding) -> ModelFinding:
        context.cancelled.check()
        file = named.get(finding.stored)
        if file is None or unsteady(file.stored, file.note):
            return finding
        trusted = trusted_format(file.path, block)
        if finding.outcome not in _RULED and not (trusted and of_another_format(finding)):
            return finding
        try:
            key = finding.sha256, is_named_as_model(file.stored), trusted, finding.outcome
            fields = judged.get(key) or judge.judge(file, inspect=finding.outcome is Soundness.SUSPECT)
            as_sealed = digest(directory.locate(volume, file)) == file.sha256 == finding.sha256
        except OSError:  # one that was hashed in place may be gone; whether the API may load it is asked elsewhere
            return finding
        now = ModelFinding(file.stored, file.sha256, **fields)
        if not as_sealed or not (now.outcome in _RULED or of_another_format(now)):
            return finding
        judged[key] = fields
        return now

    sealed = sealed_findings(directory, volume)
    unjudged = {name: file for name, file in named.items() if trusted_format(file.path, block)}  # as .json
    for finding in sealed:
        unjudged.pop(finding.stored, None)
    fresh = (ModelFinding(name, file.sha256, Soundness.UNKNOWN, OTHER_FORMAT) for name, file in unjudged.items())
    sealed = (*sealed, *fresh)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = tuple(pool.map(again, sealed))
    for before, now in zip(sealed, found, strict=True):
        if now.outcome is not before.outcome:
            summary = f"{now.summary}; sealed {'unjudged' if now.stored in unjudged else f'as {before.outcome}'}"
            context.log.write("model judged again", now.stored, sha256=now.sha256, result=summary)
    return found


def _judge_all(judge: "_Judge", models: Iterable[StoredFile]) -> list[ModelFinding]:
    """Judge the models, small ones first, so that one that uses up the time costs no others. Identical files once."""
    names: dict[tuple[str, bool, str], list[StoredFile]] = {}
    for file in sorted(models, key=lambda file: (file.size, file.stored)):
        kind = file.sha256, is_named_as_model(file.stored), trusted_format(file.path, judge.block)
        names.setdefault(kind, []).append(file)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        findings = chain.from_iterable(pool.map(judge.judge_twins, names.values()))
        return sorted(findings, key=lambda finding: finding.stored)


def _unknown(reason: str) -> dict[str, Any]:
    return {"outcome": Soundness.UNKNOWN, "reason": reason}


@dataclass(frozen=True)
class _Judge:
    """Judges the models of one evidence folder, within a time for all. `since` is before they were hashed.

    `is_half` says of which a writer was frozen.
    """

    directory: IncidentDirectory
    volume: int
    block: Workload
    cancelled: Cancellation
    is_half: Callable[[StoredFile], bool]
    since: datetime | None = None
    until: float = field(default_factory=lambda: time.monotonic() + _ALL_SECONDS)

    def judge_twins(self, twins: Sequence[StoredFile]) -> list[ModelFinding]:
        """Judge files of the same content once, and look at each one's source again."""
        self.cancelled.check()
        try:
            fields = self.judge(twins[0])
        except OSError as error:
            fields = _unknown(f"not judged: {error.strerror or error}")
        root = self.directory.root
        return [_second_look(root, file, ModelFinding(file.stored, file.sha256, **fields)) for file in twins]

    def judge(self, file: StoredFile, *, inspect: bool = True) -> dict[str, Any]:
        """Return a finding's fields."""
        seconds = min(reading_seconds(file.size, _SECONDS), self.until - time.monotonic())
        if seconds <= 0:
            return _unknown(f"not judged: the {_ALL_SECONDS:g} s for all models were used up")
        path = self.directory.locate(self.volume, file)
        with path.open("rb") as opened:
            fields = read_model(file.path, opened, seconds, self.block)
            if fields["reason"] == TRUSTED_FORMAT and self.is_half(file):
                return _unknown(f"nobody reads its format, and {BEING_WRITTEN}")
            alone = self.since and left_alone(path, file, 0, self.since.timestamp())
            if file.in_place and not alone and digest(path) != file.sha256:
                return {"outcome": Soundness.TORN, "reason": "it changed while it was judged"}
            read = fields["outcome"] is Soundness.SOUND and fields["reason"] != TRUSTED_FORMAT
            if read and self.block.inspect_models and inspect:
                opened.seek(0)
                fields |= _load(self.block, opened, seconds, fields)
        return fields


def reading_seconds(size: int, least: float = 2 * _SECONDS) -> float:
    """Return how long the reading of a model of this size may take; a recovery, which it would stop, waits longest."""
    return least + size / _BYTES_A_SECOND


def read_model(path: str, file: BinaryIO, seconds: float, block: Workload) -> dict[str, Any]:
    """Read a model in a sandbox, by the rules of the block; return a finding's fields. It is not loaded.

    One of another format is unknown, or sound unread if the block trusts that and it neither is nor holds a pickle.
    """
    file.seek(0)
    is_ours = is_named_as_model(path) or looks_like_a_pickle(file.read(HEAD))
    suffix = PurePosixPath(path).suffix.lower()
    arguments = (json.dumps(each) for each in (block.model_imports, *import_path(block), suffix))
    command = [sys.executable, "-P", "-m", "tasks.models.scanner", *arguments]
    answer = run_confined(command, file, Limits(seconds, _MEMORY))
    if answer.late:
        return _unknown(f"reading it took more than {seconds:.3g} s")
    try:
        fields: dict[str, Any] = json.loads(answer.output)
    except ValueError:
        return _unknown(f"reading it broke its reader, which ended with {answer.ended}: too large, or made to do so")
    why_not = fields.pop("not_unread", "")
    if fields["outcome"] == Soundness.TORN and not is_ours:
        if trusted_format(path, block) and not why_not:
            return {"outcome": Soundness.SOUND, "reason": TRUSTED_FORMAT}
        return _unknown("; ".join(filter(None, (OTHER_FORMAT, why_not))))
    lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    return fields | lists | {"outcome": Soundness(fields["outcome"])}


def _load(workload: Workload, file: BinaryIO, seconds: float, read: Mapping[str, Any]) -> dict[str, Any]:
    """Load the model as the workload's user, never as root. One that its own interpreter cannot load is not sound."""
    interpreter = workload.root / interpreter_of(workload.root, workload.interpreter)
    own = os.access(interpreter, os.X_OK)
    source = Path(__file__).with_name("load_program.py").read_text()
    program = [str(interpreter) if own else sys.executable, "-I", "-c", source]
    program += [str(workload.root)] if workload.model_imports else []
    answer = run_confined(program, file, _as_workload(workload, seconds))
    walls = tuple(f"inspected without a wall that this host does not have: {wall}" for wall in answer.without)
    try:
        report = json.loads(answer.output)
    except ValueError:
        report = None
    if not isinstance(report, dict):
        why = f"not done after {seconds:.3g} s" if answer.late else f"its loader ended with {answer.ended}"
        if answer.refused:
            why = f"{program[0]}: {answer.refused}"
        return {"warnings": (*walls, f"not inspected: {why}")}
    return parse_report(report, made_with=read.get("sklearn", ""), own_interpreter=own, walls=walls)


def parse_report(
    report: Mapping[str, Any], *, made_with: str, own_interpreter: bool, walls: Sequence[str]
) -> dict[str, Any]:
    """Build a finding's fields from what the loaded model reports, which is shown but not trusted."""
    warnings = (*walls, *plain_all(report.get("warnings")))
    if "error" in report:
        error = plain(report["error"])
        if own_interpreter:
            return {"warnings": warnings, **_unknown(f"the workload's own interpreter cannot load it: {error}")}
        return {"warnings": (*warnings, f"not inspected: our interpreter cannot load it: {error}")}
    loaded_with = plain(report.get("sklearn") or "")
    if made_with and loaded_with and made_with != loaded_with:
        warnings = (*warnings, f"made with scikit-learn {made_with}, loaded with {loaded_with}")
    features = report.get("features")
    return {
        "estimator": plain(report.get("estimator", "")),
        "features": features if type(features) is int else None,
        "feature_names": plain_all(report.get("feature_names")),
        "classes": plain_all(report.get("classes")),
        "inspected": True,
        "warnings": warnings,
    }


def _as_workload(workload: Workload, seconds: float) -> Limits:
    if os.geteuid() != 0:
        return Limits(seconds, _LOADED_MEMORY)
    user = workload.root.stat().st_uid or _NOBODY
    return Limits(seconds, _LOADED_MEMORY, user, groups_of(user))


def _second_look(root: PurePath, file: StoredFile, finding: ModelFinding) -> ModelFinding:
    """Mark a model as TORN if its source is still being written. Sources in containers are not looked at again."""
    if finding.outcome is Soundness.SUSPECT:
        return finding
    if why := unsteady(file.stored, file.note):
        return replace(finding, outcome=Soundness.TORN, reason=why)
    source = unquote(file.source)
    if source.startswith(b"/"):
        return finding
    try:
        now = os.stat(os.path.join(os.fsencode(root), source))  # noqa: PTH116, PTH118  a hostile name is bytes
    except OSError:
        return replace(finding, warnings=(*finding.warnings, "its source is gone: there was no second look at it"))
    if steady(file, now.st_size, now.st_mtime_ns):
        return finding
    return replace(finding, outcome=Soundness.TORN, reason="its source has changed since: it is still being written")


def import_path(block: Workload) -> tuple[list[str], list[str]]:
    """Return folders that the API imports from first, and prefixes below which packages are installed for it.

    The folders are the root, those of PYTHONPATH, and those in the API's command or of files in it.
    """
    named = {folder for word in block.api_command if (folder := _folder_of(block.root / word.rpartition("=")[2]))}
    python_path = {block.root / folder for folder in block.api_environment.get("PYTHONPATH", "").split(":")}
    interpreter = block.root / interpreter_of(block.root, block.interpreter)
    home = clean_environment(block.root.stat().st_uid).get("HOME", "/")
    prefixes = {interpreter.parent.parent, interpreter.resolve().parent.parent, Path(home) / ".local"}
    return sorted(map(str, {block.root, *named, *python_path})), sorted(map(str, prefixes))


def _folder_of(path: Path) -> Path | None:
    """Return the folder, or the folder of the file, at a path; None if there is neither."""
    with suppress(OSError, ValueError):
        return path if path.is_dir() else path.parent if path.exists() else None
    return None
