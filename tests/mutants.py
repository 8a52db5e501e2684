"""Change the code in one place at a time, and see which changes the tests notice.

`python -m tests.mutants laws --seed 1 --number 60` writes build/mutants/laws-1.tsv: where, what, and killed, survived
or timeout. Third parties are imported once: each mutant is tried in a fork of this process, in a copy of the checkout.

What the tests of its own package leave costs minutes each, for so much else is tried then. With `--ran coverage.json`
those tests alone that ran the line: `pytest --cov=tasks --cov-context=test` of pytest-cov, then
`coverage json --show-contexts`. With `--took junit.xml`, of the same run, the quick ones of them first. `--start 40`
goes on with an earlier table.
"""

import argparse
import ast
import contextlib
import importlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import psutil
import pytest

HERE = Path(__file__).parents[1]
HOST = ["tasks/host/process", "tasks/host/container", "tasks/host/cgroup", "tasks/host/unit"]
SETS = {
    "laws": [
        "tasks/custody/containment",
        *HOST,
        "tasks/custody/incident",
        "tasks/custody/store",
        "tasks/custody/models",
    ],
    "acts": ["tasks/containment", "tasks/guard", "tasks/storage/verify.py", "tasks/latest/promote.py"],
}
THEN = {
    "laws": ["tests/unit/custody", "tests/unit/host", "tests/unit/audit", "tests/unit/cli"],
    "acts": ["tests/unit", "tests/integration/host"],
}
"""What is tried on a mutant that the tests of its own package have not noticed."""
BESIDE = {
    "containment": ["tests/unit/containment", "tests/unit/host"],
    "incident": ["tests/unit/incident", "tests/unit/record"],
    "store": ["tests/unit/storage", "tests/unit/latest"],
    "models": ["tests/unit/models", "tests/unit/evidence"],
    **{name.rpartition("/")[2]: ["tests/unit/containment", "tests/unit/guard"] for name in HOST},
}
"""What uses the laws of a package."""
IN_PROCESSES = {"tasks/guard/": ["cordon", "dead_run", "hand_over", "watch", "operate"]}
"""Tests on this host of what runs in a process of its own, which coverage does not see."""
PRELOADED = "prefect.testing.utilities prefect.events prefect_aws sklearn joblib pandas hypothesis boto3 docker obstore"
ONLY = ["--hypothesis-profile=fast", "-m", "not soak and not s3"]  # as `make test-fast`, for the unit tests
SECONDS = {"laws": 300, "acts": 900}
OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
BOUNDARY: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}


@dataclass(frozen=True)
class Mutant:
    """One place that is changed in one way."""

    file: str
    line: int
    how: str
    text: str


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield what a node may become."""
    match node:
        case ast.Compare(ops=[op]):
            for how, table in (("comparison flipped", OPPOSITE), ("boundary moved", BOUNDARY)):
                if type(op) in table:
                    yield how, ast.Compare(node.left, [table[type(op)]()], node.comparators)
        case ast.BoolOp():
            yield "and/or swapped", ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        case ast.UnaryOp(op=ast.Not()):
            yield "not dropped", node.operand
        case ast.Constant(value=int(value)):
            yield "constant changed", ast.Constant(not value if isinstance(value, bool) else value + 1)
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
            truth = isinstance(value, ast.Compare | ast.BoolOp)
            yield "return replaced", ast.Return(ast.UnaryOp(ast.Not(), value) if truth else ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.Assign() | ast.AugAssign() | ast.Raise():
            yield "statement dropped", ast.Pass()


def places(tree: ast.Module) -> list[ast.AST]:
    """List the nodes that count: no annotation, no decorator, nothing that is only shown to a person who debugs."""
    found = list[ast.AST]()

    def walk(node: ast.AST) -> None:
        found.append(node)
        for name, value in ast.iter_fields(node):
            if name in {"annotation", "returns", "decorator_list", "type_params"}:
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and getattr(child, "name", "") != "__repr__":
                    walk(child)

    walk(tree)
    return found


class Replace(ast.NodeTransformer):
    """Put one node in the place of another."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        """Keep both."""
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        """Replace or look further."""
        return ast.copy_location(self.new, node) if node is self.old else self.generic_visit(node)


def mutants(chosen: str, seed: int, number: int) -> list[Mutant]:
    """Draw as many mutants as are asked for, the same for the same seed and code."""
    paths = (HERE / each for each in SETS[chosen])
    files = sorted(file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path]))
    found = list[tuple[Path, int, int]]()
    for file in files:
        nodes = places(ast.parse(file.read_text()))
        found += [(file, at, way) for at, node in enumerate(nodes) for way, _ in enumerate(changes(node))]
    return [made(*each) for each in random.Random(seed).sample(found, number)]  # noqa: S311  # a draw, no secret


def made(file: Path, at: int, way: int) -> Mutant:
    """Write one mutant's text."""
    tree = ast.parse(file.read_text())
    node = places(tree)[at]
    how, new = list(changes(node))[way]
    line, before = getattr(node, "lineno", 0), ast.unparse(node).partition("\n")[0]
    text = ast.unparse(ast.fix_missing_locations(Replace(node, new).visit(tree)))
    return Mutant(str(file.relative_to(HERE)), line, f"{how}: {before}", text)


