"""What the source text says of itself: constants with the text below them, actions of the custody log."""

import ast
import importlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tasks.host.process.table import boot_id


def constants(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Name, value and meaning of each public text constant of a package: the meaning is the text below it."""
    others = (each for each in sorted(folder.rglob("*.py")) if each.parent.name not in {"acquisition", "collectors"})
    for path in others:
        if found := dict(_public(ast.parse(path.read_text()).body)):
            module = importlib.import_module(".".join(path.relative_to(folder.parent).with_suffix("").parts))
            for name, meaning in found.items():
                if isinstance(value := getattr(module, name), str):
                    yield name, value.replace(boot_id()[:8], "‹boot›"), meaning


def _public(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for each, below in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name) and not each.target.id.startswith("_"):
            told = ast.unparse(below) if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else "''"
            yield each.target.id, " ".join(str(ast.literal_eval(told)).split())


def used_actions(folder: Path) -> Iterator[str]:
    """Every action that the code writes into a custody log."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and re.search(r"\blog\.write$|_log\.write$", ast.unparse(node.func)):
                yield from _texts(node.args[:1])
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "action":
                yield from _texts([node.value])


def _texts(nodes: Iterable[ast.AST]) -> Iterator[str]:
    every = (each for node in nodes for each in ast.walk(node))
    return (each.value for each in every if isinstance(each, ast.Constant) and isinstance(each.value, str))
