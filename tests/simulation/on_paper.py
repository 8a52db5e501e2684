"""Put this process's run on paper: its host, store, time, threads and what it asks of a server, for good."""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from fcntl import LOCK_EX, LOCK_NB, flock
from functools import lru_cache, partial
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any, Self, cast

from prefect.client.schemas.objects import State

import flows.evacuate
import flows.thaw
import tasks.collectors.attempt
import tasks.custody.incident.log
import tasks.host.descent
import tasks.host.file_lock
import tasks.host.host
import tasks.host.process.table
import tasks.models.inspect
import tasks.runtime.context
import tasks.runtime.progress
import tasks.runtime.step
import tasks.system.cancellation
import tasks.system.files.atomic_files
import tasks.system.parallel
from tasks import collectors
from tasks.acquisition.acquire import take
from tasks.acquisition.collector import Collector, FunctionOutput, Target
from tasks.acquisition.estimate import estimate
from tasks.acquisition.searching import search_items
from tasks.custody.evidence.acquisition import Loss, Outcome, StoredFile
from tasks.custody.incident.ending import FINISHED
from tasks.custody.models.inspection import Soundness
from tasks.custody.visible import visible
from tasks.host import launch_files
from tasks.host.process.process import Process
from tasks.incident import layout
from tasks.people.announce import announce_containment
from tasks.prefect_side import saved_blocks
from tasks.prefect_side.clock import find_server_time
from tasks.prefect_side.saved_blocks import SavedStore
from tasks.record.publish import publish
from tasks.runtime import flow_run
from tasks.runtime.context import Adapters
from tasks.runtime.store_access import StoreAccess
from tests.simulation.runner import PaperRunner, published, result_of
from tests.simulation.world import TICKS, SimHost, World, paper_datetime
from tests.support.memory_engine import MemoryEngine

_KEPT = ("logs", "artifacts", "models", "folders")
_CHECKS = {"prove_contained", "prove_still_contained", "prove_contained_again"}
_OURS = frozenset({"tasks", "flows", "blocks"})
_VISIBLE = lru_cache(maxsize=1 << 14)(visible)
"""Half of the time of a record goes there."""
_DISCOVER = collectors.discover


