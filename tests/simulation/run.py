"""One run of an incident in a process of its own, which may be killed at any of its acts: the flow's own graph."""

import gc
import importlib
import inspect
import os
import pickle
import select
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from errno import EIO, ENOSPC
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING, Any, cast

import flows.evacuate
import flows.thaw
from tasks.custody.containment.answer import GivenAnswer
from tasks.custody.errors import Refused
from tasks.preflight.open_incident import NotOpened, Opened, Request, open_incident
from tasks.preflight.reopen import Reopening, reopen
from tests.simulation.on_paper import put_on_paper
from tests.simulation.runner import ACQUIRED, PaperRunner
from tests.simulation.world import World

if TYPE_CHECKING:
    from tasks.runtime.context import RunContext

_SECONDS = 60.0
"""Longer than a run takes on paper, on the busiest machine."""
_STARTED = "log step started "
_now = time.monotonic


@dataclass(frozen=True)
class Event:
    """What happens to a run at its n-th act, counted from its beginning or from that of a step.

    `what` is the name of a method of `_Running`.
    """

    what: str
    act: int
    step: str = ""
    size: float = 0


@dataclass(frozen=True)
class Order:
    """A run: what it is asked for, and what happens to it.

    `act` is evacuate, thaw, or wait, in which only time passes. `fails` are collectors that do not work in it, `retry`
    is the id of a run that Prefect's Retry begins again. It begins `after` so many seconds. `answer` is a person's, on
    a process that is not known.
    """

    act: str = "evacuate"
    incident: str | None = None
    policy: str = "graceful"
    events: tuple[Event, ...] = ()
    fails: tuple[str, ...] = ()
    retry: str = ""
    after: float = 1.1
    answer: GivenAnswer | None = None


@dataclass
class End:
    """How it ended: the state's name and message, or a traceback; `acts` is how many acts it did."""

    name: str
    message: str = ""
    completed: bool = False
    trouble: str = ""
    acts: int = 0
    incident: str = ""
    acquired: set[str] = field(default_factory=set)
    modules: tuple[str, ...] = ()


class _Running:
    """A run at work in this process, which ends with it."""

    def __init__(self, world: World, order: Order, answer: int) -> None:
        self.world, self.order, self.answer = world, order, answer
        self.acts, self.known, self.full = 0, {*sys.modules}, False
        self.began = {"": 0}
        self.context: RunContext | None = None

    def happens(self, what: str) -> None:
        """Count an act, before or after it is done, and let happen what is ordered."""
        self.acts += 1
        if what.startswith(_STARTED):
            self.began.setdefault(what.removeprefix(_STARTED), self.acts)
        for event in self.order.events:
            if self.acts == self.began.get(event.step, self.acts) + event.act:
                getattr(self, event.what)(event, what)
        if self.full and what.startswith(("write ", "log ")):
            raise OSError(ENOSPC, os.strerror(ENOSPC))

    def kill(self, _: Event, what: str) -> None:
        """Let it end without another act."""
        self.leave(End("Killed", what))

    def fail(self, _: Event, what: str) -> None:
        """Let an act of the host, its disk or the store fail once."""
        if not what.startswith("log "):
            raise OSError(EIO, os.strerror(EIO), what)

    def cancel(self, *_: object) -> None:
        """Let a person cancel it."""
        if self.context:
            self.context.cancelled.order(SIGTERM)

    def lose_copy(self, *_: object) -> None:
        """Let a copy vanish from a folder that is not being sealed yet."""
        if self.context:
            folder = self.context.directory.evidence_dir(self.context.run.volume)
            for path in [] if (folder / "custody.jsonl").exists() else sorted(folder.rglob("*.log"))[:1]:
                path.unlink()

    def step_clock(self, event: Event, _: str) -> None:
        """Let somebody set the host's clock."""
        self.world.host.clock.epoch += event.size

    def fill_disk(self, *_: object) -> None:
        """Let nothing more be written, but what is copied."""
        self.full = True

    def free_disk(self, *_: object) -> None:
        """Let it be written again."""
        self.full = False

    def leave(self, end: End) -> None:
        """Give the world back, and be gone like one that was killed."""
        end.acts, end.acquired = self.acts, ACQUIRED
        end.modules = tuple(name for name in sys.modules if name not in self.known)
        end.incident = self.context.incident.id if self.context else ""
        with os.fdopen(self.answer, "wb") as pipe:
            pipe.write(pickle.dumps((self.world.host, self.world.store, end)))
        os._exit(0)

    def run(self) -> None:
        try:
            put_on_paper(self.world, self.happens, self.order.fails)
            time.sleep(self.order.after)
            end = self._end()
        except Refused as refused:
            end = End("Refused", str(refused))
        except BaseException:  # noqa: BLE001  it is a finding
            end = End("Crashed", trouble=traceback.format_exc())
        self.leave(end)

    def _end(self) -> End:
        if self.order.act == "wait":
            time.sleep(10)
            return End("Waited")
        opened = self._opened()
        if isinstance(opened, NotOpened):
            return End(opened.ending.name, opened.summary, opened.ending.completed)
        self.context = opened.context
        try:
            with PaperRunner(self.context) as steps:
                flow: Any = flows.thaw.let_go if self.order.act == "thaw" else flows.evacuate.carry_out
                takes = "steps" in inspect.signature(flow).parameters
                state = flow(steps if takes else self.context)
        finally:
            opened.context.close()
        return End(state.name or "", state.message or "", state.is_completed())

    def _opened(self) -> Opened | NotOpened:
        order, run = self.order, self.order.retry or f"00000000-0000-4000-8000-{self.world.number:012d}"
        if order.act == "thaw":
            reopening = Reopening("paper", "store", None, "", run, purpose="thaw")
            return cast("Opened | NotOpened", cast("Any", reopen).fn(reopening))
        about: Any = {"workload": "paper", "store": "store", "reason": "a drill on paper", "detected_at": None}
        about |= {"incident_id": order.incident, "dry_run": False, "policy": order.policy, "run": run}
        about |= {"answer": order.answer}
        now = datetime.fromtimestamp(time.time(), UTC)
        asked = Request(**about, created=now)
        return cast("Opened | NotOpened", cast("Any", open_incident).fn(asked))


def ran(world: World, order: Order, change: Callable[[], object] = int) -> End:
    """Run it in a child, and take the world back from there. `change` is called there first."""
    world.number += 1
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        with suppress(BaseException):
            os.close(reading)
            gc.disable()  # it would touch, and so copy, every page of ours
            change()
            _Running(world, order, writing).run()
        os._exit(1)
    os.close(writing)
    data = _answer(reading, child)
    os.waitpid(child, 0)
    if not data:
        return End("Stuck", trouble=f"nothing came of it in {_SECONDS:g} s")
    world.host, world.store, end = pickle.loads(data)  # noqa: S301  our own child's
    for name in end.modules:  # so that no other run has to
        with suppress(Exception):
            importlib.import_module(name)
    world.acquired.setdefault(end.incident, set()).update(end.acquired)
    return cast("End", end)


def _answer(reading: int, child: int) -> bytes:
    parts, until = list[bytes](), _now() + _SECONDS
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(0.0, until - _now()))[0]:
            if not (part := pipe.read(1 << 20)):
                return b"".join(parts)
            parts.append(part)
    os.kill(child, SIGKILL)
    return b""
