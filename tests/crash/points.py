"""Run an act on the paper host, and at points of it let the machine stop: what opens its folder then finds no lie."""

import os
import pickle
import re
import shutil
import struct
import sys
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from signal import Signals
from typing import Any

import tasks.host.process.table
from tasks.audit.verify import verify_incident
from tasks.cli.status import look
from tasks.custody.audit.finding import Severity
from tasks.custody.containment.identity import Identity
from tasks.incident.last_word import THAWED, last_word
from tasks.incident.layout import RECOVERED
from tasks.system.files.atomic_files import read_private, rows_of, sync_folder
from tests.crash.disk import Disk, Image, rebuild
from tests.simulation import run as running
from tests.simulation.oracle import _stored, false_words, homes, left_here, named, seen_alive
from tests.simulation.run import End, Order, ran
from tests.simulation.simulate import person_acts
from tests.simulation.world import KINDS, Life, SimHost, World

_CARRIED_ON = 7
_WRONG = {False: (Severity.BROKEN,), True: (Severity.BROKEN, Severity.OPEN)}
_FOR_GOOD = ExitStack()
_KNOWN = re.compile(r"it is not signed|the record has no closing|record \d+ is missing: its run died")
"""What an audit says of a run that died, and of one without a key."""
_CLAIMS_NOTHING = "Whether the workload is contained"
"""In the message of a recovery that failed."""
_LENGTH = struct.Struct("!Q")


@dataclass
class Point:
    """The moment after an event: what the machine has, and what of its folder a power loss leaves."""

    event: str
    host: SimHost
    store: Any
    lost: Image
    kept: Image


@dataclass
class Told:
    """What was seen: the events, how the act ended, and what was false after a crash, each with its point."""

    events: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)
    end: End = field(default_factory=lambda: End("None"))


Act = Callable[[running._Running], End]


def _acting(act: Act | None, boot: int, then: Callable[[World], object]) -> Callable[[], None]:
    def change() -> None:
        if boot:
            _boot(boot)
        module: Any = running
        put = module.put_on_paper

        def on_paper(world: World, *rest: Any) -> None:
            put(world, *rest)
            then(world)

        module.put_on_paper = on_paper
        if act:
            module._Running._end = act

    return change


def done(world: World, act: Act | Order, boot: int = 0, then: Callable[[World], object] = id) -> End:
    """Do it, in that boot of its host; an order is the simulation's. `then` is called when it begins."""
    order, ours = (act, None) if isinstance(act, Order) else (Order(), act)
    return ran(world, order, _acting(ours, boot, then))


def _boot(number: int) -> None:
    """Be in another boot: what is named after it has another name."""
    before, now = tasks.host.process.table.boot_id(), f"{number:08x}-0000-4000-8000-000000000000"
    for name, module in [*sys.modules.items()]:
        if name.split(".")[0] in {"tasks", "flows", "blocks"}:
            for attribute, value in [*vars(module).items()]:
                if isinstance(value, str) and before[:8] in value:
                    setattr(module, attribute, value.replace(before[:8], now[:8]))
                elif getattr(value, "__name__", "") == "boot_id":
                    setattr(module, attribute, lambda: now)


def crashed(world: World, act: Act | Order, chosen: Callable[[int, str], bool]) -> Told:
    """Do it, and at the chosen ones of its points, by number and event, look what a crash would leave."""
    told, seen = Told(), set[str]()
    there, back = os.pipe(), os.pipe()
    helper = os.fork()
    if not helper:
        with suppress(BaseException):
            os.close(there[0])
            os.close(back[1])
            running._SECONDS = 1e6  # for as long as others look at its points
            end = done(world, act, then=lambda world: _watch(world, there[1], back[0], chosen))
            _send(there[1], (world.host, world.store, end))
        os._exit(0)
    os.close(there[1])
    os.close(back[0])
    with os.fdopen(there[0], "rb") as points, os.fdopen(back[1], "wb", buffering=0) as answer:
        for item in iter(lambda: _next(points), None):
            if isinstance(item, Point):
                told.false += [f"after {item.event}, {each}" for each in _after(world, item, act, seen)]
                answer.write(b".")
            elif isinstance(item, list):
                told.events = item
            else:
                world.host, world.store, told.end = item
    os.waitpid(helper, 0)
    return told


def _send(pipe: int, item: object) -> None:
    data = pickle.dumps(item)
    left = memoryview(_LENGTH.pack(len(data)) + data)
    while left:
        left = left[os.write(pipe, left) :]


def _next(pipe: Any) -> Any:
    head = pipe.read(_LENGTH.size)
    return pickle.loads(pipe.read(*_LENGTH.unpack(head))) if head else None  # noqa: S301  our own child's


