"""§0: check the input before anything is touched, then open the incident or carry it on.

See docs/adr/0043.
"""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from blocks.workload import Workload
from tasks.containment.answers import find_unknown, keep_answer
from tasks.containment.pause_prefect import named_by
from tasks.custody.containment.answer import GivenAnswer
from tasks.custody.containment.receipt import Unknown
from tasks.custody.errors import EvacuationError, Refused
from tasks.custody.fleet.host_order import Order
from tasks.custody.incident.alarm import Alarm, belongs_to, last_begin
from tasks.custody.incident.commands import deployment_run, name_incident
from tasks.custody.incident.ending import JOINED, STALE, Ending
from tasks.custody.incident.incident import Incident, new_id, parse_id
from tasks.custody.incident.verdict import Word
from tasks.evidence.signing import tell_key
from tasks.host.host import LinuxHost
from tasks.host.process.table import boot_id
from tasks.incident.current import last_incident, last_verdict, opening, read_incident, unfinished_incident
from tasks.incident.directory import base_of, bases, find_home, make_base
from tasks.incident.joining import (
    WAIT_SECONDS,
    incident_of,
    joined_message,
    leave,
    own_incident,
    past,
    take_over_triggers,
)
from tasks.incident.last_word import is_finished, last_word
from tasks.incident.layout import EARLY
from tasks.incident.run_lock import PAPER, has_ownership, owner, sign, take_ownership
from tasks.prefect_side.clock import find_server_time
from tasks.prefect_side.saved_blocks import SavedStore, load_block, require_store
from tasks.preflight.known_incident import require_known, require_new
from tasks.preflight.privileges import tell_rights, tell_room
from tasks.preflight.requirements import (
    require_here,
    require_known_account,
    require_known_collectors,
    require_known_units,
    require_not_ours,
    require_same_workload,
)
from tasks.prestart.journal import count_held, leave_to_person, read_early
from tasks.runtime.actor import BY_HAND
from tasks.runtime.context import Policy, RunContext, RunInfo, Suspects, Unknowns, open_context
from tasks.runtime.flow_run import finished_before, origin, own_launchers
from tasks.runtime.step import step_without_incident
from tasks.system.accounts import account_name
from tasks.system.files.uncover import DETACHED
from tasks.system.polling import poll_until
from tasks.system.time_limit import before_the_freeze, time_limit

logger = logging.getLogger(__name__)

_A_MOMENT: Final = 1.0
_POLL_SECONDS: Final = 0.2
_PAPER_SECONDS: Final = 15.0
"""How long an evacuation waits for a postmortem to be written; the workload is frozen meanwhile."""


@dataclass(frozen=True)
class Opened:
    """The incident is open, and this run holds the workload's lock."""

    context: RunContext


@dataclass(frozen=True)
class NotOpened:
    """The run ends without touching anything: how, and a `summary` that says why and what to do."""

    ending: Ending
    summary: str


@dataclass(frozen=True)
class Request:
    """What a trigger asks for, and the run that it started."""

    workload: str
    store: str
    reason: str
    detected_at: datetime | None
    incident_id: str | None
    dry_run: bool
    policy: Policy
    run: str
    created: datetime
    trigger: str = BY_HAND
    alarm: Alarm | None = None
    suspects: Suspects | None = None
    unknown: Unknowns | None = None
    order: Order | None = None
    answer: GivenAnswer | None = None
    new_incident: bool = False


@step_without_incident("open_incident", "open the incident", section="§0", retries=0)
def open_incident(request: Request) -> Opened | NotOpened:
    """Check all that can be checked without touching the workload, then open the incident (runbook §0).

    Raises Refused for bad input. Not retried: one limit holds for all that is waited for before the freeze.
    """
    with before_the_freeze() as limit:
        workload: Workload = load_block(Workload, request.workload)
        with _hold_what_stands(workload):
            opened = _check_and_open(request, workload)
    if isinstance(opened, Opened):
        early = read_early(opened.context.cordon_files.early).losses  # another process may have frozen for this run
        opened.context.losses += dict.fromkeys([*limit.losses, *DETACHED, *early])
    return opened


class NotOpenedByError(Exception):
    """An error of ours before the incident was open: what had been frozen for it stays so. The message says that."""


@contextmanager
def _hold_what_stands(workload: Workload) -> Iterator[None]:
    """Have an error say what the start of this run has frozen: it goes on if the input was refused, and only then."""
    base = base_of(workload)
    early = read_early(base / EARLY) if has_ownership(base) else None
    number = len(early.frozen) + len(early.containers) if early else 0
    try:
        yield
    except EvacuationError as error:
        if early and number and isinstance(error, Refused):
            held = count_held(number, early.containers)
            error.consequence = f"{held} stand frozen until this run has ended 一時凍結し、終了時に解除."
        raise
    except Exception as error:
        if not (stand := leave_to_person(base / EARLY)):
            raise
        raise NotOpenedByError(
            f"expected to open an incident; got {type(error).__name__}: {error}. {stand} stay frozen 凍結のまま. "
            "Run it again, or let all go on 再実行、または解除: evacuation thaw FILE"
        ) from error


