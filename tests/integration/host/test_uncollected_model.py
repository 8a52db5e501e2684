"""A model that the API names or holds at its freeze and that no collector takes is a loss, on a real API."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from blocks.workload import Workload
from tasks.containment.api_port import note_named
from tasks.containment.freeze import freeze
from tasks.custody.incident.readiness import Weight
from tasks.evidence.collect import collect
from tasks.evidence.uncollected_model import find_uncollected
from tasks.prestart.freeze import freeze_described
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.workload import check_models
from tasks.runtime.context import RunContext
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload, wait_until

LARGE = 20 << 20
USUAL = Workload.model_fields["api_command"].default
COLLECTORS = ("tree", "open_files", "models", "folders", "code")


def told(context: RunContext) -> Sequence[str]:
    freeze.fn(context)
    evidence = [made(collect.fn(context, each)) for each in COLLECTORS]
    return find_uncollected(context, evidence)


def serve(small: SmallWorkload, model: str, *, names: str = "os.path.basename(model)", holds: bool = False) -> None:
    """Start the API with this model, which it names so, or keeps open."""
    program = small.root / "uvicorn/__main__.py"
    text = program.read_text().replace('"model": os.path.basename(model)', f'"model": {names}')
    program.write_text(f"import os\nheld = {f'open({model!r})' if holds else None}\n{text}")
    small.start(small.api_command)
    wait_until(small.healthy, what="the API's answer")


def put(path: Path, size: int = LARGE) -> None:
    """One that no collector takes unnamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))


@pytest.mark.short(1)
@pytest.mark.parametrize(
    ("names", "line"),
    [
        ('"zoo/a/w 1.npz"', '"models/none", "zoo/a/w 1.npz"]'),
        ('"zoo/a[1]/w 1.npz"', '"models/none", "zoo/a[[]1]/w 1.npz"]'),
        ('os.path.abspath("zoo/a/w 1.npz")', '"models/none", "zoo/a/w 1.npz"]'),
        ('"zoo/elsewhere.onnx"', "name its file in models"),
        ('"v7"', "name its file in models"),
    ],
)
def test_a_model_that_the_answer_names_and_nobody_takes_is_told_with_a_line(
    small: SmallWorkload, names: str, line: str
) -> None:
    """A run ended Verified without the one model that the API served: may_be_missing named models."""
    (small.root / "models/model_builtin.joblib").unlink()
    for folder in ("a", "a[1]"):
        put(small.root / f"zoo/{folder}/w 1.npz")
    serve(small, "none", names=names)
    block = small.block(models=["models/none"], may_be_missing=["models"])
    found = check_models(CheckTarget("small", block, "", {}))
    assert (found.weight, line in found.cure) == (Weight.LOSS, True)
    with case_of(block) as context:
        (sentence,) = told(context)
    assert line in sentence
    assert 'model_at = ""' in sentence


@pytest.mark.short(1)
@pytest.mark.sample(5)
@pytest.mark.parametrize(
    ("names", "models", "field"),
    [
        ('"model_builtin.joblib"', [], {}),
        ('"models/model_builtin.joblib"', [], {}),
        ('"file://" + os.path.abspath("models/model_builtin.joblib")', [], {}),
        ('"models/now"', [], {}),
        ('"v7"', [], {}),
        ("None", [], {"models": ["models/none"]}),
        ('"zoo/a.npz"', [], {"model_at": ""}),
        ('"zoo/a.npz"', ["zoo/a.npz"], {"models": ["zoo/*.npz"]}),
        ('"zoo/b.npz"', ["zoo/a.npz"], {"models": ["zoo/a.npz"]}),
        ('"zoo/small.npz"', ["zoo/small.npz"], {}),
    ],
)
def test_what_is_taken_by_whatever_name_or_is_not_named_is_no_loss(
    small: SmallWorkload, names: str, models: Sequence[str], field: dict[str, object]
) -> None:
    (small.root / "models/now").symlink_to("model_builtin.joblib")
    for each in models:
        put(small.root / each, 9 if "small" in each else LARGE)
    if models == ["zoo/a.npz"]:
        (small.root / "zoo/b.npz").hardlink_to(small.root / "zoo/a.npz")
    serve(small, "models/model_builtin.joblib", names=names)
    found = check_models(CheckTarget("small", small.block(**field), "", {}))
    assert "collected by nobody" not in found.found
    with case_of(small.block(**field)) as context:
        assert told(context) == ()


@pytest.mark.whole
@pytest.mark.parametrize("early", [True, False])
def test_what_a_process_holds_open_and_nobody_takes_is_told(small: SmallWorkload, *, early: bool) -> None:
    put(small.root / "zoo/w.safetensors")
    serve(small, "zoo/w.safetensors", names='"model_builtin.joblib"', holds=True)
    block = small.block()
    assert '"zoo/w.safetensors"]' in check_models(CheckTarget("small", block, "", {})).cure
    if early:
        fields = {
            "root": str(small.root),
            "api_pattern": block.api_pattern,
            "api_url": f"http://127.0.0.1:{small.port}",
        }
        assert freeze_described({**fields, "evidence_dir": str(block.evidence)})
    with case_of(block) as context:
        (sentence,) = told(context)
        named = [each["object"] for each in context.log.entries() if each["action"] == "model named"]
    assert named == ["model_builtin.joblib"]
    assert "its process holds it open" in sentence
    assert '"zoo/w.safetensors"]' in sentence


@pytest.mark.parametrize(("field", "named"), [({}, True), ({"api_command": USUAL}, False)])
def test_on_a_port_that_nobody_chose_anybody_may_have_answered(
    small: SmallWorkload, field: dict[str, object], *, named: bool
) -> None:
    with case_of(small.block(**field)) as context:
        note_named(context.log, context.workload, context.state, '{"model": "a.onnx"}')
        assert any(each["action"] == "model named" for each in context.log.entries()) is named
        note_named(context.log, context.workload, context.state, '{"model": ')
