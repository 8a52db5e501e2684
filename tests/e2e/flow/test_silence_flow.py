"""A whole evacuation beside one that writes on and matches nothing, and the same without it."""

import os

import pytest

from tests.integration.host.test_listening import hidden_writer
from tests.support.scenes import Scene

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: fanotify names the writer")


def test_a_hidden_writer_is_not_contained_and_named_with_its_file(scene: Scene) -> None:
    scene.small.start_all()
    with hidden_writer(scene.small.root / "logs/x.log") as pid:
        state = scene.evacuate(reason="one hides")
    assert state.name == "NotContained", state.message
    assert "logs/x.log was changed at" in str(state.message)
    assert f"by process {pid} (" in str(state.message)


@pytest.mark.soak
def test_the_same_without_it_and_with_a_launch_that_tests_the_cordon_is_verified(scene: Scene) -> None:
    train = scene.small.root / "src/train.py"
    train.write_text(f"open('logs/train-new.log', 'a').write('begun')\n{train.read_text()}")
    scene.small.start_all()
    scene.save(workload=scene.small.block(training_command=scene.small.training_command))
    state = scene.evacuate(reason="nobody hides")
    assert state.name == "Verified", state.message
