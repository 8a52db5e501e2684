"""Write the tables of docs/architecture.md from the code: `make reference`."""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Final

from docs.reference import PROJECT, Chapter, written

PAGE: Final = PROJECT / "docs/architecture.md"
_BEGIN: Final = "<!-- From here on made by `make reference`. -->\n"
_END: Final = "<!-- To here. -->\n"
_RUNBOOK: Final = ("Id", "Cordon", "Stop API", "Stop training", "Evidence", "Offload", "Check", "Recovery", "Record")


def page(text: str) -> str:
    """Return the page with its tables made again."""
    before, _, rest = text.partition(_BEGIN)
    tables = "\n".join(map(written, (_sections(), _responsibilities())))
    return f"{before}{_BEGIN}\n{tables}\n{_END}{rest.partition(_END)[2]}"


@cache
def packages() -> dict[str, int]:
    """Every package with its row in the contract of import-linter, from the top down."""
    contract = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    rows = [(row, name) for row, layer in enumerate(contract["layers"], 1) for name in layer.split(" | ")]
    found = ((row, init.parent) for row, name in rows for init in sorted(_folder(name).rglob("__init__.py")))
    return {".".join(folder.relative_to(PROJECT).parts): row for row, folder in found}


@cache
def modules(package: str) -> dict[str, str]:
    """Name and first line of each module of a package, without those of packages in it."""
    return {path.stem: _first_line(path) for path in sorted(_folder(package).glob("*.py")) if path.stem != "__init__"}


def _sections() -> Chapter:
    rows = []
    for section, title in enumerate(_RUNBOOK):
        serves = re.compile(rf"§{section}(?!\.?\d)").search
        found = {each: [f"`{name}`" for name, line in modules(each).items() if serves(line)] for each in packages()}
        told = [f"{_link(each)}: {', '.join(names)}" for each, names in found.items() if names]
        rows.append((f"§{section}", title, "<br>".join(told)))
    about = "§2 freezes API and training together, §3 ends both; [a run's order](#order-of-events) is another."
    return Chapter("From the runbook to the code", about, ("§", "Runbook", "Package: modules"), rows)


def _responsibilities() -> Chapter:
    layers: dict[int, list[str]] = {}
    for each, row in packages().items():
        lives, _, _ = _first_line(_folder(each) / "__init__.py").partition(". ")
        layers.setdefault(row, []).append(f"{_link(each)}: {lives.removesuffix('.')}")
    about = "A package imports only from rows below its own, custody also from itself; `make check` enforces it."
    rows = [(str(row), "<br>".join(told)) for row, told in layers.items()]
    return Chapter(
        "Packages", f"{about} What may not live there, its docstring says.", ("Row", "What lives there"), rows
    )


def _folder(package: str) -> Path:
    return PROJECT.joinpath(*package.split("."))


def _link(package: str) -> str:
    return f"[{package.removeprefix('tasks.')}](../{package.replace('.', '/')})"


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
    print(f"wrote {PAGE.relative_to(PROJECT)}")
