"""A host and a clock that are only written down, and what is true of them, whatever a run is told."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from signal import SIGCONT, SIGKILL, SIGSTOP, Signals
from typing import Any, cast

from blocks.workload import Workload
from tasks.custody.containment.identity import Identity
from tasks.guard.__main__ import Guard
from tasks.host.detached_process import GUARD
from tasks.host.guard_config import GuardConfig
from tasks.host.host import LinuxHost
from tasks.host.listening import Listening
from tasks.host.process.handles import Handles
from tasks.host.process.process import Listener, Process
from tasks.host.silence import Change, Heard
from tasks.system.files.atomic_files import write_marker
from tests.simulation.store import TruthStore
from tests.support.paper_clock import PaperClock
from tests.support.paper_host import FIRST, PaperHost, PaperSystemd

TICKS = 100
"""Of a second, in which the start of a process is told."""
KINDS: dict[str, "Callable[[SimHost, int], Process]"] = {}
"""Who may be born, by name: filled by the cast."""
_UP = {"ActiveState": "active", "SubState": "running"}
_WAITS = {"ActiveState": "activating", "SubState": "auto-restart"}
_TURN_SECONDS = 0.25
"""The longest turn of the world, and how often a guard looks."""


@dataclass
class Life:
    """What a process on paper does, and what it is, whatever it looks like.

    `heeds` are the seconds until it ends after a gentle signal, None if it never does; `forks` those between two
    children, `writes` between two lines that it writes below the root. `brings` is what it starts again, its `charge`,
    `delay` seconds after it has `missed` it. `sent` are the signals of ours that may have ended it.
    """

    workload: bool = False
    heeds: float | None = 0.5
    forks: float = 0
    writes: float = 0
    brings: str = ""
    delay: float = 1.0
    unit: str = ""
    ends_at: float | None = None
    charge: Identity | None = None
    missed: float | None = None
    due: float = 0.0
    sent: list[str] = field(default_factory=list)


class SimClock(PaperClock):
    """Time passes in short turns, in which the world goes on."""

    def __init__(self, began: float) -> None:
        super().__init__(0.0005)
        self.epoch = began - self.now
        self.turn: Callable[[], object] = int

    def time(self) -> float:
        return self.epoch + self.monotonic()

    def ticks(self) -> int:
        return int(self.monotonic() * TICKS)

    def sleep(self, seconds: float) -> None:
        until = self.now + max(seconds, self.step)
        while self.now < until:
            self.now = min(until, self.now + _TURN_SECONDS)
            self.turn()


class _Ear:
    """The witnesses of a run, in place of `Listening`."""

    def __init__(self, clock: SimClock) -> None:
        self.clock, self.armed, self.at = clock, False, datetime.max.replace(tzinfo=UTC)
        self.logged, self.events = set[tuple[str, int]](), list[Change]()

    def arm(self, *, settles: bool = True) -> None:
        del settles
        self.armed, self.at = True, min(self.at, datetime.fromtimestamp(self.clock.time(), UTC))

    def pause(self) -> None:
        """What is launched in between is nobody's on paper."""

    def hear(self, *, compare: bool = True) -> Heard:
        del compare
        return Heard(self.at, tuple(self.events))

    def end(self) -> None:
        self.armed = False


class _Systemd(PaperSystemd):
    """Units whose processes end with them."""

    def __init__(self, host: "SimHost") -> None:
        super().__init__()
        self.host = host

    def tell(self, verb: str, *words: str) -> str:
        self.host.happens(f"systemctl {verb} {words[-1]}")
        told = super().tell(verb, *words)
        if not told and verb in {"stop", "kill"}:
            self.host.end_unit(words[-1])
        return told