def _check_and_open(request: Request, workload: Workload) -> Opened | NotOpened:
    given = parse_id(request.incident_id) if request.incident_id is not None else None
    if request.new_incident and not given:
        remedy = "Leave new_incident out: a new incident gets its id by itself."
        raise Refused("with new_incident the incident_id that was issued before", "none", remedy)
    saved = require_store(request.store)
    require_here(workload)
    require_known_account(workload)
    require_known_collectors(workload)
    if (request.new_incident or not given) and not unfinished_incident(workload):  # earlier stops may be unknown by now
        require_known_units(workload)
    launchers = own_launchers()
    require_not_ours(named_by(workload), launchers)
    request = replace(request, trigger=origin(launchers))
    base = make_base(workload)
    own = None if request.dry_run else own_incident(request.run, bases(workload))
    if own and is_finished(own):
        return NotOpened(finished_before(request.run), _finished_message(request, own))
    if own:  # a retry carries on what its run has begun, whatever set it off then
        given = own.name
        request = replace(request, incident_id=given, new_incident=False)
    if (joined := _join_earlier(request, workload)) is not None:
        return joined
    stale = "" if has_ownership(base) else _stale(request, workload)  # what was young when it froze is acted on
    ownership = _own(base, dry_run=request.dry_run)
    if ownership is None:
        _require_evacuation(owner(base, dry_run=request.dry_run))
        if request.answer or own:
            remedy = "Wait for it to end, look at `evacuation status`, and run this again."
            raise Refused("no run at work on this workload", "one that is", remedy)
        return _busy(request, workload)
    if stale:
        os.close(ownership)
        return NotOpened(STALE, stale)
    try:
        return Opened(_open(request, workload, saved, given, ownership))
    except BaseException:
        os.close(ownership)
        raise


def _join_earlier(request: Request, workload: Workload) -> NotOpened | None:
    """Return the incident that has already contained what a late alarm reports; None if there is none."""
    if request.alarm is None or request.dry_run or request.incident_id:
        return None
    earlier = list(past(bases(workload)))
    return _leave(request, workload, belongs_to(_comparable(request.alarm), earlier) if earlier else "")


def _stale(request: Request, workload: Workload) -> str:
    """Return what people are told of an alarm that is too old to act on; empty if it is to be acted on."""
    if request.alarm is None or request.dry_run or request.incident_id:
        return ""
    now = find_server_time() or datetime.now(UTC)
    age = request.alarm.age(request.created, now, datetime.now(UTC))
    if age <= timedelta(seconds=workload.alarm_max_age):
        return ""
    return (
        f"{request.workload}: an alarm came too late: {request.alarm.summary}; raised {round(age.total_seconds())} s "
        f"ago, and alarm_max_age is {workload.alarm_max_age:g} s. Nothing was frozen. To evacuate now: "
        f"{deployment_run('evacuate', request.workload)}; or on its host: "
        f"evacuation run evacuation.toml:{request.workload}. 古いアラームのため何も凍結していません。"
        "撤収が必要なら上のコマンドを実行してください。"
    )


def _finished_message(request: Request, home: Path) -> str:
    """Return the message of a run that is tried again after its incident was finished."""
    line = deployment_run("evacuate", request.workload)
    return (
        f"{home.name}: finished, {last_word(home)}, so this retry did nothing. To evacuate now, as another incident: "
        f"{line}; this one again: {deployment_run('evacuate', request.workload, home.name)}. "
        "終了済みのインシデントのため、再試行では何もしていません。"
    )


def _comparable(alarm: Alarm) -> Alarm:
    """Return what the alarm may be compared with: when its training began, and no times of a clock that is not ours."""
    from prefect.client.orchestration import get_client

    if not alarm.began and alarm.run:  # when its training's last attempt began, if the server knows it
        with get_client(sync_client=True) as client:
            states = [each.model_dump(mode="json") for each in client.read_flow_run_states(UUID(alarm.run))]
        alarm = replace(alarm, began=last_begin(states, alarm.occurred))
    return alarm.comparable(find_server_time() or datetime.now(UTC), datetime.now(UTC))


def _leave(request: Request, workload: Workload, incident: str) -> NotOpened | None:
    """Record the trigger with the incident that it joins. If no disk takes it, it is in this run's log only."""
    if not incident:
        return None
    if not leave(bases(workload), incident, request.run, request.alarm):
        logger.error("The trigger could not be left with %s on any disk; it is in this log alone", incident)
    return NotOpened(JOINED, joined_message(incident))


