"""Print results: data on stdout, notes on stderr if that is a terminal, JSON with a schema version on request."""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, Final

from tasks.custody.incident.exit_codes import REFUSED
from tasks.custody.visible import LINE_LIMIT, say, visible
from tasks.system.installation import NAME, version

SCHEMA: Final = 1
"""Version of what `--json` prints. It rises if a field goes or changes its meaning, not for new fields."""


def program() -> str:
    """Return the name of this command line, or the path it was called by if PATH lacks it."""
    found, called = shutil.which(NAME), Path(sys.argv[0])
    on_path = found is not None and os.path.realpath(found) == os.path.realpath(called)
    return NAME if on_path or called.name != NAME else str(called)


def command(verb: str, *words: str) -> str:
    """Return a command of ours, ready to be pasted into a shell."""
    return " ".join([quote(program()), verb, *map(quote, words)])


def note(text: str) -> None:
    """Print a progress note on stderr if that is a terminal."""
    if sys.stderr.isatty():
        say(text, error=True)


def show(verb: str, lines: Iterable[object], data: dict[str, Any], *, as_json: bool) -> None:
    """Print the lines, or one JSON object: `schema`, `command`, and the data."""
    if as_json:
        print(json.dumps({"schema": SCHEMA, "command": verb, **data}, indent=2, default=str))
    else:
        say(*lines)


def refuse(
    words: Sequence[str], message: object, then: str = "", *, state: str = "Refused", code: int = REFUSED
) -> int:
    """Print why the typed words were not carried out: on stderr, with `--json` as an object; return the exit code."""
    if "--json" in words:
        fields = {"state": state, "exit_code": code, "message": visible(str(message), LINE_LIMIT), "next": then}
        show(words[0], (), fields, as_json=True)
    else:
        say(message, error=True)
    return code


def show_version(*, as_json: bool) -> int:
    """Print the version of this program and of what it runs on."""
    from importlib.metadata import version as version_of
    from platform import python_version

    versions = {"version": version(), "python": python_version(), "prefect": version_of("prefect")}
    line = f"{NAME} {versions['version']} (Python {versions['python']}, Prefect {versions['prefect']})"
    show("version", [line], versions, as_json=as_json)
    return 0
