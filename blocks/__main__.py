"""Save blocks from a file: `python -m blocks evacuation.toml`. Saving again replaces what is saved under the name."""

import sys
import tomllib
from pathlib import Path
from typing import Any

from prefect.blocks.core import Block
from pydantic import ValidationError

from blocks import EvidenceStore, Workload
from tasks.custody.errors import Refused

_KINDS: dict[str, type[Block]] = {"workload": Workload, "store": EvidenceStore}


def load(path: Path) -> list[tuple[str, Block]]:
    """Blocks of a file, all of them validated before the first is saved. Raises Refused."""
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Refused("a TOML file", f"{path}: {error}", "Start from examples/evacuation.toml.") from error
    if not tables or (unknown := tables.keys() - _KINDS):
        found = ", ".join(sorted(unknown)) if tables else "nothing"
        raise Refused("tables [workload.NAME] and [store.NAME]", found, "Start from examples/evacuation.toml.")
    return [(name, _block(kind, name, fields)) for kind, named in tables.items() for name, fields in named.items()]


def _block(kind: str, name: str, fields: dict[str, Any]) -> Block:
    cls = _KINDS[kind]
    if unknown := fields.keys() - cls.model_fields:
        raise Refused(
            f"fields of {kind}: {', '.join(cls.model_fields)}",
            f"{', '.join(sorted(unknown))} in [{kind}.{name}]",
            "Correct the name.",
        )
    if isinstance(fields.get("credentials"), str):
        fields = fields | {"credentials": Block.load(fields["credentials"])}
    try:
        return cls(**fields)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise Refused(f"a valid [{kind}.{name}]", said, "Correct the file.") from error


def _only(arguments: list[str]) -> Path:
    if len(arguments) != 1:
        raise Refused("the name of one file", repr(arguments), "Start from examples/evacuation.toml.")
    return Path(arguments[0])


def main() -> int:
    """Save every block of the file that is named; exit 2 with the reason if one is not valid."""
    try:
        for name, block in load(_only(sys.argv[1:])):
            block.save(name, overwrite=True)
            print(f"saved {block.get_block_type_slug()}/{name}")
    except (Refused, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
