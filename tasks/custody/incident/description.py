"""Define how a workload is described: default patterns, port, and which fields are refused, also before Prefect."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from tasks.custody.errors import Refused

Tables: TypeAlias = dict[str, dict[str, dict[str, Any]]]

FILE: Final = ".toml"
KINDS: Final = ("workload", "store")

API: Final = r"uvicorn .*api\.app"
TRAINING: Final = r"python\S* -u src/train\.py .*--mode full"
WORKER: Final = r"joblib\.externals\.loky|multiprocessing\.(resource_tracker|spawn|forkserver)"
_UNRELATED: Final = (
    "",
    "bash",
    "/sbin/init",
    "/usr/sbin/sshd -D",
    "/usr/lib/systemd/systemd-journald",
    "vi notes.txt",
)
_PATTERNS: Final = {"api_pattern": API, "training_pattern": TRAINING, "worker_pattern": WORKER}
_PORT: Final = re.compile(
    r"^(?:(?:UVICORN_)?PORT=|--port[=\n]|-p[=\n]?|(?:--bind|-b)[=\n]?\S*:)(\d{1,5})$", re.MULTILINE
)
_USUAL_PORT: Final = "8000"
_REST: Final[dict[str, Any]] = {
    "user": "",
    "api_port": None,
    "evidence_dir": None,
    "units": [],
    "bystanders": [],
}
_SERVICE: Final = re.compile(r"[\w:.@\\][\w:.@\\-]*\.service", re.ASCII)
_NOBODYS_UNIT: Final = re.compile(
    r"(?:evacuation|systemd-|user@|getty@|sshd?@).*"
    r"|(?:sshd?|crond?|anacron|atd|dbus|dbus-broker|docker|containerd|supervisord?|slurmd)\.service"
)
"""Services of ours, and those in which anybody's programs run."""


def place(text: str) -> tuple[str, str]:
    """A file, and the name of the table that is meant: FILE, or FILE:NAME where it has several of a kind."""
    file, _, name = text.rpartition(":")
    return (file, name) if file.endswith(FILE) else (text, "")


def tables(file: str, text: str) -> Tables:
    """Tables [workload.NAME] and [store.NAME] of a TOML file's text. Raises Refused."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Refused("a TOML file", f"{file}: {error}", "Start from examples/evacuation.toml.") from error
    unknown = [*(found.keys() - set(KINDS)), *(kind for kind in found if not _named(found[kind]))]
    if unknown or not found:
        got = ", ".join(sorted(unknown)) if found else "nothing"
        raise Refused("tables [workload.NAME] and [store.NAME]", got, "Start from examples/evacuation.toml.")
    return found


def _named(table: object) -> bool:
    return isinstance(table, dict) and all(isinstance(fields, dict) for fields in table.values())


def one(found: Tables, kind: str, file: str, name: str = "") -> tuple[str, dict[str, Any]]:
    """Name and fields of the table that is meant, which is the only one where no name is given. Raises Refused."""
    named = found.get(kind, {})
    chosen = [name] if name in named else list(named) if not name else []
    if len(chosen) != 1:
        known = ", ".join(named) or "none"
        raise Refused(f"one {kind} in {file}", f"{name!r} of {known}" if name else known, f"Name it: {file}:NAME.")
    return chosen[0], named[chosen[0]]


def pattern(text: str) -> str:
    """A regular expression on command lines; ValueError if it is none, or one that fits what is nobody's workload."""
    try:
        compiled = re.compile(text)
    except re.error as error:
        raise ValueError(
            f"expected a regular expression; got {text!r} ({error}). Nothing was saved. "
            "Escape special letters with a backslash, as in api\\.app"
        ) from error
    if any(compiled.search(line) for line in _UNRELATED):
        raise ValueError(
            f"expected a pattern that matches this workload only; got {text!r}, which matches everything. "
            "Nothing was saved. Name the program and its arguments, as in uvicorn .*api\\.app"
        )
    return text


def unit(text: str) -> str:
    """Name of a systemd service that may be the workload's; ValueError if it is none, is ours, or is everybody's."""
    if not _SERVICE.fullmatch(text) or _NOBODYS_UNIT.fullmatch(text):
        raise ValueError(
            f"expected a systemd service of the workload's own; got {text!r}. Nothing was saved. "
            "Name it like portfolio-api.service"
        )
    return text


def address(command: Iterable[str], environment: Mapping[str, str]) -> str:
    """Where a server that is started like this answers on this host: the last port named, the command's over PORT."""
    return f"http://127.0.0.1:{[_USUAL_PORT, *ports_named(command, environment)][-1]}"


def ports_named(command: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    """Ports that a server's command and environment name; the last one counts."""
    words = " ".join([*(f"{name}={value}" for name, value in environment.items()), *command]).split()
    return [str(port) for port in _PORT.findall("\n".join(words))]


def leads_to(url: str) -> tuple[str, int]:
    """Host and port that a URL leads to; the host is empty where it names none. ValueError for a port that is none."""
    where = urlsplit(url)
    return where.hostname or "", where.port or {"https": 443}.get(where.scheme, 80)


def absolute(path: Path) -> Path:
    """A path that means the same from everywhere, and is not the whole host; else ValueError."""
    if not path.is_absolute() or ".." in path.parts or path == Path("/"):
        raise ValueError(
            f"expected an absolute path below /, without '..'; got {str(path)!r}. Nothing was saved. "
            "Give the whole path, as in /srv/mlops-sklearn-portfolio"
        )
    return path


def recognisable(given: Mapping[str, Any], host: str) -> dict[str, Any]:
    """What it takes to recognise a workload, out of the fields of a file; what is left out has the block's value.

    ValueError or KeyError where the block would refuse what whom is frozen hangs on.
    """
    fields = {"host": host, **_PATTERNS, **_REST, **given}
    for name in _PATTERNS:
        pattern(fields[name])
    for each in fields["bystanders"]:
        pattern(each)
    for each in fields["units"]:
        unit(each)
    absolute(Path(fields["root"]))
    return fields