def _watch(world: World, there: int, back: int, chosen: Callable[[int, str], bool]) -> None:
    """Tell the points of this process's run, and wait at each chosen one."""
    events = list[str]()

    def happens(what: str) -> None:
        events.append(what)
        if chosen(len(events), what):
            _send(there, Point(f"{len(events)}: {what}", world.host, world.store, disk.lost(), disk.kept()))
            os.read(back, 1)

    kind: Any = SimHost
    run_kind: Any = running._Running
    disk, signal, hold, leave = Disk(world.folder / "evidence", happens), kind.signal, kind.hold, run_kind.leave
    world.folder.joinpath("evidence").mkdir(exist_ok=True)

    def signalled(host: SimHost, identity: Identity, number: Signals) -> None:
        signal(host, identity, number)
        if not host.busy:
            happens(f"{number.name} {identity.pid}")

    def held(host: SimHost, orders: Any) -> Identity:
        guard: Identity = hold(host, orders)
        sync_folder(Path(orders.marker).parent)  # as the host's own does
        return guard

    kind.signal, kind.hold = signalled, held
    _FOR_GOOD.enter_context(disk.watched())

    def leaving(run: running._Running, end: End) -> None:
        _send(there, events)
        leave(run, end)

    run_kind.leave = leaving


def _after(world: World, point: Point, act: Act | Order, seen: set[str]) -> Iterator[str]:
    """Open what is left of the folder, in each way in which the machine may stop; what was `seen` is not looked at."""
    for way in ("power loss", "power loss, all kept", "kill"):
        host, store = pickle.loads(pickle.dumps((point.host, point.store)))  # noqa: S301  a copy
        other = World(world.folder, host, store, world.block, world.number, world.stood, dict(world.sealed))
        image = point.lost if way == "power loss" else point.kept
        contents = [(name, each.content) for name, each in image.items()]
        state = sha256(pickle.dumps((way == "kill" and host.processes, store.keys(), contents))).hexdigest()
        if state not in seen:
            seen.add(state)
            with _instead(world.folder / "evidence", image):
                yield from (f"{way}: {each}" for each in carried_on(other, act, 0 if way == "kill" else 0xB007))


@contextmanager
def _instead(folder: Path, image: Image) -> Iterator[None]:
    """Put an image in the place of a folder, for the block."""
    aside = folder.with_name("living")
    folder.rename(aside)
    try:
        rebuild(folder, image)
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)


def _reboot(host: SimHost) -> None:
    host.ended |= {each.identity: host.lives[pid] for pid, each in host.processes.items() if pid != 1}
    host.processes, host.lives = {1: host.processes[1]}, {1: Life()}
    host.locked, host.keeper, host.started_guard = [], None, None


def carried_on(world: World, act: Act | Order, boot: int) -> Iterator[str]:
    """Look at it, try the act again, carry on until it is Verified, and look again; what was not so, each in a line."""
    if boot:
        _reboot(world.host)
        KINDS["training"](world.host, 1)  # as cron does at a boot
    yield from _status(world, boot)
    yield from _audit(world, finished=False)
    for each in (act, *[Order()] * _CARRIED_ON):
        end = done(world, each, boot)
        end.message = end.message.replace(_CLAIMS_NOTHING, "")
        if false := [told for told in false_words(world, end) if not _torn(world, told)]:
            yield from (f"{end.name}: {told}" for told in false)
            return
        if each is not act and end.name == "Verified":
            break
        person_acts(world, end.message)
    else:
        yield f"it never ended Verified: {end.name}: {end.message[:600]}"
        return
    here = {told.split("/")[1]: told for told in left_here(world)}
    over = {home.name for home in homes(world) if last_word(home) == THAWED or rows_of(home / RECOVERED, read_private)}
    yield from (here[name] for name in here.keys() - over)  # what was let go or recovered is sent by its postmortem
    yield from _status(world, boot)
    yield from _audit(world, finished=True, but=here)


def _torn(world: World, told: str) -> bool:
    """Whether this is of a log whose last line was torn, and that nobody had to continue."""
    logs = [home / "custody.jsonl" for home in homes(world)]
    return "not a custody entry" in told and any(not log.read_bytes().endswith(b"\n") for log in logs if log.exists())


def _status(world: World, boot: int) -> Iterator[str]:
    def act(run: running._Running) -> End:
        shown = look(run.world.workload(), run.world.host)
        return End(shown.verdict, "\n".join(shown.lines()), incident=shown.incident)

    end = done(world, act, boot)
    if end.trouble:
        yield f"status: {end.trouble[-1200:]}"
    elif "nothing of it runs" in end.message and (alive := seen_alive(world).keys() - named(end.message)):
        yield f"status says that nothing runs, and there lives {alive}"
    elif end.name == "VERIFIED":
        shown = End("Verified", incident=end.incident)
        yield from (f"status: {each}" for each in _stored(world, shown))


def _audit(world: World, *, finished: bool, but: Collection[str] = ()) -> Iterator[str]:
    there = sorted({key.split("/")[1] for key in world.store.keys("incidents/")} - {*but})
    for incident in there:
        try:
            found = verify_incident(world.store, incident, None, None, deep=True)
        except BaseException:  # noqa: BLE001  it is a finding
            yield f"audit: {traceback.format_exc()[-1200:]}"
            continue
        wrong = [each for each in found.findings if each.severity in _WRONG[finished] and not _KNOWN.match(each.what)]
        yield from (f"audit: {each.summary}" for each in wrong)
