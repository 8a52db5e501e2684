"""Steps are known by their ids: in the code, in the log, and in the cache."""

import hashlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args
from unittest.mock import MagicMock

import pytest
from prefect.cache_policies import CacheKeyFnPolicy

import flows
import tasks
from tasks.custody.evidence.acquisition import Seal
from tasks.custody.incident.steps import StepId, step_of
from tasks.runtime.context import RunContext
from tasks.runtime.step import Step, step


@pytest.fixture(scope="module")
def steps() -> list[Step[Any, Any]]:
    """Every step of the product, each once."""
    roots = [Path(folder) for package in (tasks, flows) for folder in package.__path__]
    files = [(root.parent, path) for root in roots for path in root.rglob("*.py")]
    paths = (path.relative_to(above) for above, path in files if "\n@step" in path.read_text())
    modules = [importlib.import_module(".".join(path.with_suffix("").parts)) for path in paths]
    every = [(module, each) for module in modules for each in vars(module).values() if isinstance(each, Step)]
    return [each for module, each in every if each.fn.__module__ == module.__name__]


def test_every_step_has_an_id_of_its_own(steps: list[Step[Any, Any]]) -> None:
    assert sorted(each.step_id for each in steps) == sorted(get_args(StepId))


def test_what_looks_at_the_world_is_cached_by_no_step_but_these(steps: list[Step[Any, Any]]) -> None:
    cached = {each.step_id for each in steps if each.persist_result}
    assert cached == {"collect", "stop", "judge_models", "seal", "offload", "promote"}


def test_a_result_is_cached_under_its_steps_id() -> None:
    def key(_: Any, parameters: Mapping[str, Any]) -> str:
        return str(parameters["anything"])

    @step("collect", "a title of {anything}", section="§4", ja="任意", retries=1, cache_key_fn=key)
    def renamed(context: RunContext, anything: str) -> Seal:
        raise AssertionError(f"{anything} of {context} is not done")

    assert isinstance(renamed.cache_policy, CacheKeyFnPolicy)
    told = renamed.cache_policy.compute_key(
        MagicMock(), {"context": MagicMock(incident=MagicMock(id="IR-x")), "anything": "x"}, {}
    )
    assert told == f"IR-x.collect.{hashlib.sha256(b'x').hexdigest()[:32]}"


def test_a_log_is_read_by_its_ids_whatever_the_titles_say() -> None:
    assert step_of({"object": "§2 freeze the workload", "step_id": "stop"}) == ("stop", "")
    assert step_of({"object": "§9 take logs", "step_id": "collect", "of": "logs"}) == ("collect", "logs")


def test_what_is_no_step_has_no_id() -> None:
    assert step_of({"object": "7"}) == ("", "")
