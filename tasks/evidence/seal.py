"""§4: close the evidence folder by manifest.json, SHA256SUMS and a signature. Later findings go into a supplement."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from tasks.collectors import discover
from tasks.custody.errors import Tampered
from tasks.custody.evidence.acquisition import IN_PLACE, Evidence, Seal, StoredFile
from tasks.custody.evidence.coverage import statement
from tasks.custody.evidence.keys import COVERAGE, MANIFEST, MODELS, SEGMENT, SIGNATURE, SUMS
from tasks.custody.evidence.part_sizes import hash_file, part_size
from tasks.custody.evidence.secrets_in_files import search
from tasks.custody.evidence.volatility import deviations
from tasks.custody.incident.log import CustodyLog
from tasks.custody.incident.steps import step_of
from tasks.custody.store.manifest import Manifest, canonical, digest, require_intact
from tasks.custody.store.rows import require_readable
from tasks.evidence.left_alone import left_alone
from tasks.evidence.refused_look import bring_refused
from tasks.evidence.signing import require_same_hand, sign, signed_by
from tasks.evidence.staging import put_aside
from tasks.evidence.uncopied_files import reading
from tasks.incident.joining import take_over_triggers
from tasks.incident.paths import IncidentDirectory
from tasks.runtime.context import RunContext
from tasks.runtime.step import step
from tasks.system.cancellation import Cancellation
from tasks.system.files.atomic_files import write_whole
from tasks.system.files.disk_reserve import give_all
from tasks.system.files.durable_files import flush_trees

_CLOSING: Final = frozenset({MANIFEST, SIGNATURE, SUMS})
_UNSEALED: Final = "Nothing is sealed or sent: the evidence lies on this host alone."
_SPLIT: Final = (
    "Copy that folder to another disk as it is. Then leave out of the workload block's patterns what has so many files "
    "(or pack it into an archive in the workload), take the same out of the folder, and carry the incident on."
)
_OURS: Final = frozenset({COVERAGE, MODELS, SEGMENT})


def volumes_to_seal(directory: IncidentDirectory, own: int, evidence: Iterable[Evidence]) -> list[int]:
    """Return the sealed folders, and the run's `own` if it is the first or holds something new."""
    fresh = own == 1 or any(item.volume == own and item.files for item in evidence)
    fresh = fresh or any(any(_names(folder)) for folder in _places(directory, own))  # of a killed run
    return list(range(1, own + fresh))


def _by_volume(_: Any, parameters: Mapping[str, Any]) -> str:
    """The number of the volume."""
    return str(parameters["volume"])


@step("seal", "seal volume {volume}", section="§4", ja="封印", retries=2, cache_key_fn=_by_volume)
def seal(context: RunContext, volume: int, evidence: Sequence[Evidence]) -> Seal:
    """Write coverage, custody segment, SHA256SUMS, signature, and last the manifest, which closes the folder."""
    directory, log, incident = context.directory, context.log, context.incident
    folder = directory.evidence_dir(volume)
    if not (folder / MANIFEST).exists():
        give_all(directory.reserve)
        folder.mkdir(mode=0o700, exist_ok=True)
        for half_written in (*folder.glob(".*.new"), folder / SIGNATURE):
            half_written.unlink(missing_ok=True)
        if volume == 1 and not context.run.dry_run:
            context.losses += bring_refused(context.workload, directory.path, incident.id, log, folder)
        if context.workload.sensitive == "withhold":
            _withhold(directory, log, volume, evidence)
        _tell_deviations(log, evidence)
        answers = {name: collector.answers for name, collector in discover().items()}
        directory.write(folder / COVERAGE, canonical(statement(incident.id, volume, evidence, answers)))
        take_over_triggers(directory.path, log)
        directory.write(folder / SEGMENT, b"".join(log.lines(directory.segments_end())))
        found = _files(directory, volume, evidence)
        files = tuple(_add_parts(directory, volume, file, context.cancelled) for file in found)
        origin, now = incident.origin(context.store.label), datetime.now(UTC).isoformat().replace("+00:00", "Z")
        manifest = Manifest(incident.id, volume, now, files, tuple(context.workload.folders), origin)
        sha256, size = manifest.digest_and_size
        require_readable(f"the manifest of {folder}", len(files), size, _UNSEALED, _SPLIT)
        directory.write(folder / SUMS, manifest.sums())
        name = f"{folder.name}/{MANIFEST}"
        if signature := sign(context.store, name, sha256, lambda key: key.sign(manifest.pieces())):
            directory.write(folder / SIGNATURE, signature)
        # What a manifest promises has to survive a power loss that the manifest survives.
        flush_trees(*_places(directory, volume))
        log.sync()
        write_whole(folder / MANIFEST, manifest.pieces())
        log.write("sealed", folder.name, digest=digest(folder / MANIFEST), files=len(files), bytes=manifest.size)
        log.sync()
    return _seal(folder)


def _tell_deviations(log: CustodyLog, evidence: Sequence[Evidence]) -> None:
    """Log each deviation from the order of volatility, with its reason (RFC 3227 §4.1)."""
    order = {name: collector.order for name, collector in discover().items()}
    begun = (step_of(entry) for entry in log.entries() if entry["action"] == "step started")
    tries = Counter(collector for step_id, collector in begun if step_id == "collect")
    for each in deviations(evidence, order, tries):
        log.write("deviation", each.collector, kind="order of volatility", reason=each.reason, after=list(each.after))


