"""Words are a law: a function is a verb, a value a noun, and a class name has one meaning in the whole project.

A name that says only that something was said, made or met leaves its reader to find out what. A name that
stands nevertheless has its reason beside it.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

PROJECT: Final = Path(__file__).parents[2]
INSTEAD: Final[Mapping[str, str]] = {
    "about": "details, description, fields",
    "asked": "request, question",
    "made": "result, or what was built",
    "met": "descendants, arrivals",
    "mine": "own",
    "said": "message, answer",
    "told": "message, summary, lines",
    "who": "identity, process_id, person",
}
"""What a value is named instead of by a participle or pronoun."""
IRREGULAR: Final = frozenset(
    {"begun", "done", "drawn", "frozen", "given", "gone", "held", "kept", "known", "left", "made", "met", "put", "said"}
    | {"seen", "sent", "shown", "stood", "taken", "told", "written"}
)
"""Participles that do not end in -ed."""
VERBS: Final = frozenset({"feed", "need", "put"})
"""Words that look like participles."""
PARTICIPLES: Final = {"started": "a method of Prefect's TaskStatus"}
"""Functions that are named by a participle nevertheless, and why."""
MODULES: Final = sorted(path for folder in ("blocks", "flows", "tasks") for path in (PROJECT / folder).rglob("*.py"))


def names(tree: ast.AST) -> Iterator[str]:
    """Yield every identifier of a module, as often as it stands there."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.AsyncFunctionDef(name=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                yield name


def is_participle(name: str) -> bool:
    """Return whether a name is one participle and nothing else."""
    word = name.strip("_")
    return "_" not in word and word not in VERBS and (word.endswith("ed") or word in IRREGULAR)


def place(path: Path) -> str:
    """Name a module from the project's folder on."""
    return str(path.relative_to(PROJECT))


@pytest.fixture(scope="module")
def trees() -> Mapping[Path, ast.Module]:
    """Every module, parsed."""
    return {path: ast.parse(path.read_text()) for path in MODULES}


@pytest.mark.slow
def test_a_value_says_what_it_holds(trees: Mapping[Path, ast.Module]) -> None:
    words = {path: {name.strip("_") for name in names(tree)} & INSTEAD.keys() for path, tree in trees.items()}
    found = {place(path): {word: INSTEAD[word] for word in here} for path, here in words.items() if here}
    assert not found, "say what it is, such as"


@pytest.mark.parametrize("name", ["told", "_opened", "__left"])
def test_a_participle_alone_is_one(name: str) -> None:
    assert is_participle(name)


@pytest.mark.parametrize("name", ["read", "is_frozen", "opened_at", "feed", "send"])
def test_a_verb_or_a_noun_is_none(name: str) -> None:
    assert not is_participle(name)


@pytest.mark.slow
def test_a_function_is_a_verb(trees: Mapping[Path, ast.Module]) -> None:
    found = {
        f"{place(path)}:{node.lineno} {node.name}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and is_participle(node.name)
        and node.name.strip("_") not in PARTICIPLES
    }
    assert not found, "a function does or returns something: name it by a verb, a property by a noun"


def test_a_public_class_name_has_one_meaning(trees: Mapping[Path, ast.Module]) -> None:
    places = defaultdict[str, set[str]](set)
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].add(place(path))
    double = {name: sorted(where) for name, where in places.items() if len(where) > 1}
    assert not double, "name one of them by what it is alone"
