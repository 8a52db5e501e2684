"""Read blocks from a TOML file: tables [workload.NAME], [store.NAME], [fleet.NAME] with the fields of the blocks."""

import logging
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from pydantic import BaseModel, ValidationError

from blocks.workload_fields import WorkloadFields
from tasks.custody.errors import Refused
from tasks.custody.incident.description import BUCKET, Tables, exported_store, one, read_description, read_tables
from tasks.custody.visible import say

if TYPE_CHECKING:
    from prefect.blocks.core import Block

    from blocks.store_fields import StoreFields
    from blocks.workload import Workload

logger = logging.getLogger(__name__)

_OTHERS: Final = 0o077

M = TypeVar("M", bound=BaseModel)
_SAVED = ("credentials", "promoter", "signing")
"""Fields that may name a saved block, such as "signing-key/evacuation", to keep secrets out of the file."""
_HARMLESS: Final = frozenset(
    {"key_file", "identity", "endpoint_url", "region_name", "profile_name", "verify_cert_path"}
)
"""What of a table in such a field is no secret."""


def load(path: Path) -> "list[tuple[str, Block]]":
    """Return every block of a file, validated for saving. Raises Refused, or ValueError if an API has two ports."""
    from blocks.workload import Workload

    tables = read_tables(path).items()
    result = [(name, _block(kind, name, fields)) for kind, named in tables for name, fields in named.items()]
    for _, block in result:
        if isinstance(block, Workload):
            block.require_one_port()
    return result


def save(blocks: "list[tuple[str, Block]]") -> None:
    """Save blocks, and print the name of each. What this host lacks of them is said, and saved all the same."""
    from blocks.workload import Workload

    for name, block in blocks:
        block.save(name, overwrite=True)
        print(f"saved {block.get_block_type_slug()}/{name}")
        if isinstance(block, Workload):
            say(*(f"{name}: {each}" for each in lacking(block)), error=True)


def lacking(block: WorkloadFields, *, command: bool = True) -> Iterator[str]:
    """Yield what a workload names and neither this host nor the Prefect server has; nothing of another host's.

    Without `command` nothing of api_command, which starts no API that is a container or unit.
    """
    elsewhere = ", unless as a unit or container" if block.units or block.containers else ""
    if block.host == socket.gethostname():
        if not block.root.is_dir():
            yield f"root: {block.root} is no folder of this host. Correct it, or make it"
        missing = [word for word in block.api_command[1:2] if "/" in word and not (block.root / word).exists()]
        for word in (*no_program(block, block.api_command), *missing) if command and block.root.is_dir() else ():
            yield f"api_command: {word} is not there, so a recovery could not start the API{elsewhere}"
    if block.api_headers and not _is_there(block):
        yield f"api_headers: {block.api_headers} is not there. Save it (docs/setup.md), or a recovery goes without it"


def no_program(block: WorkloadFields, command: Sequence[str]) -> list[str]:
    """Return the first word of a command if it is no program where a run would look for it; else nothing."""
    places = {word: block.root / word if "/" in word else word for word in command[:1]}
    return [word for word, place in places.items() if not shutil.which(place, path=os.defpath)]


def _is_there(block: WorkloadFields) -> bool:
    if block.api_headers.startswith("/"):
        return block.host != socket.gethostname() or Path(block.api_headers).is_file()
    from prefect.exceptions import ObjectNotFound

    from blocks.saved import saved_fields

    try:
        saved_fields(block.api_headers, secrets=False)
    except ObjectNotFound:
        return False
    return True


def workloads(read: Tables) -> dict[str, WorkloadFields]:
    """Return the workloads of a file. Needs no Prefect, whatever the stores in it refer to. Raises Refused."""
    found = read.get("workload", {}).items()
    return {name: _validate(WorkloadFields, "workload", name, fields) for name, fields in found}


def store(path: Path, name: str = "") -> "StoreFields":
    """Read the store of that name, or the only one, to read from: nothing is signed, so no key is loaded.

    Needs Prefect only for credentials that name a saved block, or that assume a role. Raises Refused.
    """
    from blocks.credentials import Keys
    from blocks.store_fields import StoreFields

    def plain(credentials: Any) -> bool:
        return not credentials or (isinstance(credentials, dict) and credentials.keys() <= Keys.model_fields.keys())

    called, found = one(read_description(path, "store"), "store", str(path), name)
    fields = {field: value for field, value in found.items() if field != "signing"}
    if all(plain(fields.get(field)) for field in _SAVED):
        return _validate(StoreFields, "store", called, fields)
    from blocks.saved import asking_server

    with asking_server():
        return cast("StoreFields", _block("store", called, fields))


