"""Hold the checkout to budget.toml: no figure above its ceiling, no ceiling above that of before. `make check` runs it.

`python -m tests.budget lower` writes today's figures as ceilings where they are below: the end of an issue.
"""

import ast
import hashlib
import io
import re
import subprocess
import sys
import tempfile
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

HERE = Path(__file__).parents[1]
PAGES = ("README.md", "docs/night.md")
"""What a raise may serve: the promises that people read."""
PACKAGES = {"prefect", "prefect_aws", "psutil", "docker", "sklearn", "pandas", "joblib"}
"""What the product is built on. Each stays imported."""
PER_ISSUE = "lines of tests"
"""The figure that is held at the end of an issue alone."""
_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
_BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.Assert, ast.comprehension)
_NO_ROOM = re.compile(r"tests/|conformance/[^/]+/|budget\.toml|(.*/)?requirements[^/]*$|.*\.(md|png)$")


def figures(folder: Path) -> Counter[str]:
    """Count what budget.toml has ceilings for, in the tracked files of a checkout."""
    names = _git(folder, "ls-files", "-z").split("\0")[:-1]
    python = {name: ast.parse((folder / name).read_bytes()) for name in names if name.endswith(".py")}
    found: Counter[str] = Counter()
    for name in names:
        if name.startswith("tests/") and name in python:
            found["lines of tests"] += _code(folder / name, python[name])
        elif not _NO_ROOM.match(name):
            found[f"lines of {_room(name)}"] += (lines := _code(folder / name, python.get(name)))
            found["lines in all"] += lines
    for node in (node for name, tree in python.items() if not name.startswith("tests/") for node in ast.walk(tree)):
        found["statements"] += isinstance(node, ast.stmt) and not _is_text(node)
        found["comprehensions"] += isinstance(node, ast.comprehension)
        found["walruses"] += isinstance(node, ast.NamedExpr)
        found["regexes"] += isinstance(node, ast.Call) and ast.unparse(node.func) == "re.compile"
        found["modules"] += isinstance(node, ast.Module)
        found["complex functions"] += (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _complexity(node) > 15
        )
    pages = [folder / name for name in names if re.fullmatch(r"[^/]+\.md|docs/.*\.md", name)]
    found["words of pages"] = sum(len(page.read_bytes().split()) for page in pages)
    newest = (folder / "CHANGELOG.md").read_text().partition("\n## [Unreleased]")[2].partition("\n## ")[0]
    found["bullets under Unreleased"] = len(re.findall("^- ", newest, re.MULTILINE))
    found.update(_told((folder / "docs/reference.md").read_text()))
    return found


def _room(name: str) -> str:
    """Name the room of a file: its package, of tasks the package below it."""
    first, _, rest = name.rpartition("/")[0].partition("/")
    return f"tasks.{rest.partition('/')[0]}" if first == "tasks" and rest else first or "the top level"


def _code(path: Path, tree: ast.Module | None) -> int:
    """Count the lines that are neither blank nor comment nor docstring."""
    text = path.read_text()
    if tree is None:
        return sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in text.splitlines())
    tokens = (each for each in tokenize.generate_tokens(io.StringIO(text).readline) if each.type not in _NO_CODE)
    lines = {line for each in tokens for line in range(each.start[0], each.end[0] + 1)}
    texts = (node for node in ast.walk(tree) if _is_text(node))
    return len(lines.difference(*(range(each.lineno, (each.end_lineno or 0) + 1) for each in texts)))


def _is_text(node: ast.AST) -> TypeGuard[ast.Expr]:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _complexity(function: ast.AST) -> int:
    """Count the ways through a function as radon does: its branches, comprehensions and their conditions, and, or."""
    nodes = [*ast.walk(function)]
    conditions = sum(len(node.ifs) for node in nodes if isinstance(node, ast.comprehension))
    words = sum(len(node.values) - 1 for node in nodes if isinstance(node, ast.BoolOp))
    return 1 + sum(isinstance(node, (*_BRANCHES, ast.match_case)) for node in nodes) + conditions + words


def _told(reference: str) -> Counter[str]:
    """Count what people type and read, by the rows of docs/reference.md, which is made from the code."""
    found: Counter[str] = Counter()
    for chapter in reference.split("\n## ")[1:]:
        title, rows = chapter.partition("\n")[0], [row for row in chapter.splitlines() if row.startswith("| `")]
        found["commands"] += len(rows) * (title == "Commands")
        found["endings"] += len(rows) * (title == "States")
        found["log actions"] += len(rows) * (title == "Actions in the custody log")
        found["block fields"] += len(rows) * title.startswith("Block ")
        found["journals"] += sum("| In " not in row for row in rows) * (title == "Files")
    return found


