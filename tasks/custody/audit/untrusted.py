"""Documents from a bucket that may be forged: read within limits, or not at all."""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar, get_origin

from pydantic import StringConstraints, TypeAdapter, ValidationError

from tasks.custody.audit.finding import shown
from tasks.custody.evidence import StoredFile
from tasks.custody.manifest import Manifest, is_canonical
from tasks.custody.retention import MOST_DAYS, Retention
from tasks.custody.verdict import Word

T = TypeVar("T")

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
PLAIN: Final = re.compile(r"(?:(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~%+=@:,-]{1,255}(?:/(?!\Z)|\Z))+")
"""Names that a store takes and a terminal shows: no segment is empty, "." or ".."."""


class Unreadable(Exception):
    """What a document should have been, and what it is."""

    def __init__(self, expected: str, got: str) -> None:
        """Keep both."""
        super().__init__(f"expected {expected}; got {got}")
        self.expected, self.got = expected, got


class Older(Unreadable):
    """A document of a version that did not tell yet what an audit needs."""


_Item = tuple[str, str, int, Sha256, int | None, str, str]


def _item(file: StoredFile) -> tuple[object, ...]:
    return file.stored, file.source, file.size, file.sha256, file.mtime_ns, file.note, file.where


@dataclass(frozen=True)
class Named:
    """Whom a closing names as its signer."""

    fingerprint: str


@dataclass(frozen=True)
class Closing:
    """closing.json: what one run vouches for. `signer` is None without a key, `retention` where none was asked."""

    incident: str
    record: int
    run: str
    verdict: Word
    closed_utc: datetime
    files: dict[str, Sha256]
    manifests: dict[str, Sha256]
    signer: Named | None = None
    retention: Retention | None = None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    return found


def parsed(data: bytes) -> Any:
    """JSON without anything that two readers could read differently."""
    try:
        return json.loads(data.decode(), parse_constant=_refuse, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Unreadable("JSON", f"{len(data)} bytes: {shown(error, 120)}") from error


def document(data: bytes) -> dict[str, Any]:
    """A JSON object in its one canonical spelling, as all that we write."""
    found = parsed(data)
    if not isinstance(found, dict):
        raise Unreadable("a JSON object", type(found).__name__)
    try:
        same = is_canonical(found, data)
    except (ValueError, RecursionError) as error:
        raise Unreadable("canonical JSON", shown(error, 120)) from error
    if not same:
        raise Unreadable("canonical JSON (sorted, indented by 2, ASCII)", "another spelling")
    return found


def typed(kind: type[T], value: object, *, strict: bool = False) -> T:
    """A value of the right shape."""
    try:
        return TypeAdapter(kind).validate_python(value, strict=strict or None)
    except (ValidationError, RecursionError) as error:
        raise Unreadable(f"the fields of a {_name(kind)}", _said(error)) from error


def _name(kind: object) -> str:
    return str(getattr(kind, "__name__", kind)) if get_origin(kind) is None else "list of attempts or items"


def _said(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "too deep a nesting"
    first = error.errors(include_input=False, include_url=False)[0]
    return shown(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", 200)


def read_closing(data: bytes) -> Closing:
    """closing.json; its files lie beside it, and its manifests below the incident."""
    found = typed(Closing, document(data))
    for name in (*found.files, *found.manifests):
        if not PLAIN.fullmatch(name):
            raise Unreadable("names of stored files", shown(name))
    if found.retention and not 0 <= found.retention.days <= MOST_DAYS:
        raise Unreadable(f"a retention of at most {MOST_DAYS} days", shown(found.retention.days, 80))
    return found


def read_manifest(data: bytes) -> Manifest:
    """manifest.json: every item with a plain name of its own, a size and a digest."""
    document(data)
    try:
        manifest = Manifest.from_bytes(data)
        spelled = manifest.to_bytes() == data
        divided = {file.stored: file.parts for file in manifest.files if file.parts}
        typed(tuple[tuple[int, int], ...], tuple((each.size, each.total) for each in divided.values()), strict=True)
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        raise Unreadable("the fields of a manifest", f"{type(error).__name__}: {shown(error, 120)}") from error
    typed(tuple[_Item, ...], tuple(map(_item, manifest.files)), strict=True)
    if bad := [file.stored for file in manifest.files if not PLAIN.fullmatch(file.stored) or file.size < 0]:
        raise Unreadable("items with plain names and a size", shown(bad[0]))
    typed(tuple[tuple[Sha256, ...], ...], tuple(parts.digests for parts in divided.values()), strict=True)
    if odd := [name for name, parts in divided.items() if not parts.whole]:
        raise Unreadable("as many parts as such a file has", shown(odd[0]))
    if len({file.stored for file in manifest.files}) != len(manifest.files):
        raise Unreadable("each name once", "a name that is given twice")
    if not spelled:
        raise Unreadable("items sorted by their paths, with the fields of a manifest and no other", "another manifest")
    return manifest
