"""Blocks from a file: tables [workload.NAME] and [store.NAME] of TOML, with the fields of the blocks."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar, cast

from prefect.blocks.core import Block
from pydantic import ValidationError

from blocks.store import EvidenceStore
from blocks.workload import Workload
from tasks.custody.errors import Refused

B = TypeVar("B", bound=Block)
_KINDS: dict[str, type[Block]] = {"workload": Workload, "store": EvidenceStore}
_SAVED = ("credentials", "signing")
"""Fields that name another block, as "signing-key/evacuation": secrets have no place in a file."""


def load(path: Path) -> list[tuple[str, Block]]:
    """Every block of a file, all of them validated. Raises Refused."""
    return [(name, _block(kind, name, fields)) for kind, named in _tables(path) for name, fields in named.items()]


def workloads(path: Path) -> dict[str, Workload]:
    """The workloads of a file alone: this needs no server, whatever the stores in it refer to. Raises Refused."""
    found = [item for kind, named in _tables(path) if kind == "workload" for item in named.items()]
    return {name: _checked(Workload, "workload", name, fields) for name, fields in found}


def store(path: Path, name: str = "") -> EvidenceStore:
    """The store of that name, or the only one, to read from: nothing is signed, so no key is loaded. Raises Refused.

    Needs no server unless its credentials name a saved block.
    """
    found = dict(item for kind, named in _tables(path) if kind == "store" for item in named.items())
    chosen = [name] if name in found else list(found) if not name else []
    if len(chosen) != 1:
        known = ", ".join(found) or "none"
        raise Refused(f"one store in {path}", f"{name!r} of {known}" if name else known, f"Name it: {path}:NAME.")
    fields = {field: value for field, value in found[chosen[0]].items() if field != "signing"}
    return cast("EvidenceStore", _block("store", chosen[0], fields))


def _tables(path: Path) -> list[tuple[str, dict[str, dict[str, Any]]]]:
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Refused("a TOML file", f"{path}: {error}", "Start from examples/evacuation.toml.") from error
    if not tables or (unknown := tables.keys() - _KINDS):
        found = ", ".join(sorted(unknown)) if tables else "nothing"
        raise Refused("tables [workload.NAME] and [store.NAME]", found, "Start from examples/evacuation.toml.")
    return list(tables.items())


def _block(kind: str, name: str, fields: dict[str, Any]) -> Block:
    if named := {field: fields[field] for field in _SAVED if isinstance(fields.get(field), str)}:
        _require_known(_KINDS[kind], kind, name, fields)
        fields = fields | {field: Block.load(reference) for field, reference in named.items()}
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