def _add_parts(directory: IncidentDirectory, volume: int, file: StoredFile, cancelled: Cancellation) -> StoredFile:
    """Add the part digests of a large file if no collector has, as long as its content is unchanged."""
    cancelled.check()
    if part_size(file.size) and not file.parts:
        with suppress(OSError), reading(directory, volume, file) as path:
            sha256, parts = hash_file(path, file.size)
            return replace(file, parts=parts) if sha256 == file.sha256 else file
    return file


def _withhold(directory: IncidentDirectory, log: CustodyLog, volume: int, evidence: Sequence[Evidence]) -> None:
    """Remove files with secrets that earlier attempts left. Skips this run's files."""
    files = [file for item in evidence if item.volume == volume for file in item.files]
    for folder, names in _find_unnamed(directory, volume, files):
        for name in sorted(names - _CLOSING - _OURS):
            with (folder / name).open("rb") as file:
                found = search(file, name, None)
            if found.hits:
                log.write("withheld", name, found=found.summary, digest=digest(folder / name))
                (folder / name).unlink()


def _places(directory: IncidentDirectory, volume: int) -> dict[Path, str]:
    """Return the folders in which files of a volume lie, each with what the files' `where` says there."""
    fallback = directory.fallback_volume(volume)
    return {directory.evidence_dir(volume): "", **({fallback: str(fallback)} if fallback else {})}


def _find_unnamed(
    directory: IncidentDirectory, volume: int, files: Sequence[StoredFile]
) -> Iterator[tuple[Path, set[str]]]:
    """Yield the folders of a volume, each with the names in it that none of these files has there."""
    for folder, where in _places(directory, volume).items():
        yield folder, _names(folder) - {file.stored for file in files if file.where == where}


def read_manifest(directory: IncidentDirectory, volume: int) -> Manifest:
    """Read the manifest of a sealed folder."""
    return Manifest.at(directory.evidence_dir(volume) / MANIFEST)


@step("check_seal", "check: the seal holds", section="§4", ja="封印の確認", retries=1)
def check_seal(context: RunContext, seals: Sequence[Seal]) -> Seal:
    """Hash all sealed files again, so that changed evidence is not sent. Raises Tampered.

    What this run itself has copied, sealed, and left alone since is not read a second time before it is sent, when
    every byte is compared with the seal. Nor are files that were hashed in place: `offload` finds those that changed.
    """
    directory = context.directory
    for sealed in seals:
        path_of = partial(directory.locate, sealed.volume)
        folder = directory.evidence_dir(sealed.volume)
        for name, sha256 in ((MANIFEST, sealed.manifest_sha256), (SUMS, sealed.sums_sha256)):
            require_intact([StoredFile(name, "", 0, sha256)], folder, path_of)
        require_same_hand(sealed, folder)
        manifest = read_manifest(directory, sealed.volume)
        copies = [file for file in manifest.files if not file.in_place]
        if sealed.volume == context.run.volume:
            closed = datetime.fromisoformat(manifest.generated_utc).timestamp()
            copies = [file for file in copies if not left_alone(path_of(file), file, context.opened_at, closed)]
        require_intact(copies, folder, path_of)
        for place, names in _find_unnamed(directory, sealed.volume, manifest.files):
            if more := sorted(names - _CLOSING if place == folder else names):
                raise Tampered(
                    f"only the sealed files in {place}",
                    f"also {', '.join(more[:5])}",
                    "Nothing is sent.",
                    "Find out who put it there; move it out of the folder and run again.",
                )
    return seals[-1]


def read_seals(directory: IncidentDirectory, own: int) -> tuple[Seal, ...]:
    """Return the seals of all folders that runs before the one with the `own` volume have closed."""
    return tuple(_seal(directory.evidence_dir(volume)) for volume in range(1, own))


def _seal(folder: Path) -> Seal:
    manifest = Manifest.at(folder / MANIFEST)
    return Seal(
        volume=manifest.volume,
        manifest_sha256=digest(folder / MANIFEST),
        sums_sha256=digest(folder / SUMS),
        files=len(manifest.files),
        size=manifest.size,
        signed_by=signed_by(folder),
    )


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}


def _files(directory: IncidentDirectory, volume: int, evidence: Iterable[Evidence]) -> tuple[StoredFile, ...]:
    """Return each file of the volume: as acquired, else, if no attempt of this run names it, as it lies there.

    Then those that lie in the workload alone, and copies that are gone from here: `offload` sends what was copied if
    the workload still has it, and tells the loss if not.
    """
    found = dict[str, StoredFile]()
    acquired: dict[tuple[str, str], set[StoredFile]] = defaultdict(set)
    for file in (file for item in evidence if item.volume == volume for file in item.files):
        acquired[file.stored, file.where].add(file)
    for folder, where in _places(directory, volume).items():
        for name in _names(folder) - (frozenset() if where else _CLOSING):
            named = put_aside(folder, name) if name in found else name  # two collectors at once, space for one
            found[named] = _entry(folder, where, named, acquired[named, where])
    for (name, _), files in acquired.items():
        if name not in found:
            found[name] = replace(min(files, key=repr), where=IN_PLACE)
    return tuple(found[name] for name in sorted(found))


def _entry(folder: Path, where: str, name: str, acquired: set[StoredFile]) -> StoredFile:
    """Return the file's record; if two collectors took it at different times, the one whose digest matches."""
    if len(acquired) > 1:
        sha = digest(folder / name)
        acquired = {file for file in acquired if file.sha256 == sha}
    if acquired:
        return min(acquired, key=repr)
    path, note = folder / name, "" if name in _OURS else "left by an earlier attempt"
    return StoredFile(name, source="", size=path.stat().st_size, sha256=digest(path), note=note, where=where)