def copy_checkout(into: Path) -> None:
    """Copy what git knows, as it lies here."""
    known = subprocess.run(["git", "ls-files", "-z"], cwd=HERE, check=True, capture_output=True, text=True).stdout
    for name in filter(None, known.split("\0")):
        if (HERE / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(HERE / name, into / name)
    (into / ".venv").symlink_to(HERE / ".venv")


def run(copy: Path, arguments: list[str]) -> int:
    """Be pytest in the copy: this is the fork."""
    os.setsid()
    out = os.open(copy.parent / "out", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.chdir(copy)
    sys.path[0] = os.environ["PYTHONPATH"] = str(copy)
    sys.modules.pop("tests", None)
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    options = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return int(pytest.main([*options, "--basetemp", str(copy.parent / "tmp"), *arguments]))


def outcome(copy: Path, arguments: list[str], seconds: float) -> str:
    """Tell what becomes of the tests in a fork, and end what they left."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = run(copy, arguments)
        except BaseException:  # noqa: BLE001  # a fork goes no further than here
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    until, done = time.monotonic() + seconds, (0, 0)
    while not done[0] and time.monotonic() < until:
        time.sleep(0.05)
        done = os.waitpid(child, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if not done[0]:
        os.waitpid(child, 0)
    for process in psutil.process_iter(["cwd", "environ"]):
        of_theirs = (process.info["cwd"] or "", (process.info["environ"] or {}).get("PYTHONPATH", ""))  # a guard: in /
        if any(path.startswith(f"{copy.parent}/") for path in of_theirs):
            process.kill()
    words = {0: "survived", 1: "killed", 2: "killed"}  # 2: it could not even be imported
    return words.get(os.waitstatus_to_exitcode(done[1]), "failed") if done[0] else "timeout"


def failed_test(copy: Path) -> str:
    """Name the test that noticed, from what pytest has printed."""
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", (copy.parent / "out").read_text(errors="replace"), re.MULTILINE)
    return found[1] if found else ""


def durations(report: Path) -> dict[str, float]:
    """Sum the seconds of each test, and of each file of tests, of a report that `pytest --junit-xml` has written."""
    took = dict[str, float]()
    for case in ET.parse(report).iter("testcase"):  # noqa: S314  # our own file
        file = case.attrib["classname"].replace(".", "/") + ".py"
        for name in (file, f"{file}::{case.attrib['name'].partition('[')[0]}"):
            took[name] = took.get(name, 0) + float(case.attrib["time"])
    return took


def ran(coverage: dict[str, Any], mutant: Mutant, chosen: str) -> list[str]:
    """List the tests that ran a line, or the nearest one above it where a statement has several; unit tests first.

    Empty for what runs at an import alone.
    """
    lines = coverage["files"].get(mutant.file, {}).get("contexts", {})
    known = [int(line) for line in lines if int(line) <= mutant.line]
    names = {context.partition("|")[0].partition("[")[0] for context in lines[str(max(known))]} if known else set()
    tiers = ("tests/unit/", "tests/integration/host/", "tests/integration/prefect/")[: 1 if chosen == "laws" else 3]
    tests = [name for tier in tiers for name in sorted(names) if name.startswith(tier)]
    apart = [name for start, names in IN_PROCESSES.items() if mutant.file.startswith(start) for name in names]
    return tests + [f"tests/integration/host/test_{name}.py" for name in apart]


def own_tests(file: str, chosen: str) -> list[list[str]]:
    """List the stages for a mutant: the tests of its own package first, since most mutants end there."""
    package = file.split("/")[2] if chosen == "laws" else file.split("/")[1]
    first = str(Path("tests/unit", Path(file).parent.relative_to("tasks")))
    later = [*THEN[chosen], *BESIDE.get(package, [])] if chosen == "laws" else THEN[chosen]
    return [each for each in ([first] if (HERE / first).is_dir() else [], later) if each]


def main(report: Callable[[str], None] = print) -> None:
    """Try the mutants of a set one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--number", type=int, default=60)
    parser.add_argument("--start", type=int, default=1)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--ran", type=Path)
    parser.add_argument("--took", type=Path)
    asked = parser.parse_args()
    coverage = json.loads(asked.ran.read_text()) if asked.ran else {}
    took = durations(asked.took) if asked.took else {}
    for name in PRELOADED.split():
        importlib.import_module(name)
    table = HERE / f"build/mutants/{asked.set}-{asked.seed}.tsv"
    table.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, table.open("a" if asked.start > 1 else "w") as rows:
        copy = Path(folder) / "copy"
        copy_checkout(copy)
        drawn = list(enumerate(mutants(asked.set, asked.seed, asked.number), 1))
        for number, mutant in drawn[asked.start - 1 :]:
            place, word, noticed = copy / mutant.file, "survived", ""
            whole = place.read_text()
            place.write_text(mutant.text)
            stages = own_tests(mutant.file, asked.set)
            if coverage:
                stages[-1] = sorted(ran(coverage, mutant, asked.set), key=lambda test: took.get(test, 0)) or stages[-1]
            for stage in stages:
                if word == "survived":
                    word = outcome(copy, [*ONLY, *stage], asked.seconds or SECONDS[asked.set])
                    noticed = failed_test(copy) if word == "killed" else ""
            place.write_text(whole)
            row = f"{number}\t{word}\t{mutant.file}:{mutant.line}\t{mutant.how}\t{noticed}"
            rows.write(f"{row}\n")
            rows.flush()
            report(row)


if __name__ == "__main__":
    main()
