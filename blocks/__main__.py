"""Save blocks from a file: `python -m blocks evacuation.toml`. Replaces blocks of the same names."""

import sys
from pathlib import Path

from blocks.file import load, save
from blocks.saved import asking_server
from tasks.custody.errors import Refused
from tasks.custody.incident.description import read_tables
from tasks.custody.visible import say


def _only(arguments: list[str]) -> Path:
    if len(arguments) != 1:
        raise Refused("the name of one file", repr(arguments), "`evacuation init FOLDER` writes a first one.")
    return Path(arguments[0])


def main() -> int:
    """Save every block of the given file. Exits with 2 and the reason if one is invalid."""
    try:
        read_tables(path := _only(sys.argv[1:]))
        with asking_server():
            save(load(path))
    except (Refused, ValueError) as error:
        say(*str(error).splitlines(), error=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
