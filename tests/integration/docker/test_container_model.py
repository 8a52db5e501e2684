"""Which model a container's API served, where only its process says so."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.custody.models.contract import ServedBefore
from tasks.evidence.model_served import doubts_since_start, model_served
from tests.support.containers import API_COMMAND, Containers
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload, wait_until

pytestmark = pytest.mark.whole

MODELS = {"models/vat one.pkl": "a", "models/other.pkl": "b"}
NAMED = "export VAT='/models/vat one.pkl'; "


def served(small: SmallWorkload, containers: Containers, script: str, *, dry_run: bool = False) -> ServedBefore:
    """What is known after the stop of a container that an entry script has started, whose answer is not asked."""
    (small.root / "models").mkdir(exist_ok=True)
    for name in MODELS:
        (small.root / name).write_text(name)
    (small.root / "entry").mkdir()
    (small.root / "entry/start.sh").write_text(script.format(api=shlex.join(API_COMMAND)))
    binds = [f"{small.root}/models:/models", f"{small.root}/entry:/entry"]
    containers.run(["sh", "/entry/start.sh"], ports=True, binds=binds)
    wait_until(lambda: containers.answers("/health"), what="the API's answer")
    with case_of(containers.block(small, api_pattern="api.app:app", model_at=""), dry_run=dry_run) as context:
        freeze.fn(context)
        stop.fn(context)
        return model_served(context, [], MODELS)


@pytest.mark.sample(2)
@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("start", ["exec {api}", "{api}; true"])
def test_a_variable_that_an_entry_script_exports_names_the_model(
    small: SmallWorkload, containers: Containers, start: str, *, dry_run: bool
) -> None:
    """A recovery said that the model at the freeze is not known: the container's configuration does not name it."""
    found = served(small, containers, NAMED + start, dry_run=dry_run)
    assert (found.names, found.how) == (("models/vat one.pkl",), "named by its environment")
    assert found.contents == {"a"}


@pytest.mark.parametrize(
    "script",
    ["exec {api}", "MODEL=/models/other.pkl python3 stubborn.py src/train.py --mode full & exec {api}"],
)
def test_what_no_process_of_the_api_names_stays_unknown(
    small: SmallWorkload, containers: Containers, script: str
) -> None:
    """A training beside the API has a model of its own."""
    assert served(small, containers, script).contents == frozenset()


def rename_over(folder: Path) -> None:
    (folder / "new").write_text("new")
    (folder / "new").rename(folder / "model.pkl")


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("change", "is_doubtful"),
    [
        (rename_over, True),
        (lambda folder: (folder / "model.pkl").write_text("new"), True),
        (lambda folder: (folder / "other.pkl").write_text("new"), False),
        (lambda _: None, False),
    ],
    ids=["another in its place", "written in place", "another file", "nothing"],
)
@pytest.mark.parametrize("bind", ["{}:/data", "{}/model.pkl:/data/model.pkl"], ids=["a folder", "a file"])
def test_a_model_of_a_mount_that_was_changed_after_the_containers_start_may_not_be_what_it_served(  # noqa: PLR0913  two facts
    small: SmallWorkload,
    containers: Containers,
    tmp_path: Path,
    bind: str,
    *,
    change: Callable[[Path], object],
    is_doubtful: bool,
) -> None:
    """A container that had read the old model came back as Recovered with the one that was put in its place."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "model.pkl").write_text("old")
    containers.run(API_COMMAND, ports=True, binds=[bind.format(folder)])
    wait_until(lambda: containers.answers("/health"), what="the API's answer")
    change(folder)
    assert bool(doubts(small, containers, "/data/model.pkl")) is is_doubtful


@pytest.mark.parametrize(("path", "is_doubtful"), [("/app/late.pkl", True), ("/app/uvicorn/__main__.py", False)])
def test_a_model_of_its_own_layer_that_was_written_after_its_start_may_not_be_what_it_served(
    small: SmallWorkload, containers: Containers, path: str, *, is_doubtful: bool
) -> None:
    id_ = containers.run(API_COMMAND, ports=True)
    wait_until(lambda: containers.answers("/health"), what="the API's answer")
    started = containers.client.exec_create(id_, ["sh", "-c", "echo new >/app/late.pkl"])
    containers.client.exec_start(started["Id"])
    assert bool(doubts(small, containers, path)) is is_doubtful


def doubts(small: SmallWorkload, containers: Containers, path: str) -> dict[str, str]:
    """What is in doubt after the stop of a file that the container's API had named."""
    with case_of(containers.block(small, api_pattern="api.app:app", model_at="", reload_path="")) as context:
        freeze.fn(context)
        stop.fn(context)
        return doubts_since_start(context, ServedBefore((path,), how="named in its answer", answered=True), [])
