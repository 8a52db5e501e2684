"""Steps are known by their ids: in the code, in the log, and in the cache, where version 0.1's results are found."""

import hashlib
import importlib
import json
import tarfile
from pathlib import Path
from typing import Any, get_args
from unittest.mock import MagicMock

import pytest
from prefect.cache_policies import CacheKeyFnPolicy

import tasks
from tasks.custody.evidence.acquisition import Seal
from tasks.custody.incident.steps import StepId, step_of
from tasks.runtime.context import RunContext
from tasks.runtime.step import Step, step

ARCHIVE = Path(__file__).parents[3] / "e2e/upgrade/version_0_1.tar.gz"
OF_0_1 = {
    "§2 freeze the workload": ("freeze", ""),
    "§3 check: nothing of the workload is left": ("prove_contained", ""),
    "§4 collect gpu": ("collect", "gpu"),
}


@pytest.fixture(scope="module")
def steps() -> list[Step[Any, Any]]:
    """Every step of the product, each once."""
    (root,) = map(Path, tasks.__path__)
    paths = (path.relative_to(root.parent) for path in root.rglob("*.py") if "\n@step(" in path.read_text())
    modules = [importlib.import_module(".".join(path.with_suffix("").parts)) for path in paths]
    every = [(module, each) for module in modules for each in vars(module).values() if isinstance(each, Step)]
    return [each for module, each in every if each.fn.__module__ == module.__name__]


@pytest.fixture(scope="module")
def left() -> tuple[list[str], list[dict[str, Any]]]:
    """What version 0.1 left: names of cached results, and the entries of custody logs."""
    names, entries = [], list[dict[str, Any]]()
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            path = Path(member.name)
            if path.parent.name == "results" and path.name.startswith("IR-"):
                names.append(path.name)
            if path.match("IR-*/custody.jsonl") and (file := archive.extractfile(member)):
                entries += map(json.loads, file)
    return names, entries


def test_every_step_has_an_id_of_its_own(steps: list[Step[Any, Any]]) -> None:
    assert sorted(each.step_id for each in steps) == sorted(get_args(StepId))


def test_results_are_cached_under_the_names_of_version_0_1(
    steps: list[Step[Any, Any]], left: tuple[list[str], list[dict[str, Any]]]
) -> None:
    cached = {each.step_id for each in steps if each.persist_result}
    assert cached == {name.split(".")[1] for name in left[0]}

    @step("§4", "collect", "a title of {anything}", "任意", key=lambda _, anything: str(anything))
    def renamed(context: RunContext, anything: str) -> Seal:
        raise AssertionError(f"{anything} of {context} is not done")

    assert isinstance(renamed.cache_policy, CacheKeyFnPolicy)
    key = renamed.cache_policy.compute_key(
        MagicMock(), {"context": MagicMock(incident=MagicMock(id="IR-x")), "anything": "x"}, {}
    )
    assert key == f"IR-x.collect.{hashlib.sha256(b'x').hexdigest()[:32]}"


def test_a_log_of_version_0_1_is_read_by_its_titles(left: tuple[list[str], list[dict[str, Any]]]) -> None:
    told = [entry for entry in left[1] if entry["action"].startswith("step ")]
    assert not any("step_id" in entry for entry in told)
    for title, known in OF_0_1.items():
        assert sum(step_of(entry) == known for entry in told) == sum(entry["object"] == title for entry in told) > 0
    collected = {entry["object"] for entry in told if step_of(entry)[0] == "collect"}
    assert collected == {entry["object"] for entry in told if entry["object"].startswith("§4 collect ")}
    assert {step_of(entry)[0] for entry in told} == {"", *(step_id for step_id, _ in OF_0_1.values())}


def test_a_log_of_today_is_read_by_its_ids_whatever_the_titles_say() -> None:
    assert step_of({"object": "§2 freeze the workload", "step_id": "stop"}) == ("stop", "")
    assert step_of({"object": "§9 take logs", "step_id": "collect", "of": "logs"}) == ("collect", "logs")


def test_what_is_no_step_has_no_id() -> None:
    assert step_of({"object": "7"}) == ("", "")
