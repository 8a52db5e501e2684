"""A host and its systemd that are only written down: processes that obey signals, units that obey systemctl."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals
from typing import Any, cast

from tasks.custody.containment.identity import Identity
from tasks.host.cgroup.group import ControlGroup
from tasks.host.host import LinuxHost
from tasks.host.listening import Listening
from tasks.host.process.handles import FileId, Handles
from tasks.host.process.process import Process
from tasks.host.unit.systemd import Systemd
from tests.support.places import beside, placed

FIRST = 50_000_000
"""Above every pid that a kernel gives: nothing of this machine is met."""
_STATES = {SIGSTOP: "T", SIGCONT: "S"}


def process(number: int, command: tuple[str, ...] = ("/bin/one",), parent: int = 1, **about: Any) -> Process:
    """One of user 0, whose pid is made of the number."""
    return replace(Process(Identity(FIRST + number, number), parent, "S", command, user=0), **about)


class PaperSystemd(Systemd):
    """Units by their properties. `told` is every verb with its unit, in order; `failing` are verbs that it refuses."""

    def __init__(self, **units: Mapping[str, str]) -> None:
        """Know these, by their names without `.service`."""
        self.units = {f"{name}.service": dict(about) for name, about in units.items()}
        self.told: list[tuple[str, str]] = []
        self.failing: set[str] = set()

    def tell(self, verb: str, *words: str) -> str:
        """A unit that is stopped or killed is down."""
        self.told.append((verb, words[-1]))
        if verb in self.failing:
            return f"{verb} failed"
        if verb in {"stop", "kill"} and words[-1] in self.units:
            self.units[words[-1]] |= {"ActiveState": "inactive", "SubState": "dead"}
        return ""

    def show(self, unit: str) -> Mapping[str, str]:
        """What is known of one."""
        return self.units.get(unit, {})

    def services(self) -> list[dict[str, str]]:
        """All of them."""
        return [{"Id": name, **about} for name, about in self.units.items()]

    def release(self, marker: Path) -> tuple[str, ...]:
        """None is kept down."""
        del marker
        return ()


class PaperGroup:
    """A control group of a host on paper. `refused` says of a pid why it may not be moved here."""

    def __init__(self, host: "PaperHost", path: str) -> None:
        """It is there when somebody makes it."""
        self.host, self.path, self.place = host, path, self
        self.there, self.is_frozen, self.obstacle = False, False, ""
        self.refused: dict[int, str] = {}

    def exists(self) -> bool:
        """Whether it was made."""
        return self.there

    def make(self) -> str:
        """Make it."""
        self.there = True
        return ""

    def add(self, pid: int) -> str:
        """Move one here."""
        if reason := self.refused.get(pid, ""):
            return reason
        self.host.processes[pid] = replace(self.host.processes[pid], cgroup=f"0::{self.path}\n")
        return ""

    def freeze(self) -> str:
        """Hold it."""
        self.is_frozen = True
        return ""

    def thaw(self) -> str:
        """Let it go."""
        self.is_frozen = False
        return ""

    def remove(self) -> str:
        """Remove it, if nobody is here."""
        if any(each.cgroup == f"0::{self.path}\n" for each in self.host.processes.values()):
            return f"{self.path}: Device or resource busy"
        self.there = False
        return ""


class PaperHost(LinuxHost):
    """Processes by their pids, beside a workload's root. `sent` is every signal with its pid, in order.

    `held` is what they have open, by their pids; a process that is not there holds nothing. `driver` is what a GPU's
    driver says.
    """

    def __init__(self, *processes: Process, root: str | PurePath = "/srv/nowhere") -> None:
        """Keep them."""
        super().__init__()
        self.root = root
        self.processes = {each.pid: each for each in processes}
        self.held: dict[int, Handles] = {}
        self.sent: list[tuple[int, Signals]] = []
        self.stands: Identity | None = None
        self.systemd = PaperSystemd()
        self.groups: dict[str, PaperGroup] | None = None
        self.driver: tuple[str, str] | None = None

    def compute_apps(self) -> tuple[str, str] | None:
        """What it says, whoever lives."""
        return self.driver

    def snapshot(self) -> dict[int, Process]:
        """All of them."""
        return placed(self.processes, self.root)

    def get_process(self, identity: Identity) -> Process | None:
        """One of them."""
        found = self.processes.get(identity.pid)
        return beside(found, self.root) if found and found.identity == identity else None

    def handles(
        self, processes: Iterable[Process], models: Collection[FileId] = (), accounts: Collection[int] = ()
    ) -> dict[Identity, Handles]:
        """What they hold, of those that live."""
        del models, accounts
        living = [each.identity for each in processes if self.get_process(each.identity)]
        return {each: self.held.get(each.pid, Handles(trusted=True)) for each in living}

    def find_holders(self) -> dict[FileId, tuple[tuple[Process, ...], ...]]:
        """There are no files on paper."""
        return {}

    def arrivals(self, last: int) -> tuple[int, list[Process]]:
        """Nobody is new."""
        return last, []

    def births(self, last: int) -> tuple[int, list[Process]]:
        """The same."""
        return self.arrivals(last)

    def signal(self, identity: Identity, number: Signals) -> None:
        """Each obeys at once."""
        if not (found := self.get_process(identity)):
            raise ProcessLookupError
        self.sent.append((identity.pid, number))
        if number in {SIGKILL, SIGTERM}:
            del self.processes[identity.pid]
        else:
            self.processes[identity.pid] = replace(self.processes[identity.pid], state=_STATES.get(number, found.state))

    def wait_gone(self, identities: Iterable[Identity], seconds: float) -> frozenset[Identity]:
        """Nobody ends by waiting."""
        del seconds
        return frozenset(each for each in identities if self.get_process(each))

    def listen(self, root: PurePath, ours: Iterable[str], beside: Iterable[str]) -> Listening:
        """There are no files on paper, and so nothing to hear."""
        del root, ours, beside
        return cast("Listening", None)

    def guard(self, marker: Path) -> Identity | None:
        """The one that stands."""
        del marker
        return self.stands

    def group(self, path: str) -> ControlGroup | None:
        """There are none, unless the test gives some."""
        if self.groups is None:
            return None
        return cast("ControlGroup", self.groups.setdefault(path, PaperGroup(self, path)))
