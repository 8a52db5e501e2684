"""§2 before anything heavy is imported: freeze what the run that is about to start will freeze anyway.

On a machine whose every core computes, the import of Prefect alone takes seconds. This needs the standard library, the
run's parameters and its workload block. Whatever it cannot do, or must not do, is left to the run itself.
"""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any, Final

from tasks.adapters.host import LinuxHost, freeze_process, thaw_process
from tasks.custody.containment.membership import Member, Named, matchers_of, members
from tasks.custody.containment.process import Identity, Process, family, pids_of
from tasks.custody.incident.description import recognisable
from tasks.custody.visible import say
from tasks.incident import layout
from tasks.incident.layout import CORDON, EARLY, FROZEN, INCIDENT, RECOVERED, incidents_in
from tasks.incident.run_lock import at_work, give_up_ownership, keep_ownership, take_ownership
from tasks.prestart.groups import freeze_in_place
from tasks.prestart.prefect_http import NotNow, ask_server, fields_of
from tasks.system.accounts import number_of
from tasks.system.atomic_files import identities, read_ours, rows_of, write_whole
from tasks.system.processes import untouchable

FLOW: Final = "evacuate"
_Find = Callable[[Mapping[int, Process]], dict[Identity, Member]]
_FREEZE_SECONDS: Final = 5.0
_unkept: Final[dict[Identity, datetime]] = {}
"""Whom this process has stopped and could write down on no disk."""


class NothingToFreeze(Exception):
    """The run is no evacuation, or a dry run."""


@dataclass(frozen=True)
class EarlyFreeze:
    """Whom this start has stopped; the file may name more, of a start that died. It lies there until a run's freeze."""

    path: Path
    frozen: tuple[Identity, ...]
    groups: tuple[str, ...] = ()
    """Control groups that it has frozen in place."""


def freeze_early(environment: Mapping[str, str]) -> EarlyFreeze | None:
    """Freeze the workload of the flow run that the environment names. None if that was not done.

    Nothing goes wrong here for the run: it looks anew in any case.
    """
    return _tried(lambda: _workload(environment))


def freeze_described(given: Mapping[str, Any], incident: str | None = None) -> EarlyFreeze | None:
    """The same for a workload that a file describes, where no server can be asked."""
    return _tried(lambda: (_here(recognisable(given, socket.gethostname())), incident))


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Keep an order to end waiting until it is known whom to thaw: else nobody would know who has been frozen."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _tried(known: Callable[[], tuple[dict[str, Any], str | None]]) -> EarlyFreeze | None:
    try:
        workload, incident = known()
        evidence = evidence_of(workload)
        _require_known_here(workload, evidence, incident)
        with _owned(evidence):
            return _freeze(workload, evidence, incident)
    except NothingToFreeze:
        return None
    except Exception as reason:  # noqa: BLE001  the run must start whatever is wrong here
        say(f"not frozen before the start of the run: {type(reason).__name__}: {reason}", error=True)
        return None


def _workload(environment: Mapping[str, str]) -> tuple[dict[str, Any], str | None]:
    """Fields of the workload block, and the incident that is asked for, if it is a real evacuation on this host."""
    with ask_server(environment) as ask:
        run = ask(f"/flow_runs/{environment['PREFECT__FLOW_RUN_ID']}")
        parameters = run["parameters"]
        if ask(f"/flows/{run['flow_id']}")["name"] != FLOW or parameters.get("dry_run"):
            raise NothingToFreeze
        fields = fields_of(ask, parameters["workload"])
    return _here(fields), parameters.get("incident_id")


def _here(fields: dict[str, Any]) -> dict[str, Any]:
    if fields["host"] != socket.gethostname():
        raise NotNow(f"the workload runs on {fields['host']}")
    return fields


def evidence_of(workload: Mapping[str, Any]) -> Path:
    """The folder of the workload's incidents, made if a disk takes it. NotNow where the block fits another host."""
    folder = Path(workload["evidence_dir"] or Path(workload["root"]) / "evidence")
    if folder.is_symlink() or not Path(workload["root"]).is_dir():
        raise NotNow("the block does not fit this host")
    with suppress(OSError):
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    return folder


@contextmanager
def _owned(evidence: Path) -> Iterator[None]:
    """Never beside a run that is at work: it thaws what it stops. The run itself goes on with the same lock.

    Where no disk takes the lock, a run at work has its own in memory, which this need not know the name of.
    """
    try:
        descriptor = take_ownership(evidence)
    except OSError as error:
        if any(at_work(base) for base in layout.MEMORY.glob("evacuation-*")):
            raise NotNow("another run is at work") from error
        yield
        return
    if descriptor is None:
        raise NotNow("another run is at work")
    try:
        yield
    except BaseException:
        os.close(descriptor)
        raise
    keep_ownership(evidence, descriptor)


def _freeze(workload: Mapping[str, Any], evidence: Path, incident: str | None) -> EarlyFreeze:
    """Parents first, again until a look finds no new one; then write down whom, and when.

    Only what this start has stopped is written down, to be thawed if the run is refused: not what stood already, by
    the hand of a person, a guard or an incident, nor what an incident has frozen and that runs again.
    """
    frozen: dict[Identity, str] = {}
    host, find = LinuxHost(workload["api_port"]), _finder(workload, evidence, incident)
    try:
        _halt(host, find, _named(workload, evidence, FROZEN), frozen)
    except Exception as reason:  # noqa: BLE001  who stands already has to be written down whatever went wrong
        say(f"not all was frozen before the start of the run: {type(reason).__name__}: {reason}", error=True)
    early = EarlyFreeze(evidence / EARLY, tuple(frozen))
    rows = [{"pid": who.pid, "start": who.start, "at": at} for who, at in frozen.items()]
    try:
        _write(early.path, [*_others(early), *rows])
    except OSError as error:
        say(f"{early.path}: {error}: which processes are frozen is known to this process alone", error=True)
        _unkept.update({who: datetime.fromisoformat(at) for who, at in frozen.items()})
        return early
    return _freeze_groups(early, rows, host, find)


