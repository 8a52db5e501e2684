"""Which model a container's API served, where only its process says so."""

import shlex

import pytest

from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.custody.models.contract import ServedBefore
from tasks.evidence.model_served import model_served
from tests.support.containers import API_COMMAND, Containers
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload, wait_until

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
