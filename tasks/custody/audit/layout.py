"""Sort an incident's keys in a bucket into volumes and records, and find gaps."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from tasks.custody.evidence.keys import (
    CLOSING,
    COVERAGE,
    MANIFEST,
    SEGMENT,
    STATEMENT,
    TIME_STAMP,
    UNSTAMPED,
    VERDICT,
    claim_key,
    evidence_key,
    record_key,
)

Covers: TypeAlias = Mapping[str, Collection[tuple[str, str, str]]]
"""By a closing's key, the documents that it covers: sealed, signed or unsigned, key, digest."""
SIGNATURE: Final = ".sig"
_VOLUME: Final = re.compile(r"evidence(?:\.([2-9]|[1-9][0-9]{1,2}))?/.")
_NUMBER: Final = r"(?:\.([1-9]\d{0,2}))?"
CLOSED: Final = re.compile(rf"record/(\d{{3}})/{re.escape(CLOSING)}({re.escape(SIGNATURE)})?")
"""Matches the names of closings and of their signatures: the record's number, and whether it is a signature."""
_RECORD: Final = re.compile(r"record/(\d{3})/.")


@dataclass(frozen=True)
class Layout:
    """The numbers of an incident's evidence folders and records of which any object exists."""

    incident: str
    volumes: tuple[int, ...]
    records: tuple[int, ...]

    @property
    def home(self) -> str:
        """The prefix of its documents."""
        return f"incidents/{self.incident}/"

    @property
    def snapshot(self) -> str:
        """The time stamp of the incident's snapshot."""
        return self.incident.removeprefix("IR-")

    def manifest(self, volume: int) -> str:
        """Return the key of a manifest."""
        return evidence_key(self.incident, volume, MANIFEST)

    def closing(self, record: int) -> str:
        """Return the key of a closing."""
        return record_key(self.incident, record, CLOSING)

    def verdict(self, record: int) -> str:
        """Return the key of a verdict."""
        return record_key(self.incident, record, VERDICT)

    def statement(self, record: int) -> str:
        """Return the key of the statement beside a verdict."""
        return record_key(self.incident, record, STATEMENT)

    def coverage(self, volume: int) -> str:
        """Return the key of a coverage statement."""
        return evidence_key(self.incident, volume, COVERAGE)

    @property
    def segments(self) -> tuple[str, ...]:
        """Keys of the custody log's segments."""
        sealed = (evidence_key(self.incident, volume, SEGMENT) for volume in self.volumes)
        return (*sealed, *(record_key(self.incident, record, SEGMENT) for record in self.records))

    @property
    def signed_keys(self) -> tuple[str, ...]:
        """Keys of the signed documents: each manifest and each closing."""
        return (*map(self.manifest, self.volumes), *map(self.closing, self.records))

    @property
    def documents(self) -> tuple[str, ...]:
        """Keys of all documents that describe other objects, signed ones first."""
        signatures = (f"{key}{SIGNATURE}" for key in self.signed_keys)
        verdicts = (*map(self.verdict, self.records), *map(self.statement, self.records))
        coverage = map(self.coverage, self.volumes)
        names = (TIME_STAMP, UNSTAMPED)
        stamps = (record_key(self.incident, record, name) for record in self.records for name in names)
        return (claim_key(self.incident), *self.signed_keys, *signatures, *verdicts, *self.segments, *coverage, *stamps)

    def folder(self, volume: int) -> str:
        """Return the prefix of an evidence folder."""
        return evidence_key(self.incident, volume, "")

    def owns(self, key: str) -> bool:
        """Return whether a key belongs to the incident, so that one of its documents must name it.

        A stamp with a host name may look like another incident's supplement: IR-…-gpu.2 is a valid id of a host gpu.2.
        """
        if key.startswith(f"incidents/{self.incident}/"):
            return True
        match = re.fullmatch(rf"snapshots/{re.escape(self.snapshot)}{_NUMBER}/.*", key, re.DOTALL)
        number = match and match[1]
        return bool(match) and (not number or "-" not in self.snapshot or int(number) in self.volumes)


def listings(incident: str) -> tuple[str, ...]:
    """Return the prefixes to list. They cover all keys of the incident, and some of others."""
    return f"incidents/{incident}/", f"snapshots/{incident.removeprefix('IR-')}"


def layout_of(incident: str, keys: Iterable[str]) -> Layout:
    """Return the layout of the keys below incidents/ID/. Ignores folders with numbers that we never write."""
    inside = [key.removeprefix(f"incidents/{incident}/") for key in keys if key.startswith(f"incidents/{incident}/")]
    volumes = {int(match[1] or 1) for name in inside if (match := _VOLUME.match(name))}
    return Layout(incident, tuple(sorted(volumes)), records_in(inside))


def records_in(names: Iterable[str]) -> tuple[int, ...]:
    """Return the numbers of the records of which any of these names is. Ignores number 0, which we never write."""
    return tuple(sorted({int(match[1]) for name in names if (match := _RECORD.match(name))} - {0}))


def gaps(numbers: Collection[int]) -> tuple[int, ...]:
    """Return the missing numbers below the highest one, counting from 1."""
    return tuple(sorted(set(range(1, max(numbers, default=0))) - set(numbers)))


def beside(closing: str) -> tuple[str, str]:
    """Return the keys beside a closing: its time stamp's, and that of the reason why there is none."""
    folder = closing.removesuffix(CLOSING)
    return folder + TIME_STAMP, folder + UNSTAMPED
