"""Parse documents from a bucket that may be forged, within limits."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass, field
from datetime import datetime
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Final, TypeVar, get_origin

from pydantic import StringConstraints, TypeAdapter, ValidationError

from tasks.custody.audit.finding import AuditFinding, broken, printable
from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.incident.incident import Origin
from tasks.custody.incident.verdict import Word
from tasks.custody.store.manifest import Manifest, file_of, is_canonical, item_of
from tasks.custody.store.retention import MOST_DAYS, Retention
from tasks.custody.store.rows import read_rows, spell

K = TypeVar("K")
T = TypeVar("T")

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
PLAIN: Final = re.compile(r"(?:(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~%+=@:,-]{1,255}(?:/(?!\Z)|\Z))+")
"""Names that are safe for stores and terminals: no segment is empty, "." or ".."."""

_AS_WRITTEN: Final = "canonical JSON (sorted, indented by 2, ASCII) with the fields of a manifest and no other"


class Unreadable(Exception):
    """A document is not what it should be."""

    def __init__(self, expected: str, got: str) -> None:
        """Keep what was expected and what came."""
        super().__init__(f"expected {expected}; got {got}")
        self.expected, self.got = expected, got


class DocumentReader:
    """Reads documents, and collects findings on those that are unreadable."""

    def __init__(self, documents: Mapping[str, bytes]) -> None:
        """Read nothing yet."""
        self._documents = documents
        self.findings: list[AuditFinding] = []

    def read(self, key: str, how: Callable[[bytes], T]) -> T | None:
        """Return a document, None if it is not there or unreadable."""
        if key not in self._documents:
            return None
        try:
            return how(self._documents[key])
        except Unreadable as error:
            self.findings.append(broken(key, "it is not what it should be", error.expected, error.got))
            return None

    def read_each(self, keys: Mapping[K, str], how: Callable[[bytes], T]) -> dict[K, T]:
        """Return the documents that exist and are readable."""
        read = ((name, self.read(key, how)) for name, key in keys.items())
        return {name: found for name, found in read if found is not None}


_Item = tuple[str, str, int, Sha256, int | None, str, str, str, tuple[int, int, tuple[Sha256, ...]] | None]
_ITEM: Final = TypeAdapter(_Item)
_adapter: Final = cache(TypeAdapter)
"""Building one takes longer than validating most documents."""


@dataclass(frozen=True)
class Named:
    """The signer that a closing names."""

    fingerprint: str
    public_key: str = ""


@dataclass(frozen=True)
class Closing:
    """closing.json: what one run vouches for. `signer` is None without a key, `retention` if none was asked.

    `timestamp_url` is the authority that was to stamp it; empty without one. `postmortem` are the pages of a finished
    postmortem, beside the records.
    """

    incident: str
    host: str
    workload: str
    place: str
    record: int
    run: str
    verdict: Word
    closed_utc: datetime
    files: dict[str, Sha256]
    manifests: dict[str, Sha256]
    signer: Named | None = None
    retention: Retention | None = None
    timestamp_url: str = ""
    postmortem: dict[str, Sha256] = field(default_factory=dict)

    @property
    def origin(self) -> Origin:
        """Whose incident it is."""
        return Origin(self.host, self.workload, self.place)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    return found


def parse_json(data: bytes) -> Any:
    """Parse JSON, refusing what two readers could read differently: duplicate names, NaN. Raises Unreadable."""
    try:
        return json.loads(data.decode(), parse_constant=_refuse, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Unreadable("JSON", f"{len(data)} bytes: {printable(error, 120)}") from error


def document(data: bytes) -> dict[str, Any]:
    """Parse a JSON object in canonical form. Raises Unreadable."""
    found = parse_json(data)
    if not isinstance(found, dict):
        raise Unreadable("a JSON object", type(found).__name__)
    try:
        same = is_canonical(found, data)
    except (ValueError, RecursionError) as error:
        raise Unreadable("canonical JSON", printable(error, 120)) from error
    if not same:
        raise Unreadable("canonical JSON (sorted, indented by 2, ASCII)", "another spelling")
    return found


def parse_time(text: object) -> datetime | None:
    """Return a time with its zone; None for anything else."""
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return found if found and found.tzinfo else None


def validate(kind: type[T], value: object) -> T:
    """Return a value validated as `kind`. Raises Unreadable."""
    try:
        found: T = _adapter(kind).validate_python(value)  # type: ignore[arg-type]  # hashable
    except (ValidationError, RecursionError) as error:
        name = getattr(kind, "__name__", kind) if get_origin(kind) is None else "list of attempts or items"
        raise Unreadable(f"the fields of a {name}", _describe_error(error)) from error
    return found


def _describe_error(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "too deep a nesting"
    first = error.errors(include_input=False, include_url=False)[0]
    return printable(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", 200)


def read_closing(data: bytes) -> Closing:
    """Parse closing.json. Its names must be plain, and its retention within limits. Raises Unreadable."""
    found = validate(Closing, document(data))
    for name in (*found.files, *found.manifests, *found.postmortem):
        if not PLAIN.fullmatch(name):
            raise Unreadable("names of stored files", printable(name))
    if found.retention and not 0 <= found.retention.days <= MOST_DAYS:
        raise Unreadable(f"a retention of at most {MOST_DAYS} days", printable(found.retention.days, 80))
    return found


def read_manifest(data: bytes | Iterable[bytes]) -> Manifest:
    """Parse manifest.json, whole or in pieces. Items have unique plain names, sizes and digests. Raises Unreadable."""
    try:
        fields, files = read_rows([data] if isinstance(data, bytes) else data, "items", _item)
        manifest = Manifest.of(fields, files)
        alone = manifest.frame == fields and {*map(type, astuple(manifest.origin))} == {str}
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        raise Unreadable("the fields of a manifest", f"{type(error).__name__}: {printable(error, 120)}") from error
    if not alone or any(before.stored >= after.stored for before, after in pairwise(files)):
        raise Unreadable(f"items sorted by their paths, each once, and {_AS_WRITTEN}", "another manifest")
    return manifest


def _item(row: bytes) -> StoredFile:
    file = file_of(parse_json(row))
    parts = file.parts and (file.parts.size, file.parts.total, file.parts.digests)
    notes = (file.note, file.where, file.access)
    fields = (file.stored, file.source, file.size, file.sha256, file.mtime_ns, *notes, parts)
    try:
        _ITEM.validate_python(fields, strict=True)
    except ValidationError as error:
        raise Unreadable("the fields of a manifest's item", _describe_error(error)) from error
    if not PLAIN.fullmatch(file.stored) or file.size < 0:
        raise Unreadable("items with plain names and a size", printable(file.stored))
    if file.parts and not file.parts.whole:
        raise Unreadable("as many parts as such a file has", printable(file.stored))
    if spell(item_of(file), "\n    ").encode() != row.lstrip(b" "):
        raise Unreadable(_AS_WRITTEN, "another manifest")
    return file
