"""§2 before Prefect is imported: freeze what the run that is about to start will freeze anyway.

On a busy machine the import of Prefect alone takes seconds. This uses the standard library, the run's parameters and
its workload block. What it cannot or must not do is left to the run.
"""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tasks.custody.containment.identity import Identity
from tasks.custody.fleet.host_order import Order
from tasks.custody.incident.alarm import MAX_AGE_SECONDS, Alarm
from tasks.custody.incident.description import recognisable
from tasks.custody.incident.incident import known_id
from tasks.custody.visible import say
from tasks.host.host import EARLY_FREEZE_SECONDS, LinuxHost, freeze_process
from tasks.host.process.membership import Exceptions, Member, Members
from tasks.host.process.process import Process, pids_of
from tasks.host.process.table import is_part, untouchable
from tasks.host.process.wrappers import running_above
from tasks.host.workload import describe
from tasks.incident import layout
from tasks.incident.evidence_folder import evidence_folder
from tasks.incident.joining import own_incident
from tasks.incident.last_word import THAWED, is_finished, last_word
from tasks.incident.layout import CORDON, EARLY, FROZEN, INCIDENT, incidents_in
from tasks.incident.run_lock import PAPER, at_work, owner, take_ownership
from tasks.prestart.groups import freeze_in_place
from tasks.prestart.hearing import Hearing
from tasks.prestart.journal import (
    EarlyFreeze,
    close_lock,
    keep,
    note_answer,
    note_unkept,
    rows_above,
    rows_for,
    rows_lost,
    write_rows,
)
from tasks.prestart.reasons import NothingToFreeze, NotNow
from tasks.system.declarations import require_declared
from tasks.system.files.atomic_files import identities
from tasks.system.files.ours import make_folder, why_not_followed
from tasks.system.files.own_folders import own_folders
from tasks.system.files.uncover import uncover
from tasks.system.time_limit import before_the_freeze

if TYPE_CHECKING:
    from tasks.prestart.known_run import KnownRun

FLOW: Final = "evacuate"
_Find = Callable[[Mapping[int, Process]], dict[Identity, Member]]
_Note = Callable[[set[Identity]], None]


def freeze_early(run: "KnownRun") -> EarlyFreeze | None:
    """Freeze the workload of this process's flow run. None if that was not done.

    A failure here is reported and does not stop the run, which freezes again in any case.
    """
    return _try_freeze(lambda: freeze_for(run))


def freeze_described(given: Mapping[str, Any], incident: str | None = None) -> EarlyFreeze | None:
    """Freeze a workload that a file describes, without a server. None if that was not done."""
    return _try_freeze(lambda: _locked_freeze(_here(recognisable(given, socket.gethostname())), incident))


def freeze_until_its_run(given: Mapping[str, Any]) -> EarlyFreeze:
    """Freeze a workload of this host whose run comes later, and takes it over from the journal as of a start that died.

    Raises NotNow and whatever else prevents it.
    """
    return close_lock(_locked_freeze(_here(recognisable(given, given["host"])), None))


def members_described(given: Mapping[str, Any]) -> list[Process]:
    """Return the processes that `freeze_described` would freeze now; none if it would not."""
    with suppress(Exception):  # it reports the same reason
        fields = _here(recognisable(given, socket.gethostname()))
        snapshot = LinuxHost(fields["api_port"], root=fields["root"]).snapshot()
        return [snapshot[identity.pid] for identity in _finder(fields, _bases(fields, _folder_of(fields)))(snapshot)]
    return []


def freeze_for(run: "KnownRun") -> EarlyFreeze:
    """Freeze the workload of a flow run, which may be another process's.

    Raises NothingToFreeze, NotNow, and whatever else prevents it; nothing is frozen then.
    """
    if run.parameters.get("dry_run") or run.flow != FLOW:
        raise NothingToFreeze
    if (order := Order.of(run.parameters.get("order"))) and order.is_expired(run.time()):
        raise NothingToFreeze
    if not run.due:
        raise NotNow("the run is to start later")
    incident, alarm = run.parameters.get("incident_id"), Alarm.of(run.parameters.get("alarm"))
    if alarm and not incident:  # one that carries on a named incident is never too old
        now, limit = run.time(), timedelta(seconds=float(run.fields.get("alarm_max_age", MAX_AGE_SECONDS)))
        if alarm.age(run.requested_at or now, now, datetime.now(UTC)) > limit:
            raise NothingToFreeze
    is_new = run.parameters.get("new_incident") and known_id(incident)
    return _locked_freeze(_here(run.fields), None if is_new else incident, run.id if run.was_begun else "")


