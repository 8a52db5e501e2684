"""Which model a container served is what it was started with, by the paths inside it."""

import json
import shlex
from datetime import UTC, datetime

import pytest

from tasks.custody.containment.identity import ContainerIdentity, Identity
from tasks.custody.containment.receipt import Frozen, FrozenContainer
from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.models.contract import ServedBefore
from tasks.evidence.model_served import model_served
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload

NOW = datetime.now(UTC)
INSIDE, OUTSIDE, OTHER = "/app/models/model_a.joblib", "models/model_a.joblib", "/app/models/model_b.joblib"

MOUNTS = {
    "models": "/data/in",
    ".": "/all",
    "../other": "/all/store/hidden",
    "store/b.joblib": "/one.joblib",
    "../another": "/elsewhere",
}


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
    found = served_by_a_container(small, monkeypatch, words, models, {})
    assert (found.names, found.contents) == (names, frozenset(models[name] for name in names))


@pytest.mark.parametrize(
    ("words", "models", "names"),
    [
        (
            "BIRD=/data/in/bird v2.joblib",
            {"models/bird v2.joblib": "a", "models/b.joblib": "b"},
            ("models/bird v2.joblib",),
        ),
        ("--model /data/in/b.joblib", {"models/bird v2.joblib": "a", "models/b.joblib": "b"}, ("models/b.joblib",)),
        ("MODEL=/all/store/b.joblib", {"store/b.joblib": "b", "models/b.joblib": "c"}, ("store/b.joblib",)),
        ("MODEL=/all/store/hidden/b.joblib", {"store/hidden/b.joblib": "b"}, ("/all/store/hidden/b.joblib",)),
        ("MODEL=/one.joblib", {"store/b.joblib": "b", "models/b.joblib": "c"}, ("store/b.joblib",)),
        ("MODEL=/elsewhere/b.joblib", {"models/b.joblib": "c"}, ("/elsewhere/b.joblib",)),
    ],
)
def test_a_model_of_the_root_is_named_where_it_is_mounted(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch, words: str, models: dict[str, str], names: tuple[str, ...]
) -> None:
    found = served_by_a_container(small, monkeypatch, words, models, MOUNTS)
    assert (found.names, found.contents) == (names, frozenset(models[name] for name in names if name in models))


def served_by_a_container(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch, words: str, models: dict[str, str], mounts: dict[str, str]
) -> ServedBefore:
    """What one served that was started with these words, a variable or arguments."""
    identity = ContainerIdentity("0" * 64, "then")
    was = FrozenContainer(identity, "api", "i", "no", auto_remove=False, why="", seen_at=NOW, paused_at=NOW)
    is_variable = words.partition("=")[0].replace("_", "").isupper()
    about = {
        "Path": "uvicorn",
        "Args": ["api.app:app", *([] if is_variable else shlex.split(words))],
        "Config": {"Env": ["PATH=/usr/bin", *([words] if is_variable else [])], "WorkingDir": "/app"},
        "HostConfig": {"NetworkMode": "host"},
        "Mounts": [
            {"Source": f"{small.root}/{source}", "Destination": at, "RW": False} for source, at in mounts.items()
        ],
    }
    for module in ("containment.containers.pause", "evidence.model_served"):
        monkeypatch.setattr(f"tasks.{module}.kept_config", lambda *_: about)
    with case_of(small.block(api_pattern="api.app")) as context:
        context.state.frozen_containers.write([was])
        return model_served(context, {}, models)


def test_a_look_that_found_the_api_gone_takes_nothing_from_the_look_before(small: SmallWorkload) -> None:
    """A second volume, as after the answer on an unknown process, describes the API's processes no more."""
    api, stranger = Identity(1 << 22, 1), Identity(1 << 22, 2)
    rows = {each: {"pid": each.pid, "start_ticks": each.start} for each in (api, stranger)}
    looks = [
        [{**rows[api], "environment": {"MODEL_PATH": OUTSIDE}, "cwd": str(small.root)}],
        [{**rows[api], "not read": "gone", "children": []}, {**rows[stranger], "command": ["sleep"]}],
    ]
    tree = StoredFile("tree.json", "", 1, "")
    with case_of(small.block()) as context:
        roles = {api: "api", stranger: "answered"}
        frozen = [Frozen(each, role, role, 0, NOW, NOW) for each, role in roles.items()]
        context.state.frozen.write(frozen)
        for volume, look in enumerate(looks, 1):
            (folder := context.directory.evidence_dir(volume)).mkdir(parents=True, exist_ok=True)
            (folder / "tree.json").write_text(json.dumps(look))
        for volumes in ({1: [tree]}, {1: [tree], 2: [tree]}):
            found = model_served(context, volumes, {OUTSIDE: "a"})
            assert (found.names, found.how) == ((OUTSIDE,), "named by its environment")
