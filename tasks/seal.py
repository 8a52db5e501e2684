"""§4: close the evidence folder. Afterwards nothing in it changes; later findings go into a supplement."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tasks.case import Case, write_whole
from tasks.custody.errors import Tampered
from tasks.custody.evidence import Evidence, Seal, StoredFile
from tasks.custody.keys import COVERAGE, MANIFEST, MODELS, SEGMENT, SIGNATURE, SUMS
from tasks.custody.manifest import Manifest, canonical, digest, digest_bytes, require_intact
from tasks.signing import require_same_hand, sign, signed_by
from tasks.step import step

_CLOSING: Final = frozenset({MANIFEST, SIGNATURE, SUMS})


def volumes_to_seal(case: Case, evidence: Iterable[Evidence]) -> list[int]:
    """The sealed folders, and this run's own if it is the first or holds something new."""
    fresh = case.volume == 1 or any(item.volume == case.volume and item.files for item in evidence)
    return list(range(1, case.volume + fresh))


def _by_volume(case: Case, volume: int, evidence: Sequence[Evidence]) -> str:
    del case, evidence
    return str(volume)


@step("§4 seal volume {volume}", key=_by_volume)
def seal(case: Case, volume: int, evidence: Sequence[Evidence]) -> Seal:
    """Write coverage, custody segment, SHA256SUMS, signature, and the manifest last: with it the folder is closed."""
    folder = case.folder(volume)
    if not (folder / MANIFEST).exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        for half_written in (*folder.glob(".*.new"), folder / SIGNATURE):
            half_written.unlink(missing_ok=True)
        write_whole(folder / COVERAGE, canonical([asdict(item) for item in evidence]))
        write_whole(folder / SEGMENT, b"".join(case.log.lines(case.segments_end())))
        manifest = Manifest(case.incident.id, volume, _now(), _files(folder, volume, evidence))
        write_whole(folder / SUMS, manifest.sums())
        if signature := sign(case, f"{folder.name}/{MANIFEST}", manifest.to_bytes()):
            write_whole(folder / SIGNATURE, signature)
        write_whole(folder / MANIFEST, manifest.to_bytes())
        _sync(folder)
        case.log.sync()
    return _seal(folder)


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def read_manifest(case: Case, volume: int) -> Manifest:
    """The manifest of a sealed folder."""
    return Manifest.from_bytes((case.folder(volume) / MANIFEST).read_bytes())


@step("§4 check: the seal holds")
def check_seal(case: Case, seals: Sequence[Seal]) -> Seal:
    """Hash everything again before it is used: sealed evidence that has changed is not sent as if it had not."""
    for sealed in seals:
        folder = case.folder(sealed.volume)
        for name, said in ((MANIFEST, sealed.manifest_sha256), (SUMS, sealed.sums_sha256)):
            require_intact([StoredFile(name, "", 0, said)], folder)
        require_same_hand(sealed, folder)
        require_intact(read_manifest(case, sealed.volume).files, folder)
        _require_nothing_more(case, sealed.volume)
    return seals[-1]


def _require_nothing_more(case: Case, volume: int) -> None:
    folder = case.folder(volume)
    named = {file.stored for file in read_manifest(case, volume).files} | _CLOSING
    if more := sorted(_names(folder) - named):
        raise Tampered(
            f"only the sealed files in {folder}",
            f"also {', '.join(more[:5])}",
            "Nothing is sent.",
            "Find out who put it there; move it out of the folder and run again.",
        )


def sealed(case: Case) -> tuple[Seal, ...]:
    """The seals of all folders that earlier runs have closed."""
    return tuple(_seal(case.folder(volume)) for volume in range(1, case.volume))


def _seal(folder: Path) -> Seal:
    manifest = Manifest.from_bytes((folder / MANIFEST).read_bytes())
    return Seal(
        manifest.volume,
        digest(folder / MANIFEST),
        digest(folder / SUMS),
        len(manifest.files),
        manifest.size,
        signed_by(folder),
    )


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}


def _files(folder: Path, volume: int, evidence: Iterable[Evidence]) -> tuple[StoredFile, ...]:
    """Every file in the folder: as it was acquired, or, if no attempt of this run names it, as it lies there."""
    acquired: dict[str, set[StoredFile]] = {}
    for file in (file for item in evidence if item.volume == volume for file in item.files):
        acquired.setdefault(file.stored, set()).add(file)
    return tuple(_entry(folder, name, acquired.get(name, set())) for name in sorted(_names(folder) - _CLOSING))


def _entry(folder: Path, name: str, acquired: set[StoredFile]) -> StoredFile:
    """Where two collectors took the same file at different times, the one that lies there counts."""
    if len(acquired) > 1:
        sha = digest(folder / name)
        acquired = {file for file in acquired if file.sha256 == sha}
    return min(acquired, key=repr, default=None) or _as_it_lies(folder, name)


def _as_it_lies(folder: Path, name: str) -> StoredFile:
    data = (folder / name).read_bytes()
    note = "" if name in {COVERAGE, SEGMENT} else "left by an earlier attempt of this incident"
    return StoredFile(name, "", len(data), digest_bytes(data), None, note)


def _sync(folder: Path) -> None:
    for name in sorted(_names(folder)):
        descriptor = os.open(folder / name, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
