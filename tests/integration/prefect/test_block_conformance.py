"""What holds for every block, and for blocks that come from a file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.blocks.core import Block
from prefect.settings import PREFECT_API_URL

import blocks
from blocks.file import load
from blocks.workload import Workload
from tasks.custody.errors import Refused

EVERY = [getattr(blocks, name) for name in blocks.__all__]


@pytest.mark.parametrize("block", EVERY)
def test_the_form_of_a_block_explains_itself(block: type[Block]) -> None:
    assert len(block.get_description() or "") > 20
    assert block.get_code_example()
    assert str(block._logo_url).endswith(".svg")
    assert [name for name, field in block.model_fields.items() if not field.description] == []


@pytest.mark.sample(1)
@pytest.mark.parametrize("block", EVERY)
def test_a_block_is_registered_by_the_command_of_the_readme(prefect: None, block: type[Block]) -> None:  # noqa: ARG001
    environment = {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value()), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "prefect", "block", "register", "-m", "blocks"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert block.get_block_type_name() in done.stdout


def test_importing_the_workload_block_brings_no_cloud_library() -> None:
    heavy = "('boto3', 'prefect_aws', 'sklearn', 'pandas')"
    code = f"import sys, blocks.workload, flows.evacuate; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("api_pattern", "uvicorn (", "regular expression"),
        ("api_pattern", ".*", "matches everything"),
        ("training_pattern", "", "matches everything"),
        ("training_pattern", "python|", "matches everything"),
        ("root", "relative/root", "absolute path"),
        ("root", "/", "absolute path"),
        ("root", "/srv/../etc", "absolute path"),
        ("lock", "train.lock", "absolute path"),
        ("logs", ["/var/log/*.log"], "relative to the root"),
        ("models", ["../models/*"], "relative to the root"),
        ("grace_seconds", 0, "greater than 0"),
        ("api_url", "localhost:8000", "pattern"),
        ("health_path", "health", "pattern"),
        ("health_path", "", "pattern"),
        ("predict_path", "/predict?x=1", "pattern"),
        ("reload_path", "reload", "pattern"),
        ("model_at", "data.model", "pattern"),
        ("prediction_at", "0", "pattern"),
        ("api_headers", "portfolio-api", "pattern"),
        ("api_headers", "/etc/shadow", "pattern"),
        ("api_headers", "/root/.docker/config.json", "pattern"),
        ("api_headers", "headers.json", "pattern"),
        ("api_command", [], "at least 1 item"),
    ],
)
def test_a_workload_that_cannot_work_is_not_saved(field: str, value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Workload(**({"root": "/srv/portfolio"} | {field: value}))


def test_a_key_in_the_place_of_its_blocks_name_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="api_headers") as refused:
        Workload(root="/srv/portfolio", api_headers="sk-0123456789abcdef")
    assert "0123456789" not in f"{refused.value!s}{refused.value!r}"


@pytest.mark.parametrize("example", ["gunicorn", "scoring"])
def test_the_contract_of_each_example_is_valid(example: str) -> None:
    (described,) = load(Path(__file__).parents[3] / f"examples/{example}/evacuation.toml")
    assert isinstance(described[1], Workload)


def test_the_example_file_is_valid() -> None:
    named = load(Path(__file__).parents[3] / "examples/evacuation.toml")
    assert [(name, block.get_block_type_slug()) for name, block in named] == [
        ("portfolio", "workload"),
        ("portfolio", "evidence-store"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "nothing"),
        ("[workload.a", "TOML"),
        ("[bucket.a]\nx = 1", "bucket"),
        ('[workload.a]\nrooot = "/srv/a"', "fields of workload: root; got rooot"),
        ('[workload.a]\nroot = "srv"', "absolute path"),
        ('[store.a]\nbucket = "A"', "bucket name"),
    ],
)
def test_a_file_that_is_not_valid_is_refused_before_anything_is_saved(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "evacuation.toml"
    file.write_text(text)
    with pytest.raises(Refused, match=words):
        load(file)


@pytest.mark.parametrize("arguments", [["/nonexistent.toml"], []])
def test_a_file_that_is_missing_is_refused_with_what_to_do(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "blocks", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "evacuation init" in done.stderr
    assert all(name in done.stderr for name in arguments)
