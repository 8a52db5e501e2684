"""Read what root declares of the workloads of this host: their blocks come from a server, their folders are theirs.

Uses the standard library alone: the freeze asks before Prefect is imported.

See docs/adr/0040.
"""

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from json import dumps
from pathlib import Path
from typing import Any, Final, Protocol

from tasks.custody.errors import Refused
from tasks.system.accounts import number_of
from tasks.system.files.atomic_files import read_ours
from tasks.system.installation import ETC

FOLDER: Final = ETC / "hosts.d"
VARIABLE: Final = "EVACUATION_HOSTS"
"""Environment variable that names a further folder, as a drill has one. It adds declarations and takes none away."""
COMMANDS: Final = ("api_command", "api_environment", "training_command")
CONTAINER: Final = ("api_image", "api_ports", "api_mounts", "api_environment")
_CURE: Final = (
    f"If it is right, have root declare it: evacuation install FILE, which writes {FOLDER}; "
    "without systemd: evacuation install FILE --declare."
)


class Block(Protocol):
    """What is compared of a workload's block, beside its commands."""

    root: Path
    user: str
    api_image: str


def read_declarations() -> tuple[list[dict[str, Any]], list[str]]:
    """Return the content of all files that are root's or ours alone, and what is wrong with the others."""
    tables, broken = list[dict[str, Any]](), list[str]()
    for folder in filter(None, (str(FOLDER), os.environ.get(VARIABLE))):
        for path in sorted(Path(folder).glob("*.toml")):
            try:
                tables.append(tomllib.loads(read_ours(path).decode()))
            except (OSError, ValueError) as error:
                broken.append(f"{path}: {error}")
    return tables, broken


def of_root(root: str | Path, tables: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return what these files declare of a workload by its root; empty if nothing."""
    return next((table for table in tables if Path(str(table.get("root", ""))) == Path(root)), {})


def require_declared(root: str | Path) -> None:
    """Raise Refused if root declares roots here, and this is none of them. One may be in a file that cannot be read."""
    _require_among(root, *read_declarations())


def why_undeclared(root: str | Path) -> str:
    """Return why a run for this root would be refused by `require_declared`, and the cure; empty if it would not."""
    try:
        require_declared(root)
    except Refused as error:
        cure = f"evacuation install FILE --declare, or in a file {FOLDER}/NAME.toml: {_line_of(root)}"
        why = f"root has declared other folders on this host and not {error.got}"
        return f"a run is refused, for {why}; as root 宣言を追加: {cure}"
    return ""


def _line_of(root: str | Path) -> str:
    """Return the shortest content of a workload's file: with no command in it, those of the block count."""
    return f"root = {toml_value(root)}"


def _require_among(root: str | Path, tables: list[dict[str, Any]], broken: list[str]) -> None:
    if any("root" in table for table in tables) and not broken and not of_root(root, tables):
        cure = f"{_CURE} Or root writes a file {FOLDER}/NAME.toml with the line: {_line_of(root)}"
        raise Refused("a root folder that root has declared on this host", str(root), cure)


def account_for(
    workload: Block,
    user: int,
    environment: Mapping[str, str] | None = None,
    *,
    container: bool = False,
    why_not_roots: Callable[[], str] = lambda: "root has not declared it",
) -> int:
    """Return the account that a command of the workload runs as: the declared one, else `user`, never root undeclared.

    `environment` is what a run gives it; a new `container` has to be declared whole. A file without a root
    may let undeclared ones run as root; so does `why_not_roots` if it returns no reason against it. Raises Refused,
    with no value of a variable: it may be a secret.
    """
    tables, broken = read_declarations()
    _require_among(workload.root, tables, broken)
    own = of_root(workload.root, tables)
    if broken and not own:
        raise Refused("files of root's alone", "; ".join(broken), f"Correct it: ls -l {FOLDER}.")
    wanted = {name: getattr(workload, name) for name in (CONTAINER if container else COMMANDS)}
    if other := [name for name in wanted if own and own.get(name, None if container else wanted[name]) != wanted[name]]:
        shown = {name: [*wanted[name]] if isinstance(wanted[name], Mapping) else wanted[name] for name in other}
        got = "; ".join(f"{name} = {dumps(shown[name])} in the workload block" for name in other)
        raise Refused(f"{' and '.join(other)} as root has declared", got, _CURE)
    try:
        account = number_of(own.get("user", ""))
    except KeyError as error:
        raise Refused("a declared account of this host", own["user"], f"Correct its file in {FOLDER}.") from error
    free = any(table.get("user") == "root" for table in tables if "root" not in table)
    if account is None and user == os.geteuid() == 0 and not free and (why := why_not_roots()):
        cure = f'Give the workload an account of its own, or have its file in {FOLDER} say user = "root".'
        raise Refused("an account other than root for a command of the workload", f"root, and {why}", cure)
    if account == os.geteuid() == 0 and environment:
        raise Refused("no variables for what runs as root", ", ".join(environment), "Declare them in api_environment.")
    return user if account is None else account


def declaration(workload: Block) -> str:
    """Return the content of a workload's file, as its block is now."""
    fields = ("root", *(["user"] if workload.user else []), *COMMANDS, *(CONTAINER[:3] if workload.api_image else []))
    return "".join(f"{field} = {toml_value(getattr(workload, field))}\n" for field in fields)


def toml_value(value: Any) -> str:
    """Return a value of a block as TOML writes it."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{toml_value(name)} = {toml_value(each)}' for name, each in value.items())}}}"
    return dumps(value, ensure_ascii=False, default=str)