def problems(
    now: Mapping[str, Any], before: Mapping[str, Any], counted: Mapping[str, int], pages: str
) -> Iterator[str]:
    """Say what is wrong with the budget itself.

    Args:
        now: budget.toml as it is.
        before: budget.toml of before; empty if there was none.
        counted: Today's figures.
        pages: The promises that a raise may serve, as they stood before.
    """
    ceilings, old = now["ceilings"], before.get("ceilings", now["ceilings"])
    for name in sorted({*ceilings} ^ {*counted}):
        told = "no ceiling" if name in counted else "a ceiling of what is not there"
        yield f"expected a ceiling for each figure; got {told}: {name!r}. Correct budget.toml"
    raised: Counter[str] = Counter()
    for each in (each for each in now.get("raise", []) if each not in before.get("raise", [])):
        to, by, lines = (each.get(key) for key in ("room", "pays", "lines"))
        if missing := [key for key in ("room", "lines", "pays", "serves", "why") if not each.get(key)]:
            yield f"expected a raise with room, lines, pays, serves and why; got {each} without {', '.join(missing)}"
        elif unknown := [name for name in (to, by) if f"lines of {name}" not in {*ceilings, *old}]:
            yield f"expected rooms of budget.toml in a raise; got {', '.join(unknown)}. A room is named `tasks.host`"
        elif " ".join(each["serves"].split()) not in " ".join(pages.split()):
            yield f"expected a sentence that stood in {' or '.join(PAGES)} before; got {each['serves']!r}. Quote it"
        else:
            raised.update({f"lines of {to}": lines, f"lines of {by}": -lines})
    for name in sorted({*ceilings} | {*raised}):
        ceiling, allowed = ceilings.get(name, 0), old.get(name, 0) + raised[name]
        if ceiling > allowed and raised[name] < 0:
            yield f"expected {name} to pay {-raised[name]}: at most {allowed}; got {ceiling}. Lower its ceiling as well"
        elif ceiling > allowed:
            yield f"expected a ceiling that only falls: {name} at most {allowed}; got {ceiling}. A [[raise]] says who"


def excess(
    now: Mapping[str, Any], counted: Mapping[str, int], base: Mapping[str, int], spared: str = PER_ISSUE
) -> Iterator[str]:
    """Say what is above its ceiling, but for what stood above it at the merge base."""
    for name, ceiling in now["ceilings"].items():
        if name != spared and (more := counted.get(name, 0) - max(ceiling, base.get(name, 0))) > 0:
            yield f"{name}: {counted[name]}, {more} too many. Take as much out, or move a ceiling by a [[raise]]"


def untouchable(folder: Path, frozen: Mapping[str, str]) -> Iterator[str]:
    """Say which package is imported no more, and which frozen file was changed."""
    text = _git(folder, "grep", "-hE", r"^ *(import|from) ", "--", "flows", "tasks", "blocks", "examples")
    for name in sorted(name for name in PACKAGES if not re.search(rf"^ *(import|from) {name}\b", text, re.MULTILINE)):
        yield f"expected one real use of {name}, which the product is built on; got none. Put it back to work"
    for name, digest in frozen.items():
        if (got := hashlib.sha256((folder / name).read_bytes()).hexdigest()) != digest:
            yield f"expected {name} as it is frozen, {digest[:12]}…; got {got[:12]}…. No issue may change it"


def check(folder: Path, spared: str = PER_ISSUE) -> list[str]:
    """Return a line for each thing that is not as the budget has it."""
    now, counted = tomllib.loads((folder / "budget.toml").read_text()), figures(folder)
    upstream = _git(folder, "for-each-ref", "--format=%(objectname)", "refs/remotes/origin/HEAD") or "HEAD"
    head, base = _git(folder, "rev-parse", "HEAD"), _git(folder, "merge-base", "HEAD", upstream)
    with tempfile.TemporaryDirectory() as kept:
        _git(folder, "clone", "--quiet", "--shared", "--no-checkout", str(folder), kept)
        newest = _git(folder, "log", "-1", "--format=%H~", "--", "budget.toml") or head
        since = base if base != head else newest
        _git(Path(kept), "checkout", "--quiet", since)
        file, pages = Path(kept) / "budget.toml", "".join((Path(kept) / page).read_text() for page in PAGES)
        before = tomllib.loads(file.read_text()) if file.exists() else {}
        found = [*problems(now, before, counted, pages), *untouchable(folder, now["frozen"])]
        if over := [*excess(now, counted, figures(Path(kept)) if base != head else {}, spared)]:
            where = _git(folder, "diff", "--stat=100", since, "--", ":!tests", ":!conformance")
            found += [*over, f"changed since:\n{where}"]
    return found


def lower(folder: Path) -> None:
    """Write each figure that is below its ceiling as the new ceiling, and leave the others."""
    file = folder / "budget.toml"
    for name, figure in figures(folder).items():
        written = re.compile(rf'^("{re.escape(name)}" = )(\d+)$', re.MULTILINE)
        text = file.read_text()
        if (found := written.search(text)) and int(found[2]) > figure:
            file.write_text(written.sub(rf"\g<1>{figure}", text))


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", folder, *words], capture_output=True, check=True, text=True).stdout.strip("\n")


if __name__ == "__main__":
    if at_the_end := sys.argv[1:] == ["lower"]:
        lower(HERE)
    if wrong := check(HERE, "" if at_the_end else PER_ISSUE):
        sys.exit("\n".join(["over budget:", *wrong]))
