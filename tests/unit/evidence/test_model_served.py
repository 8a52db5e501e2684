"""Which model a container served is what it was started with, by the paths inside it."""

import shlex
from datetime import UTC, datetime

import pytest

from tasks.custody.containment.identity import ContainerIdentity
from tasks.custody.containment.receipt import FrozenContainer
from tasks.evidence.model_served import model_served
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload

NOW = datetime.now(UTC)
INSIDE, OUTSIDE, OTHER = "/app/models/model_a.joblib", "models/model_a.joblib", "/app/models/model_b.joblib"


@pytest.mark.parametrize(
    ("words", "models", "names"),
    [
        ("MODEL_PATH=/app/models/model_a.joblib", {INSIDE: "a", OUTSIDE: "another", OTHER: "b"}, (INSIDE,)),
        ("MODEL_PATH=models/model_a.joblib", {INSIDE: "a", OUTSIDE: "another", OTHER: "b"}, (INSIDE,)),
        ("MODEL_PATH=/app/models/model_a.joblib", {OUTSIDE: "mounted"}, (OUTSIDE,)),
        ("MODEL_FILE=model_a.joblib", {INSIDE: "a", OTHER: "b"}, (INSIDE,)),
        ("--model models/model_a.joblib", {INSIDE: "a", OTHER: "b"}, (INSIDE,)),
        ("--model=models/model_a.joblib", {OUTSIDE: "mounted"}, (OUTSIDE,)),
        ("sh -c 'exec serve models/model_a.joblib'", {INSIDE: "a", OTHER: "b"}, (INSIDE,)),
        ("LANG=C", {INSIDE: "a"}, ()),
    ],
)
def test_a_container_is_asked_for_what_it_names_inside(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch, words: str, models: dict[str, str], names: tuple[str, ...]
) -> None:
    identity = ContainerIdentity("0" * 64, "then")
    was = FrozenContainer(identity, "api", "i", "no", auto_remove=False, why="", seen_at=NOW, paused_at=NOW)
    is_variable = words.partition("=")[0].replace("_", "").isupper()
    about = {
        "Path": "uvicorn",
        "Args": ["api.app:app", *([] if is_variable else shlex.split(words))],
        "Config": {"Env": ["PATH=/usr/bin", *([words] if is_variable else [])], "WorkingDir": "/app"},
        "HostConfig": {"NetworkMode": "host"},
    }
    for module in ("containment.containers.pause", "evidence.model_served"):
        monkeypatch.setattr(f"tasks.{module}.kept_config", lambda *_: about)
    with case_of(small.block(api_pattern="api.app")) as context:
        context.state.frozen_containers.write([was])
        found = model_served(context, {}, models)
    assert (found.names, found.contents) == (names, frozenset(models[name] for name in names))
