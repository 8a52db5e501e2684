"""§7: start the API as a process of this host, tell it apart from other processes, and end it."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from posixpath import commonpath
from signal import SIGKILL
from typing import Any, Final

import psutil

from blocks.workload import Workload
from tasks.containment.containers.pause import keeps_api
from tasks.containment.members import Membership
from tasks.custody.containment.identity import NOBODY, Identity
from tasks.custody.errors import Refused
from tasks.custody.evidence.pattern import fits, literal_folder, of_root
from tasks.custody.evidence.redact import command_line, redact_command
from tasks.custody.incident.description import leads_to
from tasks.custody.incident.verdict import why_not_recover
from tasks.custody.models.contract import meant
from tasks.custody.store.manifest import canonical, digest_bytes
from tasks.custody.visible import visible
from tasks.evidence.other_starts import find_beside, pair
from tasks.evidence.process_start import differing, differing_beside, first_of, former, read_starts
from tasks.host.cgroup.ownership import unit_of
from tasks.host.detached_process import exit_code, start_program
from tasks.host.host import lives
from tasks.host.process.membership import Member
from tasks.host.process.process import Process, family, process_line
from tasks.incident.current import last_verdict
from tasks.incident.directory import homes
from tasks.incident.layout import STARTS
from tasks.recovery.api_client import NotRecovered, failure
from tasks.recovery.models_folder import HostFolder
from tasks.recovery.outside_files import find_named
from tasks.recovery.own_house import why_not_roots
from tasks.runtime.context import RunContext
from tasks.runtime.frozen import frozen_before
from tasks.runtime.state import IncidentState
from tasks.silence.events import call
from tasks.system.accounts import clean_environment
from tasks.system.declarations import account_for
from tasks.system.files.atomic_files import read_private, rows_of
from tasks.system.polling import poll_until

UNSEEN: Final = "no API ran at the freeze, and no incident of this host has seen one"
_GONE_SECONDS: Final = 10.0
_KILL_ROUNDS: Final = 10
_COMING_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.2
LINE: Final = 100
_SUBREAPER: Final = 36  # prctl(2): orphans among our descendants become our children


class ProcessApi:
    """The API as a process of the host."""

    container = ""

    def __init__(self, context: RunContext, *, is_asked: bool = False) -> None:
        """Keep the context; starts nothing. `is_asked` says that a person wants the block's start."""
        self.context, self.host, self._is_asked = context, context.adapters.host, is_asked
        self.log = str(context.workload.root)
        self._started: Identity | None = None
        self._own_children: set[Identity] | None = None

    @property
    def identity(self) -> Identity:
        """Identity of the started process."""
        return self._started or NOBODY

    def again(self) -> bool:
        """Take a live process that an earlier recovery started, in no container or unit; False if there is none."""
        earlier = filter(None, map(self.host.get_process, self.context.state.recovered.read()))
        units = self.context.workload.units
        own = (each for each in earlier if each.alive and not each.container and unit_of(each.cgroup) not in units)
        self._started = next((each.identity for each in own), None)
        return self._started is not None

    @cached_property
    def was(self) -> Mapping[str, Any]:
        """How the process ran that is to come back; empty if that is unknown, or was another account's."""
        return self._former(self._starts)

    def _former(self, starts: list[dict[str, Any]]) -> Mapping[str, Any]:
        with suppress(NotRecovered):
            return former(starts, self._user, self.context.workload)
        return {}

    @property
    def _starts(self) -> list[dict[str, Any]]:
        return rows_of(self.context.directory.path / STARTS, read_private)

    def find_doubt(self) -> str:
        """Return by name what the started process does not have as it was kept; empty if it has all of it.

        Its nice value is given back first: what its own start adds would count twice. Where this incident has not kept
        how it ran, that is the doubt, unless a person has asked for the block's start of one that nobody has seen.
        """
        block, kept, started = self.context.workload, self._starts, self.context.state.started_by.read()
        if self._own_children is None and started and started != self._block_start:
            how = f"kill {self.identity.pid}, then recover again 起動設定の変更: 停止後に再度 recover"
            return f"that it runs as it ran: the block's start is not the one by which it was started ({how})"
        if not kept:
            return self._doubt_unkept()
        was = self.was or first_of(kept, block)
        beside = find_beside(kept, was)
        now = self._read_now([was, *beside])
        if self._give_back_nice(was, kept, now):
            now = self._read_now([was, *beside])
        if not (runs := self._runs_as(was, now)):
            return "that it runs as it ran: what it runs with could not be read"
        names = ", ".join(differing(was, runs, block, is_given=bool(self.was)))
        lines, pairs = [f"by: {names}"] if names else [], pair(beside, (each for each in now if each is not runs))
        for start, there in pairs:
            command = command_line(start["command"], LINE, start["folder"])
            others = ", ".join(differing_beside(start, there, block)) if there else ""
            lines += [f"{command} beside it, by: {others}"] if others else []
            lines += [] if there else [f"{command} beside it is missing 復旧後に不在"]
        lines += [f"{line} beside it, which could not be read" for line in self._find_unread(kept, was)]
        self.context.state.unlike.write([each.identity for each in self._family()] if lines else [])
        if not lines:
            return ""
        nicer = ((start["nice"], there) for start, there in [(was, runs), *pairs] if there)
        cures = [f"renice {nice} -p $(ls /proc/{there['pid']}/task)" for nice, there in nicer if nice != there["nice"]]
        cure = f"as root: {'; '.join(cures)}" if cures else "give it that by hand"
        other = "or end it and start it by hand as it ran, with no recovery after that"
        how = f"{cure}, then recover again; {other}; 手動で整えて再度 recover"
        return f"that it runs as it ran, {'; '.join(lines)} 元の実行条件と異なる ({how})"

    @property
    def _block_start(self) -> str:
        """Digest of what the block says of the start: of one that runs, only the start that it had is compared."""
        block = self.context.workload
        return digest_bytes(canonical([block.api_command, block.api_environment, block.user]))

    def _runs_as(self, was: Mapping[str, Any], now: list[dict[str, Any]]) -> Mapping[str, Any]:
        ((_, same),) = pair([was], now)
        return same or self._former(now) or first_of(now, self.context.workload)

    def _give_back_nice(
        self, was: Mapping[str, Any], kept: Sequence[Mapping[str, Any]], now: list[dict[str, Any]]
    ) -> bool:
        """Give what was started the nice values that were kept, as far as is allowed; return whether any differed.

        What was not kept is as much nicer than what it descends from as its start makes it.
        """
        runs = self._runs_as(was, now)
        others = pair([each for each in kept if each is not was], (each for each in now if each is not runs))
        own, more = self._family(), dict[int, int]()
        for start, there in [(was, runs), *others]:
            if there and there["pid"] in {each.pid for each in own}:
                more[there["pid"]] = there["nice"] - start["nice"]
        parents = {each.pid: each.parent for each in own}
        for each in own:
            above = each.pid
            while above not in more and above in parents:
                above = parents[above]
            if change := more.get(above, 0):
                _add_nice(each.pid, -change)
        return any(more.values())

    def _read_now(self, starts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return how the API's processes run now. Of several starts each has a moment to come."""
        now, members = list[dict[str, Any]](), Membership(self.context)

        def is_whole() -> bool:
            nonlocal now
            others = members.members(self.host.snapshot()) if len(starts) > 1 else {}
            family = {each.identity: Member("api", "started") for each in self._family()}
            now = read_starts({**others, **family})
            return len(starts) == 1 or all(there for _, there in pair(starts, now))

        poll_until(is_whole, _COMING_SECONDS, _POLL_SECONDS, self.context.cancelled)
        return now

    def _find_unread(self, kept: Sequence[Mapping[str, Any]], was: Mapping[str, Any]) -> list[str]:
        """Return what was frozen as an API of its own, and of which nothing could be kept."""
        frozen = [each for each in frozen_before(self.context.state) if each.role == "api"]
        above = {each.identity: {source.identity for source in each.lineage} for each in frozen}
        known = {each.get("pid") for each in kept}
        lines = {command_line(each["command"], folder=each["folder"]) for each in kept}
        lines |= {each.command for each in frozen if each.identity.pid in known}
        starters = {source for each, line in above.items() if each.pid == was.get("pid") for source in line}
        own = (each for each in frozen if each.frozen_at and not above[each.identity] & above.keys())
        return [each.command[:LINE] for each in own if each.command not in lines and each.identity not in starters]

    def _doubt_unkept(self) -> str:
        before, why_not = find_kept_before(self.context.workload, self.context.directory.path)
        if any(process.role == "api" for process in frozen_before(self.context.state)):
            why = "how it ran was not read"
        elif before and not why_not:
            kill = f"kill {self.identity.pid}, then " if self._started else ""
            why = f"{kill}`recover --incident {before}`, which has kept how it ran 以前の記録から復旧"
        elif before:
            why = f"{before} has kept how it ran, and no recovery starts from it: {why_not}"
        elif self._is_asked:
            return ""
        else:
            why = f"{UNSEEN}; if these are right, `recover --as process` 正しければ --as process"
        return f"that it runs as it ran: environment, account and limits are the block's: {why}"

    @property
    def _user(self) -> int:
        return api_user(self.context.workload, self.context.state, self._starts)

    @property
    def words(self) -> Iterable[str]:
        """Command and environment of the API as the block names them: what it ran with is the account's own word."""
        block = self.context.workload
        return [*block.api_command, *map(self.meant, block.api_environment.values())]

    def find_outside(self) -> set[str]:
        """Return the files outside the root that the API's start names, as the block says it or as it was kept."""
        block, found = self.context.workload, set[str]()
        for each in [{}, *self._starts]:
            words = [*each.get("command", block.api_command), *each.get("variables", block.api_environment).values()]
            found |= find_named(words, Path(each.get("folder", block.root)), block.root)
        return found

    def meant(self, name: str) -> str:
        """Return the one file that a relative name in the environment may mean, where the API works or models lie."""
        block = self.context.workload
        worked = [folder] if (folder := self.was.get("folder")) and self.was["command"] == block.api_command else []
        folders = ["", *worked, *map(literal_folder, of_root(block.models))]
        return meant(name, (str(block.root / each) for each in folders), os.path.isfile)

    @property
    def folder(self) -> HostFolder:
        """The folder that contains all models matched by the block's patterns, such as models/."""
        block = self.context.workload
        models = commonpath([literal_folder(each) for each in of_root(block.models)] or ["models"])
        formats = tuple(block.model_formats)
        return HostFolder(block.root, block.root / models, tuple(block.models), tuple(self.words), formats)

    def prepare(self) -> None:
        """Raise NotRecovered if the block's command may not run here as the API's user."""
        _ = self._user

    def start(self) -> None:
        """Start the API as its former user and as it ran, in a scope or session of its own.

        The block's command and variables win over what was; the former folder is that of the former command alone.
        Until it is kept or ended, what it starts and leaves becomes our child: a failure ends that too.
        """
        block, user = self.context.workload, self._user
        variables = self.was.get("variables") or clean_environment(user)
        fields = {"command": block.api_command, "user": user, "root": block.root, "log": new_log(block)}
        orders = {**self.was, **fields, "environment": variables | block.api_environment}
        if self.was.get("command") != block.api_command:
            orders["folder"] = block.root
        self._adopt(wanted=True)
        try:
            self._started, log = start_program(orders, self.context.directory.path / "api-restart.log")
        except OSError as error:
            raise failure("the API to start", str(error)) from error
        self.log, command = visible(log), redact_command(block.api_command, str(block.root))
        self.context.log.write("restarted", str(self.identity.pid), command=command, user=user, output=self.log)

    def _adopt(self, *, wanted: bool) -> None:
        """Have orphans of what is started become our children, or no more. Those that we have are none of them."""
        ours = (each.identity for each in self.host.snapshot().values() if each.parent == os.getpid())
        self._own_children = {*ours} if wanted else None
        with suppress(OSError):  # such a kernel leaves orphans to the host's first process
            call("prctl", _SUBREAPER, int(wanted), 0, 0, 0)

    def lives(self) -> bool:
        """Return whether the process lives."""
        return self._started is not None and lives(self.host, self._started)

    def why_ended(self) -> str:
        """Return how the process has ended; of one that left others, or failed in nothing, also that it has to stay."""
        code = exit_code(self.identity.pid)
        has_to_stay = code == 0 or any(process.alive for process in self._family())
        rule = "; api_command has to stay in the foreground フォアグラウンド実行が必要" if has_to_stay else ""
        return f"it ended{'' if code is None else f' with {code}'}{rule}"

    def listens(self, port: int) -> bool:
        """Return whether the process, or a child of it, owns the listening socket."""
        return any(port in listening_ports(process.pid) for process in self._family())

    def find_brought(self) -> tuple[str, ...]:
        """Return what the start has started besides the API: what the patterns of training or workers match."""
        return tell_others(self._family(), [], self.context.workload)

    def keep(self) -> None:
        """Append the process to those that earlier recoveries started."""
        self.context.state.recovered.write([*self.context.state.recovered.read(), self.identity])
        self.context.state.started_by.write(self._block_start)
        self._adopt(wanted=False)

    def end(self) -> None:
        """End the process and all that it has started, repeatedly until none is left."""
        for _ in range(_KILL_ROUNDS):
            if not (living := [process.identity for process in self._family() if process.alive]):
                break
            for identity in living:
                with suppress(ProcessLookupError):
                    self.host.signal(identity, SIGKILL)
            self.host.wait_gone(living, _GONE_SECONDS)
        for each in self._family() if self._own_children is not None else ():
            if each.identity != self.identity and each.parent == os.getpid():
                with suppress(ChildProcessError):
                    os.waitpid(each.pid, os.WNOHANG)  # it is our child now, and nobody else's to wait for
        self._adopt(wanted=False)

    def _family(self) -> list[Process]:
        """Return the started process and what descends from it, also if what started that has ended.

        That is what is in its session, or has become our child since. A pid that is in use again is another's.
        """
        snapshot, own = self.host.snapshot(), self._own_children
        leader = snapshot.get(self.identity.pid)
        is_free = leader is None or leader.identity == self.identity
        orphans = (
            each.identity
            for each in snapshot.values()
            if each.identity.start >= self.identity.start
            if (is_free and each.session == self.identity.pid)
            or (own is not None and each.parent == os.getpid() and each.identity not in own)
        )
        return [snapshot[each] for each in family(snapshot, {self.identity, *orphans} if self._started else ())]


def is_no_api(process: Process, block: Workload) -> bool:
    """Return whether a process is training or a worker by the block's patterns, of which the API's comes first."""
    others = (each for each in (block.training_pattern, block.worker_pattern) if each)
    is_one = any(re.search(each, process.line) for each in others)
    return is_one and not (block.api_pattern and re.search(block.api_pattern, process.line))


def tell_others(own: Iterable[Process], apis: Iterable[Process], block: Workload) -> tuple[str, ...]:
    """Return, with pid and command, each top of the processes that are no API by the block, or none of `apis`.

    Without `apis` the block alone decides.
    """
    there, known = {each.pid: each for each in own if each.alive}, {each.pid for each in apis}
    fit = {pid for pid, each in there.items() if is_no_api(each, block)}
    others = fit | (there.keys() - known if known else set())
    tops = (there[pid] for pid in sorted(others) if there[pid].parent not in others)
    return tuple(f"{each.pid}: {process_line(each, LINE)}" for each in tops)


def _add_nice(pid: int, change: int) -> None:
    """Change the nice value of each thread of a process, also of those that appear meanwhile."""
    first = os.getpriority(os.PRIO_PROCESS, pid)
    done = set[int]()
    with suppress(OSError):
        while new := {int(each.name) for each in Path(f"/proc/{pid}/task").iterdir()} - done:
            for thread in new:
                with suppress(ProcessLookupError):
                    nice = os.getpriority(os.PRIO_PROCESS, thread)
                    if not done or nice == first:
                        os.setpriority(os.PRIO_PROCESS, thread, nice + change)
            done |= new


def listening_ports(pid: int) -> set[int]:
    """Return the ports that a process listens on; none if it may not be looked at, or is gone."""
    with suppress(psutil.Error):
        connections = psutil.Process(pid).net_connections("inet")
        return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}
    return set()


