"""A whole evacuation beside one that writes on and matches nothing, and the same without it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.answer import answer
from tasks.cli.status import status
from tasks.containment import silence
from tasks.host.host import LinuxHost
from tests.integration.host.test_holders import HOLDS, RESIZES, stranger
from tests.integration.host.test_listening import hidden_writer
from tests.support.loops import shell_loop
from tests.support.scenes import Scene
from tests.support.workloads import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: fanotify names the writer")


@pytest.mark.whole
def test_a_hidden_writer_is_not_contained_and_named_with_its_file(scene: Scene) -> None:
    scene.small.start_all()
    with hidden_writer(scene.small.root / "logs/x.log") as pid:
        state = scene.evacuate(reason="one hides")
    assert state.name == "NotContained", state.message
    assert "logs/x.log was changed at" in str(state.message)
    assert f"by process {pid} (" in str(state.message)


@pytest.mark.whole
@pytest.mark.sample(1)
@pytest.mark.parametrize("is_held", [True, False])
def test_a_rehearsal_forecasts_it_also_of_one_that_no_event_tells_of(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, is_held: bool
) -> None:
    """A hard link outside of the root: the plan was green, and the run named nobody."""
    monkeypatch.setattr(silence, "_REHEARSED_SECONDS", 2.0)
    log, link = scene.small.root / "logs/x.log", tmp_path / "another name"
    log.touch()
    link.hardlink_to(log)
    scene.small.start_all()
    with stranger(HOLDS if is_held else RESIZES, link) as pid:
        message = str(scene.evacuate(dry_run=True).message)
    assert "it would end NOTCONTAINED" in message
    assert "logs/x.log was changed at" in message
    assert (f"process {pid} (" if is_held else "fuser -v") in message


@pytest.mark.soak
def test_the_same_without_it_and_with_a_launch_that_tests_the_cordon_is_verified(scene: Scene) -> None:
    train = scene.small.root / "src/train.py"
    train.write_text(f"open('logs/train-new.log', 'a').write('begun')\n{train.read_text()}")
    scene.small.start_all()
    scene.save(workload=scene.small.block(training_command=scene.small.training_command))
    state = scene.evacuate(reason="nobody hides")
    assert state.name == "Verified", state.message


@pytest.fixture
def loop(scene: Scene) -> Iterator[int]:
    """A shell in the root whose short-lived children write there; its pid.

    Without the parentheses the shell itself opens the file, and is a suspect at that moment.
    """
    beat = scene.small.root / "beat.txt"
    with shell_loop(beat.parent, f"(date >>{beat.name}); sleep 0.3") as pid:
        wait_until(lambda: beat.exists() and beat.stat().st_size > 0, what="a line")
        yield pid


@pytest.mark.whole
def test_a_bystander_of_the_block_may_write_by_short_lived_children(scene: Scene, loop: int) -> None:
    """Each run was NotContained, with the advice to kill what the block excuses."""
    scene.small.start_all()
    scene.save(workload=scene.small.block(bystanders=[r"^sh \-c echo "]))
    state = scene.evacuate(reason="one is excused")
    assert state.name == "Verified", state.message
    assert f"kill {loop}" not in str(state.message)


@pytest.mark.whole
def test_so_may_who_was_answered_to_be_a_bystander_from_the_first_time_on(scene: Scene, loop: int) -> None:
    """The first answer ended NotContained: its status listed the process with the advice to kill it."""
    scene.small.start_all()
    scene.evacuate(reason="one is not known")
    state = answer(scene.name, scene.name, scene.home.name, loop, "bystander", "ana", "hers", return_state=True)
    assert state.name == "Verified", state.message
    lines = "\n".join(status(scene.block, LinuxHost(root=scene.block.root)))
    assert f"process {loop}:" not in lines