@contextmanager
def defer_signals() -> Iterator[None]:
    """Delay SIGTERM and SIGINT until it is written down which processes are frozen, so that they can be thawed."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _try_freeze(freeze: Callable[[], EarlyFreeze]) -> EarlyFreeze | None:
    try:
        return keep(freeze())
    except NothingToFreeze:
        return None
    except Exception as reason:  # noqa: BLE001  the run must start whatever is wrong here
        say(f"not frozen before the start of the run: {type(reason).__name__}: {reason}", error=True)
        return None


def _locked_freeze(workload: Mapping[str, Any], incident: str | None, run: str = "") -> EarlyFreeze:
    hearing = Hearing(workload)
    with before_the_freeze():
        losses = uncover(Path(workload["root"]))
        evidence = _folder_of(workload)
        bases = _bases(workload, evidence)
        if (own := own_incident(run, bases)) and is_finished(own):
            raise NothingToFreeze
        # the run refuses a mistyped id before its freeze
        if incident and not any((base / known_id(incident) / INCIDENT).is_file() for base in bases):
            raise NotNow(f"{incident[:80]!r} is unknown on this host, so the store is asked first")
        with _hold_lock(evidence, bases) as lock:
            homes = [home for base in bases for home in incidents_in(base) if last_word(home) != THAWED]
            early = _freeze(workload, evidence / EARLY, _finder(workload, bases), homes, tuple(losses), hearing)
            if workload.get("containers"):
                from tasks.prestart.containers import pause_containers  # after the signals: its imports delay none

                hearing.wait(alone=True)
                early = pause_containers(early, workload, homes)
            note_answer(early, hearing.end())
            return replace(early, lock=lock)


def _here(fields: dict[str, Any]) -> dict[str, Any]:
    if fields["host"] != socket.gethostname():
        raise NotNow(f"the workload runs on {fields['host']}")
    require_declared(fields["root"])
    return fields


def evidence_of(workload: Mapping[str, Any]) -> Path:
    """Return the folder of the workload's incidents, created if possible.

    NotNow if the block fits another host, or if the folder lies behind a link that is not followed.
    """
    if why := why_not_followed(folder := _folder_of(workload)):
        raise NotNow(why)
    return folder


def _folder_of(workload: Mapping[str, Any]) -> Path:
    root, named = Path(workload["root"]), workload["evidence_dir"]
    if not root.is_dir():
        raise NotNow("the block does not fit this host")
    folder = evidence_folder(root, Path(named) if named else None)
    with suppress(OSError):
        os.close(make_folder(folder))
    return folder


@contextmanager
def _hold_lock(evidence: Path, bases: Sequence[Path]) -> Iterator[int | None]:
    """Hold the lock of the workload's runs, which stays open. NotNow while another run works, which may thaw.

    If no disk takes the lock, a run at work has its lock in memory, under a name that is not known here. So it is where
    the folder lies behind a link that is not followed: the workload may have made it, and it delays no freeze.
    """
    try:
        descriptor = take_ownership(evidence)
    except OSError as error:
        if any(map(at_work, {*bases} - {evidence})):
            raise NotNow("another run is at work") from error
        yield None
        return
    if descriptor is None:
        if owner(evidence) != PAPER:
            raise NotNow("another run is at work")
        yield None
        return
    try:
        yield descriptor
    except BaseException:
        os.close(descriptor)
        raise


def _freeze(  # noqa: PLR0913, PLR0917  what a freeze is told
    workload: Mapping[str, Any],
    journal: Path,
    find: _Find,
    homes: Iterable[Path],
    losses: tuple[str, ...],
    hearing: Hearing,
) -> EarlyFreeze:
    """Freeze parents first, the API last, until a look finds no new process.

    Which, and when, is written down before the signals of each look, because this process may be killed, and once more
    after the last. It is only what this start stops, to be thawed if the run is refused: not what was stopped already,
    and not what an incident has frozen and that runs again. `homes` are those of incidents that were not thawed.
    """
    frozen, above, held = dict[Identity, datetime](), set[Identity](), identities(home / FROZEN for home in homes)
    host = LinuxHost(workload["api_port"], root=workload["root"])

    def so_far() -> tuple[EarlyFreeze, list[dict[str, Any]]]:
        early = EarlyFreeze(journal, tuple(frozen), above=tuple(above), losses=losses)
        return early, [*rows_for(frozen), *rows_above(above), *rows_lost(losses)]

    def note(ran: set[Identity]) -> None:
        above.update(ran)
        with suppress(OSError):  # told of below
            write_rows(*so_far())

    try:
        _halt(host, find, held, frozen, note, hearing)
    except Exception as reason:  # noqa: BLE001  what is frozen has to be written down whatever went wrong
        say(f"not all was frozen before the start of the run: {type(reason).__name__}: {reason}", error=True)
    early, rows = so_far()
    try:
        write_rows(early, rows)
    except OSError as error:
        say(f"{early.path}: {error}: only this process knows which processes are frozen", error=True)
        note_unkept(frozen)
        return early
    return _freeze_groups(early, rows, host, find)


def _freeze_groups(early: EarlyFreeze, rows: list[dict[str, Any]], host: LinuxHost, find: _Find) -> EarlyFreeze:
    """Freeze the control groups that hold only the workload, after the signals are sent and written down."""

    def note(paths: list[str]) -> None:
        write_rows(early, [*rows, *({"group": path} for path in paths)])

    try:
        return replace(early, groups=tuple(freeze_in_place(host, host.snapshot(), find, note)))
    except Exception as reason:  # noqa: BLE001  the signals hold, and the run looks again
        say(f"no control group was frozen before the start of the run: {reason}", error=True)
        return early


def _halt(  # noqa: PLR0913, PLR0917  as `_freeze`
    host: LinuxHost,
    find: _Find,
    held: set[Identity],
    frozen: dict[Identity, datetime],
    note: _Note,
    hearing: Hearing,
) -> None:
    """Stop each process that a look finds; `note` is called with those to come in `frozen`, before their signals.

    It gets what runs above them. What a first look had no time to read is looked at once more. What answers as the API
    is stopped after the others of the first look, and has time for its answer then.
    """
    seen, again = set[Identity](), True
    deadline = time.monotonic() + EARLY_FREEZE_SECONDS
    while time.monotonic() < deadline:
        snapshot = host.snapshot()
        found = find(snapshot)
        new = [each for each in found if each not in seen]
        if not new and not (again and is_part(snapshot)):
            break
        seen.update(new)
        running = [each for each in new if snapshot[each.pid].state != "T"]
        apis = [each for each in running if again and found[each].role == "api"]
        frozen.update((each, datetime.now(UTC)) for each in running if each not in held)
        note(running_above(snapshot, [each.pid for each in running]))
        if again and not apis:
            hearing.wait()
        _stop(host, snapshot, [each for each in running if each not in apis], frozen)
        if apis:
            hearing.wait(alone=True)
            _stop(host, snapshot, apis, frozen)
        again = False


def _stop(
    host: LinuxHost, snapshot: Mapping[int, Process], running: Iterable[Identity], frozen: dict[Identity, datetime]
) -> None:
    """Stop these processes, and note when in `frozen` for those in it."""
    for identity in running:
        at = datetime.now(UTC)
        freeze_process(host, snapshot[identity.pid])
        if identity in frozen:
            frozen[identity] = at


def _bases(workload: Mapping[str, Any], evidence: Path) -> list[Path]:
    """Return every folder of ours in which incidents of this host may lie."""
    others = [Path(workload["fallback_dir"])] if workload.get("fallback_dir") else []
    own = [] if why_not_followed(evidence) else [evidence]
    return [*own, *(base for disk in (*others, layout.MEMORY) for base in own_folders(disk, "evacuation-"))]


def _finder(workload: Mapping[str, Any], bases: Sequence[Path]) -> _Find:
    """Read from the disk what every look needs, and return the function that finds the members in a snapshot.

    What a recovery has started is the workload, also of the incident that the run carries on.
    """
    description = describe(workload)
    guards = {LinuxHost().guard(base / CORDON) for base in bases}

    def find(snapshot: Mapping[int, Process]) -> dict[Identity, Member]:
        ours = untouchable(snapshot) | pids_of(snapshot, guards)
        return Members.of(snapshot, description, Exceptions(frozenset(ours)))

    return find
