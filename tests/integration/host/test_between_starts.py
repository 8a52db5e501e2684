"""A container between two starts, by an engine that is about to start it while we forbid that."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.containment.containers.pause import WorkloadContainers
from tasks.custody.containment.identity import ContainerIdentity
from tasks.custody.errors import ContainerGone
from tasks.host.container.membership import Container
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload

ID = "f" * 64


class Engine:
    """Its container ends at once and always starts again, until it is told otherwise between two of its lives.

    `under_way` are the lives that the engine has decided on before it hears of that.
    """

    place = "here"

    def __init__(self, under_way: int) -> None:
        """It waits for its next start."""
        self.under_way, self.lives, self.state, self.allowed = under_way, 1, "restarting", True

    def look(self) -> Container:
        """As it is now."""
        identity = ContainerIdentity(ID, f"life {self.lives}")
        return Container(identity, "loop", "image", "sha256:1", self.state, restart="always")

    def containers(self, asked: Sequence[str]) -> tuple[Container, ...]:
        """All that may run something."""
        del asked
        return tuple(each for each in [self.look()] if each.alive)

    def get_container(self, id_: str) -> Container:
        """The next of its lives begins and ends meanwhile."""
        assert id_ == ID
        seen = self.look()
        if self.state == "restarting" and self.under_way:
            self.under_way -= 1
            self.lives += 1
        return seen

    def inspect(self, id_: str) -> Mapping[str, Any]:
        """What it was made with."""
        return {"Id": id_}

    def forbid_restart(self, id_: str) -> None:
        """Heard by what is not under way."""
        assert id_ == ID
        self.allowed = self.allowed and self.under_way > 0

    def signal(self, id_: str, name: str) -> None:
        """Nothing runs in that instant where a life is under way."""
        if self.under_way:
            raise ContainerGone("it to run", name, "Nothing was sent.", "Look again.")
        assert id_ == ID
        self.state = "restarting" if self.allowed else "exited"

    def close(self) -> None:
        """Nothing is open."""


def test_one_that_starts_while_its_start_is_forbidden_is_kept_down_all_the_same(small: SmallWorkload) -> None:
    for under_way in (0, 1, 3):
        engine = Engine(under_way)
        with case_of(small.block(containers=["image=image"])) as context:
            context.adapters.__dict__["engine"] = engine
            frozen, trouble = WorkloadContainers(context).freeze()
            assert trouble == ""
            assert engine.state == "exited", under_way
            assert WorkloadContainers(context).tell_living() == ()
            assert all(not each.denied for each in frozen)