class SimHost(PaperHost):
    """Processes that live while time passes. `lives` says what they do and are; `ended` what has become of the dead.

    `happens` is called with each act of a run, and may end the run there. `later` are those who will be born. `locked`
    has the lock first, then those who wait for it; `checked_at` is when the run's last check began, `touched` the
    signals that a process got which is nothing to the workload.
    """

    def __init__(self, root: Path, clock: SimClock) -> None:
        first = Process(Identity(1, 0), 0, "S", ("/sbin/init",), executable="/usr/lib/systemd/systemd", user=0)
        super().__init__(first, root=root)
        self.clock = clock
        self.systemd: _Systemd = _Systemd(self)
        clock.turn = self.turn
        self.lives, self.ended = {1: Life()}, dict[Identity, Life]()
        self.later, self.locked, self.touched = list[tuple[float, str]](), list[Identity](), list[str]()
        self.keeper: Guard | None = None
        self.ear: _Ear | None = None
        self.kin: Any = None
        self.happens: Callable[[str], object] = len
        self.checked_at, self.number, self.boot, self.busy = 0.0, 0, 0, False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "happens": len, "kin": None, "ear": None, "busy": False}

    def born(self, life: Mapping[str, Any], command: Sequence[str], parent: int = 1, **about: Any) -> Process:
        """Start a process."""
        self.number += 1
        pid = FIRST + self.number
        usual = {"state": "S", "executable": "/usr/bin/python3.11", "user": 0, "group": pid, "session": pid}
        made = Process(Identity(pid, self.clock.ticks()), parent, command=tuple(command), **{**usual, **about})
        self.processes[pid], self.lives[pid] = made, Life(**life)
        self.lives[pid].due = self.clock.now + (self.lives[pid].forks or self.lives[pid].writes)
        return made

    def runs(self, pid: int) -> bool:
        """Whether a process computes now."""
        return pid in self.processes and self.processes[pid].state == "S"

    def workload(self) -> dict[int, Process]:
        return {pid: each for pid, each in self.processes.items() if self.lives[pid].workload}

    def end(self, pid: int, why: str = "") -> None:
        """End one; its children are the first process's."""
        process, life = self.processes.pop(pid), self.lives.pop(pid)
        life.sent += [why] if why else []
        self.ended[process.identity] = life
        self.locked = [who for who in self.locked if who.pid != pid]
        self.processes |= {k: replace(each, parent=1) for k, each in self.processes.items() if each.parent == pid}

    def end_unit(self, unit: str, why: str = "systemd") -> None:
        for pid in [pid for pid, life in self.lives.items() if life.unit == unit]:
            self.end(pid, why)

    def reboot(self) -> None:
        """End all; systemd starts again what nobody has stopped. Pids and times go on, so that none is met twice."""
        for pid in self.processes.keys() - {1}:
            self.end(pid)
        self.keeper, self.boot = None, self.boot + 1

    def turn(self) -> None:
        """Let each do what it is about to; the guard looks last."""
        if self.busy:
            return
        self.busy = True
        for pid in [*self.lives]:
            if self.runs(pid):
                self._live(pid, self.lives[pid], self.processes[pid])
        for unit, about in self.systemd.units.items():
            if about["ActiveState"] != "inactive" and self._missed(about, [each.unit for each in self.lives.values()]):
                KINDS[unit](self, 1)
        for row in [row for row in self.later if row[0] <= self.clock.now]:
            self.later.remove(row)
            KINDS[row[1]](self, 1)
        if self.kin:
            self.kin.add(self.processes)
        if self.keeper and self.get_process(self.keeper.me):
            self.keeper.look()
            if self.keeper.relieved:
                self.end(self.keeper.me.pid, "relieved")
        self.busy = False

    def _missed(self, about: dict[str, str], there: list[str]) -> bool:
        since = float(about["missed"] or self.clock.now)
        about |= _UP | {"missed": ""} if about["Id"] in there else _WAITS | {"missed": str(since)}
        return bool(about["missed"]) and self.clock.now - since >= float(about["RestartSec"])

    def _live(self, pid: int, life: Life, process: Process) -> None:
        now = self.clock.now
        if life.ends_at is not None and now >= life.ends_at:
            self.end(pid)
        elif (life.forks or life.writes) and now >= life.due:
            life.due = now + (life.forks or life.writes)
            if life.forks:
                about = {"cwd": process.cwd, "group": process.group, "session": process.session}
                self.born({"workload": life.workload}, process.command, pid, **about)
            elif self.ear and self.ear.armed:
                at = datetime.fromtimestamp(self.clock.time(), UTC)
                self.ear.events.append(Change("logs/train.log", at, pid, (process,)))
        elif life.brings and life.charge and not self.get_process(life.charge):
            life.missed = life.missed or now
            if now - life.missed >= life.delay:
                life.charge, life.missed = KINDS[life.brings](self, pid).identity, None

    def know_kin(self, kin: Any) -> Any:
        """Tell it of whoever is born, as its own thread would."""
        self.kin = kin
        return kin

    def snapshot(self) -> dict[int, Process]:
        self.clock.monotonic()
        self.turn()
        return super().snapshot()

    def arrivals(self, last: int) -> tuple[int, list[Process]]:
        new = [each for each in super().snapshot().values() if each.pid > last > 0]
        return FIRST + self.number, sorted(new, key=lambda each: -each.pid)

    def handles(self, processes: Iterable[Process], models: Any = (), accounts: Any = ()) -> dict[Identity, Handles]:
        del models, accounts
        living, usual = (
            [each for each in processes if self.get_process(each.identity)],
            Handles(trusted=True, resolved=True),
        )
        return {each.identity: self.held.get(each.pid, usual) for each in living}

    def signal(self, identity: Identity, number: Signals) -> None:
        """Stop, go on, or end in one's own time."""
        if not self.get_process(identity):
            raise ProcessLookupError
        if not self.busy:
            self.happens(f"{number.name} {identity.pid}")
        pid, life, process = identity.pid, self.lives[identity.pid], self.processes[identity.pid]
        if not life.workload and not life.brings and process.name != "guard":
            self.touched.append(f"{number.name} to {' '.join(process.command)}")
        if number is SIGKILL:
            self.end(pid, number.name)
        elif number in {SIGSTOP, SIGCONT}:
            self.processes[pid] = replace(process, state="T" if number is SIGSTOP else "S")
        elif process.masks.heeds(number):
            life.sent.append(number.name)
        if life.sent and life.heeds is not None and life.ends_at is None and self.runs(pid):
            life.ends_at = self.clock.now + life.heeds

    def wait_gone(self, identities: Iterable[Identity], seconds: float) -> frozenset[Identity]:
        waiting, until = [*identities], self.clock.now + seconds
        while (left := frozenset(who for who in waiting if self.get_process(who))) and self.clock.now < until:
            self.clock.sleep(min(0.05, until - self.clock.now))
        return left

    def owners(self, port: int) -> list[Listener]:
        return [Listener(each.user, each) for each in self.snapshot().values() if port in each.ports]

    def ports(self, identities: Iterable[Identity]) -> frozenset[int]:
        found = (self.get_process(who) for who in identities)
        return frozenset(port for each in found if each for port in each.ports)

    def listen(self, root: PurePath, ours: Iterable[str], beside: Iterable[str]) -> Listening:
        del root, ours, beside
        self.ear = _Ear(self.clock)
        return cast("Listening", self.ear)

    def hold(self, orders: GuardConfig) -> Identity:
        """Start a guard, the product's own, to which the standing one hands its lock."""
        self.happens("start a guard")
        standing = self.guard(Path(orders.marker))
        command = (sys.executable, "-S", "-P", "-m", GUARD, "3", orders.marker)
        made = self.born({"heeds": 0.0}, command, executable=sys.executable, user=os.geteuid(), name="guard")
        self.locked.insert(self.locked.index(standing) if standing in self.locked else len(self.locked), made.identity)
        self.keeper = Guard(orders, -1)
        self.keeper.host, self.keeper.me, self.started_guard = self, made.identity, made.identity
        with suppress(OSError):
            write_marker(Path(orders.marker), {**orders.row(), **asdict(made.identity)})
        return made.identity

    def guard(self, marker: Path) -> Identity | None:
        return LinuxHost.guard(self, marker)

    def has_lock(self, identity: Identity, path: Path) -> bool:
        del path
        return self.locked[:1] == [identity]

    def refuses(self, path: Path) -> bool:
        del path
        return bool(self.locked)

    def holder(self, path: Path) -> Process | None:
        del path
        return self.get_process(self.locked[0]) if self.locked else None

    def release(self, marker: Path) -> bool:
        self.happens("release the lock")
        if who := self.guard(marker):
            self.end(who.pid, "released")
        existed = marker.exists()
        marker.unlink(missing_ok=True)
        return existed


def paper_datetime(clock: SimClock) -> type[datetime]:
    """A class to take the place of `datetime` in a module, whose `now` is the clock's."""

    class Meta(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, datetime)

    class Paper(datetime, metaclass=Meta):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.fromtimestamp(clock.time(), tz)

    return Paper


@dataclass
class World:
    """All that outlives a run: the host, the store, and the folder on its disk.

    `stood` are processes that a person had stopped, `sealed` digests of manifests, and `acquired` what collectors have
    brought for each incident, as far as that was seen.
    """

    folder: Path
    host: SimHost
    store: TruthStore
    block: dict[str, Any]
    number: int = 0
    stood: frozenset[int] = frozenset()
    sealed: dict[str, str] = field(default_factory=dict)
    acquired: dict[str, set[str]] = field(default_factory=dict)

    def workload(self) -> Workload:
        return Workload(**self.block)