def store_at(url: str) -> "StoreFields":
    """Return the store at a bucket's URL, or at $S3_BUCKET. Raises Refused."""
    from blocks.store_fields import StoreFields

    return _validate(StoreFields, "store", url or BUCKET, exported_store(url))


def workload_given(path: Path, name: str = "") -> "tuple[str, Workload]":
    """Return name and block of the named or only workload, for a run without a server. Raises Refused."""
    from blocks.workload import Workload

    called, fields = one(read_description(path, "workload"), "workload", str(path), name)
    return called, _validate(Workload, "workload", called, fields)


def store_given(path: Path, name: str = "") -> tuple[str, dict[str, Any]]:
    """Return name and fields of the named or only store, for a run without a server. Raises Refused.

    If the server with its credentials or key does not answer, the references stay: containment does not wait for it.
    """
    from blocks.store import EvidenceStore

    called, fields = one(read_description(path, "store"), "store", str(path), name)
    tables = [fields[field] for field in _SAVED if isinstance(fields.get(field), dict)]
    if not all(_HARMLESS.issuperset(each) for each in tables) and path.stat().st_mode & _OTHERS:
        logger.warning("%s holds secrets, and others may read it: chmod 600", path)
    saved = _saved_in(fields)
    _validate(EvidenceStore, "store", called, {field: fields[field] for field in fields.keys() - saved.keys()})
    return called, {**fields, **{field: _fields_or(each) for field, each in saved.items()}}


def _saved_in(fields: dict[str, Any]) -> dict[str, str]:
    """Return the fields that name a saved block."""
    return {field: fields[field] for field in _SAVED if isinstance(fields.get(field), str)}


def _fields_or(reference: str) -> Any:
    """Return the fields of a saved block, or its reference if the server does not give them."""
    from prefect import settings

    from blocks.saved import saved_fields

    if settings.PREFECT_API_URL.value() is None:
        logger.warning("%s was not loaded: PREFECT_API_URL names no Prefect server", reference)
        return reference
    at_once = {settings.PREFECT_API_REQUEST_TIMEOUT: 3.0, settings.PREFECT_CLIENT_MAX_RETRIES: 0}
    try:
        with settings.temporary_settings(at_once):
            return saved_fields(reference)
    except Exception as error:  # noqa: BLE001  whatever is wrong with the server, the workload has to be contained
        logger.warning("%s was not loaded from the Prefect server: %s: %s", reference, type(error).__name__, error)
        return reference


def _block(kind: str, name: str, fields: dict[str, Any]) -> "Block":
    from blocks.fleet import Fleet
    from blocks.saved import saved_block
    from blocks.store import EvidenceStore
    from blocks.workload import Workload

    kinds: dict[str, type[Block]] = {"workload": Workload, "store": EvidenceStore, "fleet": Fleet}
    cls = kinds[kind]
    if named := _saved_in(fields):
        _require_known(cls, kind, name, fields)
        fields = fields | {field: saved_block(reference) for field, reference in named.items()}
    return _validate(cls, kind, name, fields)


def _validate(cls: type[M], kind: str, name: str, fields: dict[str, Any]) -> M:
    _require_known(cls, kind, name, fields)
    try:
        return cls(**fields)
    except ValidationError as error:
        exported = f", or {BUCKET}" if name == BUCKET or "://" in name else ""
        raise Refused(f"a valid [{kind}.{name}]", complaints(error, cls), f"Correct the file{exported}.") from error


def complaints(error: ValidationError, cls: type[BaseModel] | None = None) -> str:
    """Return what is wrong with each field, in one line; of a form that is a pattern what the field means too."""
    parts = []
    for item in error.errors():
        where, what = ".".join(map(str, item["loc"])), item["msg"].removeprefix("Value error, ")
        field = cls.model_fields.get(str(item["loc"][0])) if cls and item["loc"] else None
        if field and field.description and item["type"] == "string_pattern_mismatch":
            what += f" ({field.description.partition('. ')[0].removesuffix('.')})"
        parts.append(f"{where}: {what}" if where else what)
    return "; ".join(parts).replace("Nothing was saved. ", "")  # whoever refuses says what was touched


def _require_known(cls: type[BaseModel], kind: str, name: str, fields: dict[str, Any]) -> None:
    if unknown := sorted(fields.keys() - cls.model_fields):
        near = [found for each in unknown for found in get_close_matches(each, cls.model_fields, 1)]
        expected = near if len(near) == len(unknown) else cls.model_fields
        got = f"{', '.join(unknown)} in [{kind}.{name}]"
        raise Refused(f"fields of {kind}: {', '.join(expected)}", got, "Correct the name. 名前を直してください。")