class _Inline:
    """An executor that does at once what it is given."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, act: Callable[..., Any], *args: Any) -> Future[Any]:
        return _apart(partial(act, *args))[0]

    def map(self, act: Callable[..., Any], *items: Iterable[Any]) -> Iterator[Any]:
        return map(act, *items)


class _InlineThread(Thread):
    """A thread that has done its work once it was started."""

    def start(self) -> None:
        self.run()

    def join(self, timeout: float | None = None) -> None: ...


def _apart(body: Callable[[], Any]) -> tuple[Future[Any], Thread]:
    done = Future[Any]()
    try:
        done.set_result(body())
    except Exception as error:  # noqa: BLE001  raised by the future's result()
        done.set_exception(error)
    return done, Thread()


@lru_cache
def _this_process() -> Process | None:
    return tasks.host.process.table.read_process(os.getpid())


def _nothing(*_: Any, **__: Any) -> None:
    """Do nothing."""


def _swap(*pairs: tuple[Any, Any]) -> None:
    """Put new things in place of old ones, wherever the product has imported them."""
    new_of = {id(old): new for old, new in pairs}
    for module in [module for name, module in sys.modules.items() if name.split(".")[0] in _OURS]:
        for attribute, new in [(name, new_of[id(it)]) for name, it in vars(module).items() if id(it) in new_of]:
            setattr(module, attribute, new)


def _boot_again(times: int) -> None:
    """Let this be another boot of the host: it is in the names of files."""
    now, then = f"{times:08x}", tasks.host.process.table.boot_id()
    for module in [module for name, module in sys.modules.items() if name.split(".")[0] in _OURS]:
        for name, it in [(name, it) for name, it in vars(module).items() if isinstance(it, str) and then[:8] in it]:
            setattr(module, name, it.replace(then[:8], now))
    _swap((tasks.host.process.table.boot_id, lambda: now + then[8:]))


def put_on_paper(world: World, happens: Callable[[str], object], fails: Iterable[str]) -> None:
    """Replace what reaches beyond the world. `happens` is called with each act; collectors of `fails` do not work."""
    logging.disable(logging.CRITICAL)
    host, store, clock = world.host, world.store, world.host.clock
    host.happens = store.happens = happens
    store.acts = 0
    time.time, time.monotonic, time.sleep = clock.time, clock.monotonic, clock.sleep  # type: ignore[assignment]
    os.fsync = _nothing
    _swap(
        (datetime, paper_datetime(clock)),
        (tasks.system.cancellation.run_in_thread, _apart),
        (tasks.system.parallel.side_by_side, lambda act, items, _=0: map(act, items)),
        (ThreadPoolExecutor, _Inline),
        (tasks.runtime.progress.show_progress, lambda *_: nullcontext()),
        (tasks.host.process.table.ticks, clock.ticks),
        (tasks.host.process.table.age_of, lambda start: max(0.0, clock.ticks() - start) / TICKS),
        (tasks.host.host.LinuxHost, lambda *_, **__: host),
        (tasks.runtime.context.open_adapters, lambda *_, **__: _adapters(host)),
        (collectors.discover, discover),
        (tasks.collectors.attempt.attempt, partial(attempt, fails=frozenset(fails))),
        (saved_blocks.load_block, lambda *_: world.workload()),
        (saved_blocks.require_store, lambda name: SavedStore(name, {"folder": str(world.folder)})),
        (flow_run.own_launchers, frozenset),
        (flow_run.origin, lambda _: "drawn"),
        (find_server_time, lambda: None),
        (flow_run.finished_before, lambda _: FINISHED),
        (tasks.models.inspect.read_model, lambda *_: {"outcome": Soundness.SOUND, "reason": "on paper"}),
        (flows.evacuate._name, lambda: "paper"),
        (announce_containment, _nothing),
        (publish, published),
        (tasks.runtime.step.StepRunner, PaperRunner),
        (layout.MEMORY, world.folder / "memory"),
        (launch_files.places_of, lambda _: launch_files.LaunchPlaces(world.folder / "etc", {})),
        (launch_files.on_terminal, lambda process: process.terminal),
        (Thread, _InlineThread),
        (visible, _VISIBLE),
        (tasks.host.file_lock.taker, _taker),
    )
    _boot_again(host.boot)
    kin: Any = tasks.host.descent.DescendantTracker
    kin.__enter__, kin.__exit__ = (lambda this: host.know_kin(this)), _nothing  # noqa: PLW0108  bound to it, not to us
    state: Any = State
    state.result = result_of
    access: Any = StoreAccess
    access.evidence = property(lambda _: store)
    _tell_of_files(host, happens)


def _taker(path: Path) -> Process | None:
    """Return this process if it has the lock: no other run is ever at work."""
    with suppress(OSError), path.open("rb") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return _this_process()
    return None


def _adapters(host: SimHost) -> Adapters:
    none_named = SimpleNamespace(list_states=lambda *_: (), set_paused=lambda *_, **__: ())
    return Adapters(cast("Any", host), cast("Any", none_named), cast("Any", MemoryEngine))


def _tell_of_files(host: SimHost, happens: Callable[[str], object]) -> None:
    files, log = cast("Any", tasks.system.files.atomic_files), tasks.custody.incident.log
    beside, append = files._beside, log._write_whole

    @contextmanager
    def told(path: Path, *rest: Any) -> Iterator[Any]:
        if host.busy:  # a guard's
            with beside(path, *rest) as file:
                yield file
            return
        happens(f"write {path.name}")
        with beside(path, *rest) as file:
            yield file
        happens(f"written {path.name}")

    def appended(descriptor: int, line: bytes) -> None:
        about = json.loads(line)
        if about["action"] == "step started" and about["step_id"] in _CHECKS:
            host.checked_at = host.clock.now
        happens(f"log {about['action']} {about.get('step_id') or about['object']}")
        append(descriptor, line)

    files._beside, log._write_whole = told, appended


def discover() -> dict[str, Collector]:
    """The collectors that read files of the root, and a look at the frozen."""
    look = Collector("tree", "What ran?", 10, (FunctionOutput(_tree, "tree.txt"),), while_frozen=True, needed=True)
    return {"tree": look, **{name: each for name, each in _DISCOVER().items() if name in _KEPT}}


def _tree(target: Target) -> bytes:
    return json.dumps(target.frozen).encode()


def attempt(
    what: Collector, target: Target, staging: Path, *, fails: frozenset[str], cancelled: object
) -> tuple[list[Any], Loss | None]:
    """Collect in this process, as `tasks.collectors.__main__` does in its own."""
    del cancelled
    if what.name in fails:
        return [], Loss(what.name, Outcome.TIMED_OUT, "not done after 900 s")
    lines: list[Any] = [{"room": told}] if (told := estimate(what, target, staging)) else []
    kinds = {StoredFile: "file", Loss: "loss"}
    for item in search_items(take(what.sources, target, staging), target, staging, all_of_them=False):
        row = {name: getattr(item, name) for name in type(item).__dataclass_fields__}
        lines.append({kinds.get(type(item), "search"): row})
    return cast("list[Any]", json.loads(json.dumps(lines, default=vars))), None
