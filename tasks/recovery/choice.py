"""§7: choose the model that is brought back: the one that a person names, else what was served. Never by time."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from posixpath import basename
from tempfile import TemporaryFile
from typing import Final

from tasks.custody.containment.receipt import PUT_BACK
from tasks.custody.evidence.acquisition import Seal, StoredFile
from tasks.custody.evidence.keys import quote, stored_name
from tasks.custody.evidence.pattern import fits
from tasks.custody.incident.verdict import Verdict, why_not_recover
from tasks.custody.models.contract import find_named_models, word_of
from tasks.custody.models.inspection import ModelFinding, Soundness, why_unsound
from tasks.custody.store.manifest import pieces_of
from tasks.evidence.model_served import (
    answer_of,
    api_began,
    doubts_of,
    evacuated_again_at,
    model_served,
    tell_doubt,
)
from tasks.latest.pull import source_of
from tasks.models.inspect import read_model, reading_seconds
from tasks.recovery.api_client import failure
from tasks.recovery.container_api import ModelFolder, find_named
from tasks.recovery.served_model import SealedModels
from tasks.runtime.context import RunContext
from tasks.system.files.write_beneath import Mismatch, land, local

_DIGEST: Final = re.compile("[0-9a-f]{12,64}")
_IN_SNAPSHOT: Final = re.compile(r"(?:IR-|snapshots/)?(?P<stamp>\d{8}T\d{6}Z[^:/]*):(?P<path>.+)")


def choose(
    context: RunContext, models: SealedModels, folder: ModelFolder, model: str, verdict: Verdict
) -> SealedModels:
    """Return the models with the one that the API is to serve.

    `model` is a path, a digest (at least its first 12 digits), or SNAPSHOT:path; if empty the model that was served at
    the freeze, else the one that the API's start names. Raises NotRecovered if what a person names is not sound.
    """
    if match := _IN_SNAPSHOT.fullmatch(model):
        model = match["path"]
        file, finding = _fetch(context, match["stamp"], model, models.files.get(model), verdict)
        files, findings = {**models.files, model: file}, (*models.findings, finding)
        models = replace(models, files=files, sound=(*models.sound, file), findings=findings)
    chosen = with_doubt(context, select(models, folder, model))
    context.log.write("model chosen", chosen.chosen or "none", by_name=chosen.named, before=chosen.before.summary)
    return chosen


def with_former(context: RunContext, seals: Sequence[Seal], models: SealedModels) -> SealedModels:
    """Return the models with what was served at the freeze: a model, or the file that the API named by its own name.

    Its content is that of the run that took it first: what was changed since was changed after everything was stopped.
    """
    able, named = models.models_of(models.files), basename(word_of(answer_of(context.log)))
    if PurePosixPath(named).suffix:
        able |= {path: file for path, file in models.files.items() if basename(path) == named}
    digests = {path: file.sha256 for path, file in able.items()}
    if not evacuated_again_at(context.log):
        digests |= {path: models.first[path].sha256 for path in digests.keys() & models.first.keys()}
    before = model_served(context, [each.volume for each in seals], digests)
    changed = [name for name in before.names if name in digests and digests[name] != models.files[name].sha256]
    back = f"{context.incident.id.removeprefix('IR-')}:{changed[0]}" if changed else ""
    cure = back and f"it was changed since; to put back that of the freeze {PUT_BACK}{back}"
    return replace(models, before=replace(before, doubt=doubts_of(context.log, before.names), cure=cure))


def with_doubt(context: RunContext, models: SealedModels) -> SealedModels:
    """Return the models; where only the API's start names the one, or none is named, with why it may have been another.

    Of several of which none is named it is not known anyway.
    """
    name = models.chosen or next(iter(models.last), "")
    if models.named or models.before.names or not name:
        return models
    began = api_began(context)
    doubt = tell_doubt(context, name, began, answered=False) if began else ""
    return replace(models, before=replace(models.before, doubt=doubt))


def select(models: SealedModels, folder: ModelFolder, model: str = "") -> SealedModels:
    """Return the models with the one that the API is to serve: the named `model`, else as `choose` says."""
    before, last = models.before, {path: file.sha256 for path, file in models.last.items()}
    if model:
        by_digest = [path for path in last if last[path].startswith(model)] if _DIGEST.fullmatch(model) else []
        names = [by_digest or find_named_models([model], folder.root, last) or find_named(folder, [model], last)]
    else:
        paths_at_freeze = [path for path in last if last[path] in before.contents]
        names = [paths_at_freeze, find_named(folder, folder.words, last)]
    paths = next((each for each in names if len({last[path] for path in each}) == 1), [])
    if model and not paths:
        sealed = models.files.get(model)
        why = why_unsound(sealed.stored, sealed.sha256, models.findings) if sealed else "the manifest has no such model"
        sound = ", ".join(sorted(last)[:10]) or "none is sound"
        raise failure(f"a sound model of the manifest, its digest, or SNAPSHOT:path ({sound})", f"{model!r}: {why}")
    path = min(paths, key=lambda path: (not folder.path_in_api(path), path not in before.names), default="")
    return replace(models, chosen=path, named=bool(model))


def _fetch(
    context: RunContext, stamp: str, path: str, sealed: StoredFile | None, verdict: Verdict
) -> tuple[StoredFile, ModelFinding]:
    """Put a model of a snapshot, proven and judged, in its place; over nothing but `sealed`, if the store has that."""
    block, store = context.workload, context.store.evidence
    source = source_of(store, stamp)
    digests = {key.removeprefix(source.prefix): sha256 for key, sha256 in source.promised.items()}
    models = [name for name in digests if any(fits(name, pattern) for pattern in block.models)]
    if path not in models or stored_name(path.encode()) != path:
        raise failure(f"a model that a manifest names in snapshot {stamp}", f"{path}; it has: {', '.join(models)}")
    try:
        with TemporaryFile(dir=context.directory.path) as file:
            file.writelines(store.stream(source.prefix + path))
            size = file.tell()
            file.seek(0)
            finding = ModelFinding(path, digests[path], **read_model(path, file, reading_seconds(size), block))
            if finding.outcome is not Soundness.SOUND:
                raise failure(f"a sound model in snapshot {stamp}", finding.summary)
            now = local(block.root, path)
            if now and now.sha256 not in {digests[path], sealed.sha256 if sealed else ""}:
                raise failure(f"nothing at {path} that this incident has not sealed", f"sha256 {now.sha256}")
            if now and now.sha256 != digests[path] and why_not_recover(verdict.word, ""):
                raise failure(f"{path} to be proven in the store before it is replaced", f"an incident {verdict.word}")
            file.seek(0)
            land(block.root, path, pieces_of(file), digests[path], None)
    except (OSError, Mismatch) as error:
        raise failure(f"{path} of snapshot {stamp} in its place, with sha256 {digests[path]}", str(error)) from error
    context.log.write("model fetched", path, sha256=finding.sha256, snapshot=stamp, replaced=now.sha256 if now else "")
    return StoredFile(path, quote(path.encode()), size, finding.sha256), finding
