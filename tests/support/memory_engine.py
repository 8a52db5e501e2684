"""A container engine in memory: containers that obey, are deaf, lag behind or are gone."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from tasks.custody.containment.identity import ContainerIdentity
from tasks.custody.errors import ContainerGone, EngineError
from tasks.host.container.membership import Container
from tasks.runtime.context import RunContext

if TYPE_CHECKING:
    from tasks.host.container.docker_engine import Engine

Hook = Callable[[str, str], None]


def container(number: int = 1, state: str = "running", **about: Any) -> Container:
    """One of the image that `ASKED` names; its id is made of the number."""
    identity = ContainerIdentity(f"{number:064x}", about.pop("started_at", "2026-01-02T03:04:05Z"))
    return Container(identity, f"c{number}", "served:1", "sha256:0", state, **({"restart": "no"} | about))


def obey(act: str, id_: str) -> None:
    """Let an act be done."""


def broken(act: str, id_: str = "") -> Hook:
    """Fail one act, on one container or on any."""

    def before(what: str, which: str) -> None:
        if what == act and id_ in {"", which}:
            raise EngineError("an answer", "nothing", "It is not done.", "Look at it.")

    return before


ASKED = ["image=served:1"]


class MemoryEngine:
    """Answers as an engine does of which nobody else asks anything. `acts` is what it was told to do, in order.

    `before` is called before an act with the act and the id, and may change `there` or raise EngineError; one that is
    in `deaf` hears SIGKILL alone.
    """

    def __init__(self, *there: Container) -> None:
        """Hold these."""
        self.there = {each.id: each for each in there}
        self.listed: tuple[Container, ...] | None = None
        self.acts: list[tuple[str, ...]] = []
        self.deaf: set[str] = set()
        self.before: Hook = obey
        self.place = "memory:"
        self._ended: dict[str, int] = {}
        self._changed = threading.Condition()

    def close(self) -> None:
        """Nothing is held."""

    def end(self, id_: str, code: int) -> None:
        """End one, which removes itself if it is told to."""
        with self._changed:
            if self.there[id_].auto_remove:
                del self.there[id_]
            else:
                self.change(id_, state="exited", exit_code=code, pid=0)
            self._ended[id_] = code
            self._changed.notify_all()

    def change(self, id_: str, **about: Any) -> None:
        """Let somebody else do something to one."""
        self.there[id_] = replace(self.there[id_], **about)

    def containers(self, asked: Sequence[str], *, others: bool = False) -> tuple[Container, ...]:
        """Those that live, or a list that lags behind."""
        assert asked or others
        self.before("list", "")
        return tuple(each for each in self.there.values() if each.alive) if self.listed is None else self.listed

    def get_container(self, id_: str) -> Container | None:
        """As it is now."""
        self.before("get", id_)
        return self.there.get(id_)

    def _act(self, *what: str) -> None:
        self.before(*what[:2])
        self.acts.append(what)
        if not (now := self.there.get(what[1])) or not now.alive:
            raise ContainerGone("a container that runs", "none", f"{what[0]} was not done.", "Look at it.")

    def pause(self, id_: str) -> None:
        """Paused."""
        self._act("pause", id_)
        self.change(id_, state="paused")

    def unpause(self, id_: str) -> None:
        """Running, whatever it was."""
        self._act("unpause", id_)
        self.change(id_, state="running")

    def forbid_restart(self, id_: str) -> None:
        """No restart policy."""
        self._act("forbid restart", id_)
        self.change(id_, restart="no")

    def allow_restart(self, id_: str, policy: Mapping[str, Any]) -> None:
        """The policy back, also of one that has ended."""
        self.before("allow restart", id_)
        self.acts.append(("allow restart", id_))
        if id_ not in self.there:
            raise ContainerGone("a container", "none", "It has no policy.", "Look at it.")
        self.change(id_, restart=policy["Name"])

    def signal(self, id_: str, name: str) -> None:
        """It ends by it, and removes itself if it is told to; a deaf one is thawed and goes on."""
        self._act("signal", id_, name)
        if name != "SIGKILL" and id_ in self.deaf:
            self.change(id_, state="running")
        else:
            self.end(id_, 137 if name == "SIGKILL" else 0)

    def end_of(self, id_: str, seconds: float) -> int | None:
        """Wait for its end."""
        with self._changed:
            if not self._changed.wait_for(lambda: id_ in self._ended, seconds):
                raise TimeoutError
        return self._ended[id_]

    def inspect(self, id_: str) -> dict[str, Any]:
        """What it takes to make it again."""
        self.before("inspect", id_)
        now = self.there[id_]
        host = {"RestartPolicy": {"Name": now.restart}}
        return {"Id": id_, "State": now.state, "Restart": now.restart, "HostConfig": host}


def engine_of(run: RunContext, *there: Container) -> MemoryEngine:
    """Put an engine in memory behind a run's door."""
    engine = MemoryEngine(*there)
    run.adapters.engine = cast("Engine", engine)  # of what an engine can do it lacks what no act needs
    return engine
