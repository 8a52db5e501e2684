"""Read blocks from a TOML file with tables [workload.NAME] and [store.NAME], whose keys are the blocks' fields."""

import logging
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from prefect.blocks.core import Block
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)
from pydantic import ValidationError

from blocks.saved import saved_block
from blocks.store import EvidenceStore
from blocks.workload import Workload
from tasks.custody.errors import Refused
from tasks.custody.incident.description import Tables, one, tables

logger = logging.getLogger(__name__)

_OTHERS: Final = 0o077
_AT_ONCE: Final = {PREFECT_API_REQUEST_TIMEOUT: 3.0, PREFECT_CLIENT_MAX_RETRIES: 0}

B = TypeVar("B", bound=Block)
_KINDS: dict[str, type[Block]] = {"workload": Workload, "store": EvidenceStore}
_SAVED = ("credentials", "promoter", "signing")
"""Fields that may name a saved block, such as "signing-key/evacuation", to keep secrets out of the file."""


def load(path: Path) -> list[tuple[str, Block]]:
    """Return every block of a file, validated for saving. Raises Refused, or ValueError if an API has two ports."""
    made = [(name, _block(kind, name, fields)) for kind, named in _read(path).items() for name, fields in named.items()]
    for _, block in made:
        if isinstance(block, Workload):
            block.require_one_port()
    return made


def workloads(path: Path) -> dict[str, Workload]:
    """Return the workloads of a file, without asking a server. Raises Refused."""
    found = [item for kind, named in _read(path).items() if kind == "workload" for item in named.items()]
    return {name: _checked(Workload, "workload", name, fields) for name, fields in found}


def store(path: Path, name: str = "") -> EvidenceStore:
    """Return the named or only store, for reading: without its signing key. Raises Refused.

    Asks the Prefect server only if its credentials name a saved block.
    """
    called, found = one(_read(path), "store", str(path), name)
    fields = {field: value for field, value in found.items() if field != "signing"}
    return cast("EvidenceStore", _block("store", called, fields))


def workload_given(path: Path, name: str = "") -> tuple[str, Workload]:
    """Return name and block of the named or only workload, for a run without a server. Raises Refused."""
    called, fields = one(_read(path), "workload", str(path), name)
    return called, _checked(Workload, "workload", called, fields)


def store_given(path: Path, name: str = "") -> tuple[str, dict[str, Any]]:
    """Return name and fields of the named or only store, for a run without a server. Raises Refused.

    If the server with its credentials or key does not answer, the references stay: containment does not wait for it.
    """
    called, fields = one(_read(path), "store", str(path), name)
    if any(isinstance(fields.get(field), dict) for field in _SAVED) and path.stat().st_mode & _OTHERS:
        logger.warning("%s holds secrets, and others may read it: chmod 600", path)
    _checked(EvidenceStore, "store", called, {field: fields[field] for field in fields.keys() - set(_saved_in(fields))})
    return called, {**fields, **{field: _saved_fields(each) for field, each in _saved_in(fields).items()}}


def _saved_in(fields: dict[str, Any]) -> dict[str, str]:
    """Return the fields that name a saved block."""
    return {field: fields[field] for field in _SAVED if isinstance(fields.get(field), str)}


def _saved_fields(reference: str) -> Any:
    """Return the fields of a saved block, or its reference if the server does not give them."""
    from prefect.client.orchestration import get_client

    kind, _, name = reference.partition("/")
    if PREFECT_API_URL.value() is None:
        logger.warning("%s was not loaded: PREFECT_API_URL names no Prefect server", reference)
        return reference
    try:
        with temporary_settings(_AT_ONCE), get_client(sync_client=True) as client:
            return client.read_block_document_by_name(name, kind).data
    except Exception as error:  # noqa: BLE001  containment goes on without the server
        logger.warning("%s was not loaded from the Prefect server: %s: %s", reference, type(error).__name__, error)
        return reference


def _read(path: Path) -> Tables:
    try:
        return tables(str(path), path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise Refused("a TOML file", f"{path}: {error}", "Start from examples/evacuation.toml.") from error


def _block(kind: str, name: str, fields: dict[str, Any]) -> Block:
    if named := _saved_in(fields):
        _require_known(_KINDS[kind], kind, name, fields)
        fields = fields | {field: saved_block(reference) for field, reference in named.items()}
    return _checked(_KINDS[kind], kind, name, fields)


def _checked(cls: type[B], kind: str, name: str, fields: dict[str, Any]) -> B:
    _require_known(cls, kind, name, fields)
    try:
        return cls(**fields)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise Refused(f"a valid [{kind}.{name}]", said, "Correct the file.") from error


def _require_known(cls: type[Block], kind: str, name: str, fields: dict[str, Any]) -> None:
    if unknown := fields.keys() - cls.model_fields:
        raise Refused(
            f"fields of {kind}: {', '.join(cls.model_fields)}",
            f"{', '.join(sorted(unknown))} in [{kind}.{name}]",
            "Correct the name.",
        )
