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
    tables = "\n".join(map(written, (_sections(), _responsibilities(), _modules())))
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


@cache
def imports(package: str) -> list[str]:
    """Packages that a package imports, from the top down; custody is a single one to those outside."""
    nodes = [node for path in _folder(package).glob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    names = [name.name for node in nodes if isinstance(node, ast.Import) for name in node.names]
    names += [f"{node.module}.{name.name}" for node in nodes if isinstance(node, ast.ImportFrom) for name in node.names]
    known = [each for each in packages() if "tasks.custody" in package or not each.startswith("tasks.custody.")]
    homes = {max((each for each in known if f"{name}.".startswith(f"{each}.")), key=len, default="") for name in names}
    return [each for each in known if each in homes - {package}]


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
    rows = []
    for package, row in packages().items():
        imported = ", ".join(each.removeprefix("tasks.") for each in imports(package))
        rows.append((str(row), _link(package), _first_line(_folder(package) / "__init__.py"), imported or "—"))
    about = "A package imports from rows below its own alone, and custody from itself; `make check` holds it."
    return Chapter("Packages", about, ("Row", "Package", "What lives there, and what may not", "Imports"), rows)


def _modules() -> Chapter:
    rows = []
    for package in packages():
        told = (f"`{name}` {line.partition('. ')[0].rstrip('.')}" for name, line in modules(package).items())
        rows.append((_link(package), "<br>".join(told)))
    return Chapter("Modules", "The first sentence of each.", ("Package", "Modules"), rows)


def _folder(package: str) -> Path:
    return PROJECT.joinpath(*package.split("."))


def _link(package: str) -> str:
    return f"[{package.removeprefix('tasks.')}](../{package.replace('.', '/')})"


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
    print(f"wrote {PAGE.relative_to(PROJECT)}")