def _freeze_groups(early: EarlyFreeze, rows: list[dict[str, Any]], host: LinuxHost, find: _Find) -> EarlyFreeze:
    """Hold by the kernel, once the signals are sent and it is written down, what is in groups of the workload alone."""

    def note(paths: list[str]) -> None:
        _write(early.path, [*_others(early), *rows, *({"group": path} for path in paths)])

    try:
        return replace(early, groups=tuple(freeze_in_place(host, host.snapshot(), find, note)))
    except Exception as reason:  # noqa: BLE001  the signals hold, and the run looks again
        say(f"no control group was frozen before the start of the run: {reason}", error=True)
        return early


def _halt(host: LinuxHost, find: _Find, held: set[Identity], frozen: dict[Identity, str]) -> None:
    seen = set[Identity]()
    deadline = time.monotonic() + _FREEZE_SECONDS
    while time.monotonic() < deadline:
        snapshot = host.snapshot()
        new = [who for who in find(snapshot) if who not in seen]
        if not new:
            break
        seen.update(new)
        for identity in (who for who in new if snapshot[who.pid].state != "T"):
            at = datetime.now(UTC).isoformat()
            if freeze_process(host, snapshot[identity.pid]) == "" and identity not in held:
                frozen[identity] = at


def _require_known_here(workload: Mapping[str, Any], evidence: Path, incident: str | None) -> None:
    """NotNow for an incident that this host does not know: a mistyped id is refused by the run before its freeze."""
    if incident and not any((base / incident / INCIDENT).is_file() for base in _bases(workload, evidence)):
        raise NotNow(f"{incident[:80]!r} is unknown on this host, so the store is asked first")


def _bases(workload: Mapping[str, Any], evidence: Path) -> Iterator[Path]:
    """Where incidents of this host lie, wherever they found room."""
    yield evidence
    others = [Path(workload["fallback_dir"])] if workload.get("fallback_dir") else []
    for disk in (*others, layout.MEMORY):
        yield from disk.glob("evacuation-*")


def _named(workload: Mapping[str, Any], evidence: Path, journal: str, incidents: str = "IR-*") -> set[Identity]:
    """Processes that these incidents of this host name in their journals of this name."""
    return identities(path for base in _bases(workload, evidence) for path in base.glob(f"{incidents}/{journal}"))


def _others(early: EarlyFreeze) -> list[dict[str, Any]]:
    """Rows of a start that died before its run could freeze: nothing else names whom it has stopped."""
    own = {*early.frozen, *early.groups}
    return [row for row in rows_of(early.path, read_ours) if (Identity.of(row) or row.get("group")) not in own]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write down whom to thaw again, whole or not at all; no file if nobody is."""
    if rows:
        write_whole(path, json.dumps(rows).encode(), 0o600, flush=False)
    else:
        path.unlink(missing_ok=True)


def _finder(workload: Mapping[str, Any], evidence: Path, incident: str | None) -> _Find:
    """Read from the disk once what every look needs; give back how the members in a look are found.

    Whether what a recovery has started is new life, only the run can tell: that is left alone here. With its children
    it is where the run may carry that incident on: it would spare them, and they stood for ever.
    """
    matchers, root = matchers_of(workload, number_of(workload["user"])), PurePath(os.path.realpath(workload["root"]))
    named = Named.of(workload)
    bases = list(_bases(workload, evidence))
    ours = {LinuxHost().guard(base / CORDON) for base in bases} | _named(workload, evidence, RECOVERED)
    newest = max((home.name for base in bases for home in incidents_in(base)), default="IR-")
    carried_on = _named(workload, evidence, RECOVERED, incident or newest)

    def find(snapshot: Mapping[int, Process]) -> dict[Identity, Member]:
        spared = untouchable(snapshot) | pids_of(snapshot, ours) | family(snapshot, carried_on)
        return members(snapshot, matchers, root, spared, named)

    return find


def read_early(path: Path) -> dict[Identity, datetime]:
    """Whom an early freeze has stopped, and when."""
    found = dict(_unkept)
    for row in rows_of(path, read_ours):
        with suppress(KeyError, TypeError, ValueError):
            if identity := Identity.of(row):
                found[identity] = datetime.fromisoformat(row["at"])
    return found


def early_groups(path: Path) -> list[str]:
    """Which control groups an early freeze has frozen in place."""
    return [str(row["group"]) for row in rows_of(path, read_ours) if "group" in row]


def take_over(path: Path) -> None:
    """Let the run's own freeze stand for the early one, which is then not undone."""
    _unkept.clear()
    with suppress(OSError):
        path.unlink()


def thaw_again(early: EarlyFreeze) -> None:
    """Where the run did not take them over (it was refused, or failed before its freeze) nothing is left touched."""
    if early.path.exists() or _unkept:
        host = LinuxHost()
        for identity in early.frozen:
            thaw_process(host, identity)
        for group in filter(None, map(host.group, early.groups)):
            group.thaw()
        _unkept.clear()
        with suppress(OSError):
            _write(early.path, _others(early))
    give_up_ownership(early.path.parent)
