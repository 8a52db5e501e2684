"""The second verifier, which docs/audit.md alone was read for, gives the word of every vector."""

import ast
import json
from pathlib import Path

import pytest

from conformance import verify

VECTORS = Path(verify.__file__).parent
NAMES = sorted(path.parent.name for path in VECTORS.glob("*/expected.json"))


@pytest.mark.slow
@pytest.mark.sample(30)
@pytest.mark.parametrize("name", NAMES)
def test_the_second_verifier_gives_the_word(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = VECTORS / name
    expected = json.loads((folder / "expected.json").read_bytes())
    files = {"--signers": folder / "allowed_signers", "--tsa-roots": folder / "roots.pem"}
    options = [word for option, path in files.items() if path.exists() for word in (option, str(path))]
    code = verify.main([str(folder / "bundle"), expected["id"], *options])
    first, *more = capsys.readouterr().out.splitlines()
    copy = f", a copy of {expected['copy_of']}" if "copy_of" in expected else ""
    assert (first.partition("  ")[0].split(",")[0], code) == (expected["word"], expected["exit_code"]), more
    assert expected["word"] != "PROVEN" or first.partition("  ")[0] == f"PROVEN{copy}"


def test_an_auditor_can_read_it_in_an_hour() -> None:
    """At most 400 lines of code, without blank ones and docstrings, and nothing but the standard library."""
    text = Path(verify.__file__).read_text()
    tree = ast.parse(text)
    words: set[int] = set()
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            words |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
        if isinstance(node, ast.Import):
            modules |= {each.name for each in node.names}
        if isinstance(node, ast.ImportFrom):
            modules.add(node.module or "")
    code = [line for number, line in enumerate(text.splitlines(), 1) if line.strip() and number not in words]
    assert len(code) <= 400
    assert modules <= {
        "argparse",
        "base64",
        "hashlib",
        "json",
        "re",
        "subprocess",
        "sys",
        "datetime",
        "pathlib",
        "tempfile",
        "typing",
    }