def _busy(request: Request, workload: Workload) -> NotOpened:
    """Another run is at work: join its incident as soon as that is open. Raises Refused if an alarm cannot join."""
    wait = WAIT_SECONDS if request.alarm else _A_MOMENT
    alarm = _comparable(request.alarm) if request.alarm else None
    at_work = "" if request.dry_run else incident_of(alarm, bases(workload), wait)
    if joined := _leave(request, workload, at_work):
        return joined
    if request.alarm:
        remedy = "Nothing was contained by this run. Look what the other one does; run this one again."
        raise Refused("another run, which is at work, to open an incident that this alarm can join", "none", remedy)
    return NotOpened(
        JOINED,
        "expected to be the only evacuation of this workload; got another run that evacuates "
        f"{request.workload} now: {last_incident(workload) or 'it has just begun'}. This run did nothing. "
        "Watch the other run; if it fails, run again with its incident id.",
    )


def _require_evacuation(purpose: str) -> None:
    """Raise Refused unless the other run is an evacuation: no other flow contains the workload."""
    if purpose not in {"evacuation", ""}:
        remedy = "The workload is not contained by this. Wait for it to end, or cancel it, and run again at once."
        raise Refused("no other work on this workload", f"a {purpose} that is under way", remedy)


def _open(request: Request, workload: Workload, saved: SavedStore, given: str | None, ownership: int) -> RunContext:
    now = datetime.now(UTC)
    unfinished = None if request.dry_run else unfinished_incident(workload)
    incident_id = choose_id(given, unfinished, request.created, workload.incident_suffix)
    if given and request.new_incident:
        require_new(workload, given, saved)
    elif given and given != last_incident(workload):
        require_known(workload, given, saved)
    home = find_home(workload, incident_id, dry_run=request.dry_run)
    if not request.dry_run and last_verdict(home) is Word.THAWED:
        raise Refused("an incident to carry on", f"{incident_id}, which was thawed and is over", "Give no incident_id.")
    alarm = request.alarm
    incident = read_incident(home) or Incident(
        id=incident_id,
        workload=request.workload,
        host=socket.gethostname(),
        boot=boot_id(),
        opened_at=now,
        detected_at=(request.detected_at or (alarm and alarm.occurred) or request.created).astimezone(UTC),
        reason=request.reason or (alarm.summary if alarm else "not given"),
        opened_by=f"{account_name(os.geteuid())}, flow run {request.run}",
    )
    require_same_workload(incident, request.workload)
    if not request.dry_run:
        name_incident(incident_id)
    question = _find_question(home, incident_id, unfinished, request.answer)
    with nullcontext() if request.dry_run else opening(workload, incident):
        run = RunInfo(
            id=request.run,
            dry_run=request.dry_run,
            policy=request.policy,
            suspects=request.suspects,
            unknown=request.unknown,
            trigger=request.trigger,
            order=request.order,
        )
        context = open_context(incident, workload, run, saved, ownership)
    how = {"dry_run": request.dry_run, "policy": request.policy, "triggered": request.created.isoformat()}
    if request.order:
        how["order"] = request.order.key
    context.log.write("run opened", incident_id, reason=request.reason, number=context.run.number, **how)
    if context.state.end_recovery():  # an evacuation contains what a recovery of its incident has brought back
        context.state.since.write(0)
        context.log.write("recovery ended", incident_id)
    if request.answer and question:
        keep_answer(context.state, context.log, request.answer, question, request.reason)
    if alarm:
        context.log.write("triggered", request.run, alarm=alarm.facts)
    take_over_triggers(context.directory.path, context.log)
    if not request.dry_run:
        sign(ownership, "evacuation", incident_id)
    tell_rights(workload, context.log)
    tell_room(context.directory, workload, context.log)
    tell_key(saved)
    return context


def _find_question(home: Path, incident: str, unfinished: str | None, answer: GivenAnswer | None) -> Unknown | None:
    """Return the process that an answer is about. Raises Refused if the incident does not ask for it."""
    if answer is None:
        return None
    if incident != unfinished:
        remedy = "What runs there now is a matter of the next evacuation."
        raise Refused("the incident that is open", f"{incident}; {unfinished or 'none'} is open", remedy)
    return find_unknown(home, LinuxHost(), answer.pid)


def choose_id(given: str | None, unfinished: str | None, created: datetime, suffix: str = "") -> str:
    """Return the id of the incident of a run: the given one, else the workload's unfinished one, else a new one."""
    if given and unfinished and given != unfinished:
        remedy = f"Run again with incident_id={unfinished}, or leave incident_id empty, which carries it on."
        raise Refused(f"the unfinished incident {unfinished} of this workload to be carried on first", given, remedy)
    return given or unfinished or new_id(created, suffix)


def _own(base: Path, *, dry_run: bool) -> int | None:
    """Take the workload's lock. If the folder takes no lock, containment goes on without, and the log says so."""
    lock, reason = None, "it is a link"

    def is_decided() -> bool:
        nonlocal lock
        lock = take_ownership(base, dry_run=dry_run)
        return lock is not None or owner(base, dry_run=dry_run) != PAPER

    try:
        if not base.is_symlink():
            if poll_until(is_decided, _PAPER_SECONDS, _POLL_SECONDS):
                return lock
            reason = "a postmortem is being written for very long"
    except OSError as error:
        reason = str(error)
    time_limit().lose(f"{base} takes no lock: {reason}. Nothing keeps another run of this workload out")
    return os.memfd_create("owner")
