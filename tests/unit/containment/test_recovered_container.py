"""What becomes of a container that a recovery makes again, on an engine in memory."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest

from tasks.containment.containers.pause import WorkloadContainers
from tasks.containment.cordon import IncidentCordon
from tasks.custody.containment.identity import ContainerIdentity, Identity
from tasks.custody.containment.receipt import FrozenContainer
from tasks.custody.errors import EngineError
from tasks.host.host import LinuxHost
from tasks.recovery.container_api import ContainerApi, restore_restart_policies
from tasks.recovery.recover import Revival, _Restart
from tasks.recovery.served_model import SealedModels
from tasks.runtime.context import RunContext
from tests.support.memory_engine import MemoryEngine, container
from tests.support.paper_host import PaperSystemd
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.host.container.docker_engine import Engine

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
    for module in ("recovery.container_api", "containment.containers.pause"):
        monkeypatch.setattr(f"tasks.{module}.kept_config", lambda *_: KEPT)
    with case_of(small.block()) as context:
        engine = MakingEngine()
        context.adapters.engine = cast("Engine", engine)
        yield ContainerApi(context, WAS.name, WAS.image, WAS.identity), engine


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
    again = ContainerApi(api.context, WAS.name, WAS.image, WAS.identity)
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


@pytest.fixture
def stopped(recovery: tuple[ContainerApi, MakingEngine]) -> tuple[RunContext, MakingEngine]:
    """A case whose stop has disabled the restart of one container, on an engine that is too busy to enable it."""
    api, engine = recovery

    def busy(act: str, _: str) -> None:
        if act == "allow restart":
            raise EngineError("an answer", "none within 60 s", "Nothing.", "Try again.")

    engine.before = busy
    api.context.state.frozen_containers.write([WAS])
    engine.there[WAS.identity.id] = replace(container(0), identity=WAS.identity)
    return api.context, engine


def test_a_restart_policy_that_cannot_be_restored_is_told_and_ends_nothing(
    stopped: tuple[RunContext, MakingEngine],
) -> None:
    """The error ended an API that was proven, and nothing held the lock again."""
    context, _ = stopped
    (told,) = restore_restart_policies(WorkloadContainers(context))
    assert told.startswith("that container 000000000000 starts by itself as before (always): ")
    assert "none within 60 s" in told


class Api:
    """One that a recovery has started."""

    def end(self) -> None:
        """Gone."""


class RecordingSystemd(PaperSystemd):
    """Keeps what it is to keep down."""

    def __init__(self) -> None:
        """Nothing yet."""
        super().__init__(train={"ActiveState": "inactive", "SubState": "dead", "LoadState": "loaded"})
        self.down: list[str] = []

    def hold_down(self, marker: "Path", drop_ins: Mapping[str, str]) -> str:
        """Note it."""
        del marker
        self.down = [*drop_ins]
        return ""


@pytest.mark.slow
@pytest.mark.parametrize("let_in", [True, False])
def test_after_a_failed_recovery_the_whole_cordon_is_back_unless_an_earlier_one_has_let_in_what_runs(
    small: SmallWorkload, *, let_in: bool
) -> None:
    """Units that systemd may start, launchers and the lock were left open if any recovery had succeeded before."""
    with case_of(small.block(units=["train.service"], containers=[])) as context:
        context.state.recovered.write([Identity(1 << 30, 1)])
        systemd = RecordingSystemd()
        host = LinuxHost(root=small.root)
        host.systemd = systemd
        context.adapters.host = host
        if let_in:
            small.start()
        _Restart(context, cast("Revival", Api()), SealedModels({}, (), ()), {}).contain_again()
        assert (systemd.down == ["train.service"]) is not let_in
        assert (IncidentCordon(context).look().guard is None) is let_in
        assert context.adapters.host.refuses(context.workload.lock) is not let_in
