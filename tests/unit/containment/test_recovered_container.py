"""What becomes of a container that a recovery makes again, on an engine in memory."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest

from tasks.custody.containment.container import ContainerIdentity, FrozenContainer
from tasks.custody.errors import EngineError
from tasks.recovery.container_api import ContainerApi
from tests.support.memory_engine import MemoryEngine, container
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload

if TYPE_CHECKING:
    from tasks.adapters.container_engine import Engine

NOW = datetime.now(UTC)
WAS = FrozenContainer(
    ContainerIdentity("0" * 64, "then"),
    "api",
    "served:1",
    "always",
    auto_remove=False,
    why="",
    seen_at=NOW,
    paused_at=None,
)
KEPT = {"HostConfig": {"RestartPolicy": {"Name": "always"}}}


class MakingEngine(MemoryEngine):
    """It makes containers too, and refuses a name that is taken."""

    def create(self, name: str, about: Mapping[str, Any]) -> str:
        """Made, not started."""
        if name in {each.name for each in self.there.values()}:
            raise EngineError("a free name", "name in use", "Nothing.", "Remove it.")
        made = replace(container(len(self.acts) + 1), name=name, state="created", pid=0)
        self.there[made.id] = replace(made, restart=about["HostConfig"]["RestartPolicy"]["Name"])
        self.acts.append(("create", made.id))
        return made.id

    def start(self, id_: str) -> None:
        """Running."""
        self.change(id_, state="running", pid=1)

    def remove(self, id_: str) -> None:
        """Gone."""
        del self.there[id_]

    def forbid_restart(self, id_: str) -> None:
        """Of one that has ended too, as the real one does."""
        self.change(id_, restart="no")


@pytest.fixture
def recovery(small: SmallWorkload, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ContainerApi, MakingEngine]]:
    monkeypatch.setattr("tasks.recovery.container_api.kept_config", lambda *_: KEPT)
    with case_of(small.block()) as context:
        engine = MakingEngine()
        context.adapters.engine = cast("Engine", engine)
        yield ContainerApi(context, WAS), engine


@pytest.mark.parametrize("crashed", [True, False])
def test_one_that_failed_is_kept_for_its_logs_and_taken_up_by_the_next_recovery(
    recovery: tuple[ContainerApi, MakingEngine], *, crashed: bool
) -> None:
    api, engine = recovery
    api.prepare()
    api.start()
    (made,) = engine.there
    if crashed:
        engine.end(made, 1)
    api.end()
    assert {each.state for each in engine.there.values()} == {"exited"}
    assert engine.there[made].restart == "no"
    again = ContainerApi(api.context, WAS)
    again.prepare()
    again.start()
    again.keep()
    assert [*engine.there] == [made]
    assert again.lives()
    assert engine.there[made].restart == "always"


def test_one_that_never_ran_is_removed(recovery: tuple[ContainerApi, MakingEngine]) -> None:
    api, engine = recovery
    api.prepare()
    api.end()
    assert engine.there == {}


def test_a_strangers_container_of_that_name_is_left_alone(recovery: tuple[ContainerApi, MakingEngine]) -> None:
    api, engine = recovery
    stranger = replace(container(9), name="api", state="exited")
    engine.there[stranger.id] = stranger
    with pytest.raises(EngineError, match="name in use"):
        api.prepare()
    api.end()
    assert engine.there == {stranger.id: stranger}
