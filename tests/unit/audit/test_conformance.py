"""The conformance vectors by the command line alone: what they were made to show, and what every later release says."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.command.commands import invoke

VECTORS = Path(__file__).parents[3] / "conformance"
NAMES = sorted(path.parent.name for path in VECTORS.glob("*/expected.json"))


@pytest.fixture(scope="module", autouse=True)
def _no_server() -> Iterator[None]:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        yield


@pytest.mark.sample(100)
@pytest.mark.parametrize("name", NAMES)
def test_a_vector_is_judged_as_it_says(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = VECTORS / name
    expected = json.loads((folder / "expected.json").read_bytes())
    store = tmp_path / "store.toml"
    store.write_text(f"[store.vector]\nfolder = {json.dumps(str(folder / 'bundle'))}\n")
    files = {"--signers": folder / "allowed_signers", "--tsa-roots": folder / "roots.pem"}
    options = [word for option, path in files.items() if path.exists() for word in (option, str(path))]
    code = invoke(["audit", str(store), expected["id"], *options])
    first, *more = capsys.readouterr().out.splitlines()
    copy = f", a copy of {expected['copy_of']}" if "copy_of" in expected else ""
    assert first.partition("  ")[0] == f"{expected['word']}{copy}", more
    assert code == expected["exit_code"]
    assert name.endswith("_fail") is (expected["word"] != "PROVEN")
    severity = {"PROVEN": "note", "BROKEN": "broken", "INDETERMINATE": "open", "UNFINISHED": "unsent"}[expected["word"]]
    told = re.findall(rf"^  {severity}: (\S+?): ", "\n".join(more), re.MULTILINE)
    assert expected["object"] in told if "object" in expected else not told


@pytest.mark.slow
def test_there_are_enough_of_them_and_they_are_small() -> None:
    assert len(NAMES) >= 60
    assert sum(name.endswith("_fail") for name in NAMES) >= 40
    sizes = [path.stat().st_size for path in VECTORS.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(sizes) < 5_000_000, "a tenth of it in git: most of them are the same"
