"""§4, §5: read the findings on a sealed folder's models, and what they keep out of latest/."""

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

from blocks.port import CANARIES
from blocks.workload import Workload
from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.evidence.artifact import torn_json, unsteady
from tasks.custody.evidence.keys import MODELS, in_snapshot, placed_name, stored_name, unquote
from tasks.custody.evidence.pattern import ends_with, matches_any
from tasks.custody.models.content import BEGINNING, looks_like_a_model
from tasks.custody.models.inspection import (
    OTHER_FORMAT,
    Inspection,
    ModelFinding,
    Soundness,
    holds_a_model,
    is_named_as_model,
    why_unsound,
)
from tasks.custody.models.other_format import may_be_zip, why_untrusted
from tasks.incident.paths import IncidentDirectory
from tasks.system.sandbox import Limits, run_confined

_ZIP_LIMITS: Final = Limits(30.0, 2 << 30)
EMPTY: Final = "it is empty"


def sealed_findings(directory: IncidentDirectory, volume: int) -> tuple[ModelFinding, ...]:
    """Read the findings on a sealed folder's models; empty if they were not judged."""
    path = directory.evidence_dir(volume) / MODELS
    return Inspection.from_bytes(path.read_bytes()).findings if path.exists() else ()


def held_back(
    directory: IncidentDirectory, volume: int, files: Iterable[StoredFile], block: Workload
) -> dict[str, str]:
    """Return the sealed files of the workload that are kept out of latest/, by stored name, each with the reason."""
    findings, going = sealed_findings(directory, volume), [file for file in files if latest_place(file, block)]
    return {file.stored: why for file in going if (why := _why_held(directory, volume, file, block, findings))}


def latest_place(file: StoredFile, block: Workload) -> str:
    """Return the name of a sealed file below latest/; empty if it does not go there.

    The files of models/, artifacts/, logs/ and the block's `folders` go there, and those that its `models` patterns
    name elsewhere below the root, under their path. A doctor's canary, of a store that lay in the root, does not.
    """
    source = unquote(file.source)
    if not source or CANARIES.strip("/").encode() in source.split(b"/"):
        return ""
    if in_snapshot(file.stored, block.folders):
        return file.stored
    goes = file.stored == placed_name(source) and matches_any(file.path, block.models)
    return stored_name(source) if goes else ""


def _why_held(
    directory: IncidentDirectory, volume: int, file: StoredFile, block: Workload, findings: Sequence[ModelFinding]
) -> str:
    if is_model(directory, volume, file, block) or any(finding.stored == file.stored for finding in findings):
        return why_unsound(file.stored, file.sha256, findings)
    if why := ("" if file.size else EMPTY) or unsteady(file.stored, file.note):
        return why
    if file.stored.startswith("models/") and holds_a_model(file.path):  # as one that a pattern names
        return f"{Soundness.UNKNOWN}: {OTHER_FORMAT}"
    try:
        path = directory.locate(volume, file)
        return _why_packed(path, file.path) or (torn_json(path) if is_result(file, block) else "")
    except OSError as error:
        return f"it could not be read again: {error.strerror or error}"


def _why_packed(path: Path, name: str) -> str:
    """Return why a file that nobody has judged may hold a pickle in what it packs. A zip is read in a sandbox."""
    with path.open("rb") as file:
        head = file.read(BEGINNING)
        if not may_be_zip(file, head):
            return why_untrusted(head, name)
        file.seek(0)
        answer = run_confined([sys.executable, "-P", "-m", "tasks.models.zip_scanner"], file, _ZIP_LIMITS)
    try:
        return str(json.loads(answer.output))
    except ValueError:
        return f"reading it {'took too long' if answer.late else 'broke its reader'}: it may hold a pickle"


def is_result(file: StoredFile, block: Workload) -> bool:
    """Return whether a pattern of the block says that the file is a result, which has to be whole to be of use."""
    return matches_any(file.path, (*block.artifacts, *block.models))


def sound_models(files: Iterable[StoredFile], findings: Sequence[ModelFinding]) -> list[StoredFile]:
    """Return the sealed files that are models found to be sound."""
    judged = {finding.sha256 for finding in findings}
    return [file for file in files if file.sha256 in judged and not why_unsound(file.stored, file.sha256, findings)]


def is_model(directory: IncidentDirectory, volume: int, file: StoredFile, block: Workload) -> bool:
    """Return whether a file is a model: by name, the block's patterns or its first bytes. What is unread may be one."""
    if not file.source:
        return False
    if is_named_as_model(file.stored) or (ends_with(file.path, block.models) and not file.path.endswith(".json")):
        return True
    if trusted_format(file.path, block):
        return True
    with suppress(OSError), directory.locate(volume, file).open("rb") as opened:
        return looks_like_a_model(opened.read(BEGINNING))
    return True


def trusted_format(path: str, block: Workload) -> str:
    """Return the suffix of a file if the block trusts it, and its patterns name the file as a model; else empty."""
    suffix = PurePosixPath(path).suffix.lower()
    is_named = matches_any(path, block.models) or (path.startswith("/") and ends_with(path, block.models))
    return suffix if is_named and suffix in block.model_formats else ""