def new_log(block: Workload) -> str:
    """Return the path of a new log: one that the block's `logs` find, if any."""
    new = f"api-restart-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    logs = of_root(block.logs)
    candidates = {f"{each}/{new}.log": each for each in logs if (block.root / each).is_dir()}
    candidates |= {f"{literal_folder(each)}/{new}.log".lstrip("/"): each for each in logs}
    candidates |= {each.replace("**/", "").replace("*", new): each for each in logs}
    return str(block.root / next((name for name, pattern in candidates.items() if fits(name, pattern)), f"{new}.log"))


def find_kept_before(block: Workload, home: Path) -> tuple[str, str]:
    """Return the last incident of this host that has kept how the API ran, and why none recovers from it, if so.

    Empty if none has, or if the incident in the folder `home` has.
    """
    port = leads_to(block.api_address)[1]
    kept = [each for each in homes(block) if (each / STARTS).is_file() or keeps_api(each, port, block.api_pattern)]
    last = max(kept, key=lambda home: home.name, default=None)
    if last is None or keeps_api(home, port, block.api_pattern):
        return "", ""
    return last.name, why_not_recover(last_verdict(last), "")


def api_user(
    workload: Workload, state: IncidentState, starts: Sequence[Mapping[str, Any]] = (), *, container: bool = False
) -> int:
    """Return the declared user; else that of the frozen API, or the root's owner. Raises NotRecovered if barred.

    `starts` tell how the API ran: as root it comes back undeclared only from what nobody else can change.
    """
    users = (process.user for process in frozen_before(state) if process.role == "api")
    try:
        user = next(users, workload.root.stat().st_uid)
        if container:
            return account_for(workload, user, container=True)
        return account_for(workload, user, why_not_roots=partial(why_not_roots, workload, starts))
    except Refused as error:
        raise failure(error.expected, f"{error.got}. {error.remedy.rstrip('.')}") from error
