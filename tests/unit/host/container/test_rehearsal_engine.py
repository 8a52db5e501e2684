"""What a rehearsal tells a container engine: nothing; and that each act is written down."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

from tasks.custody.incident.log import CustodyLog
from tasks.host.container.rehearsal import RehearsalEngine
from tests.support.memory_engine import MemoryEngine, container

if TYPE_CHECKING:
    from tasks.host.container.docker_engine import Engine


class Closing(MemoryEngine):
    """One that knows whether it was closed."""

    closed = False

    def close(self) -> None:
        """Note it."""
        self.closed = True


def test_each_act_is_written_down_and_changes_what_is_answered_but_no_container(tmp_path: Path) -> None:
    one = container(1)
    real, log = Closing(one), CustodyLog(tmp_path / "log.jsonl", {})
    engine = RehearsalEngine(cast("Engine", real), log, {})
    engine.pause(one.id)
    paused = engine.get_container(one.id)
    engine.unpause(one.id)
    thawed = engine.get_container(one.id)
    engine.close()
    assert [(each["action"], each["object"], each["act"]) for each in log.entries()] == [
        ("would", one.id[:12], "pause the container"),
        ("would", one.id[:12], "thaw the container"),
    ]
    assert (paused and paused.state, thawed and thawed.state) == ("paused", "running")
    assert real.acts == []
    assert real.closed
