"""§7, §8: reopen an incident for its recovery, thaw or postmortem, and refuse one that must not be reopened."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from blocks.workload import Workload
from tasks.containment.release.thaw import require_believable
from tasks.custody.errors import Refused
from tasks.custody.incident.commands import run_line
from tasks.custody.incident.ending import ALREADY_THAWED, JOINED, THAWED
from tasks.custody.incident.incident import Incident, parse_id
from tasks.custody.incident.postmortem_fields import PostmortemFields
from tasks.custody.incident.verdict import Word, why_not_recover
from tasks.incident.current import last_incident, last_verdict, read_incident, unfinished_incident
from tasks.incident.directory import base_of, bases, evidence_of, find_home
from tasks.incident.joining import own_incident
from tasks.incident.last_postmortem import written_before
from tasks.incident.layout import EARLY, closings, manifests
from tasks.incident.run_lock import Purpose, take_ownership
from tasks.incident.thaw_refusal import why_not_thaw
from tasks.people.open_question import open_question
from tasks.prefect_side.saved_blocks import SavedStore, load_block, require_store
from tasks.preflight.known_incident import look_up
from tasks.preflight.open_incident import NotOpened, Opened
from tasks.preflight.requirements import require_here, require_same_workload
from tasks.runtime.actor import BY_HAND
from tasks.runtime.context import RunInfo, open_context
from tasks.runtime.flow_run import finished_before, origin, own_launchers
from tasks.runtime.step import step_without_incident


@dataclass(frozen=True)
class Reopening:
    """What a trigger asks to reopen and for what, the run that it started, and who approved it (empty if not asked)."""

    workload: str
    store: str
    incident_id: str | None
    despite: str
    run: str
    approved: str = ""
    purpose: Purpose = "recovery"
    reason: str = ""


@step_without_incident("reopen", "open the incident again", section="§0", retries=1)
def reopen(request: Reopening) -> Opened | NotOpened:
    """Check all that can be checked without touching anything, then open the incident.

    Raises Refused for bad input, and for an incident that must not be recovered, cannot be thawed or has no record.
    """
    given = parse_id(request.incident_id) if request.incident_id is not None else None
    workload: Workload = load_block(Workload, request.workload)
    saved, trigger = require_store(request.store), origin(own_launchers())
    require_here(workload)
    own = own_incident(request.run, bases(workload)) if request.run != BY_HAND else None  # that names no one run
    incident = _incident(workload, request.workload, given or (own.name if own else None))
    thaws = request.purpose == "thaw"
    if request.purpose == "postmortem":  # before the lock, which keeps evacuations out: it is held for no dead store
        _require_stored(incident.id, saved)
    ownership = take_ownership(base_of(workload), request.purpose)
    if ownership is None and thaws:
        got, remedy = "one that is", "Cancel it in Prefect, or by Ctrl-C where it was typed, then thaw."
        if question := open_question(find_home(workload, incident.id)):
            got = f"run {question.run}, which waits for a person"
            remedy = f"Answer it by Resume in Prefect's UI, or cancel it, then thaw: {question.cancel}"
        raise Refused("no run at work on this workload", got, remedy)
    if ownership is None:
        return NotOpened(
            JOINED,
            "expected to be the only run that works on this workload; got another one, on "
            f"{last_incident(workload)}. This run did nothing. Watch the other run, then run this one again.",
        )
    try:
        if thaws and last_verdict(find_home(workload, incident.id)) is Word.THAWED:
            os.close(ownership)
            end = finished_before(request.run) if own else THAWED
            return NotOpened(end, f"{incident.id} {ALREADY_THAWED}; nothing was done. すでに解凍済みです。")
        _REQUIRE[request.purpose](workload, incident, request.despite)
        run = RunInfo(request.run, trigger=trigger)
        context = open_context(incident, workload, run, saved, ownership)
        why = request.reason or request.purpose
        context.log.write("run opened", incident.id, reason=why, number=context.run.number, despite=request.despite)
        if request.approved:
            context.log.write("approved", incident.id, result=request.approved)
    except BaseException:
        os.close(ownership)
        raise
    return Opened(context)


def approval_question(workload: str, incident_id: str | None) -> tuple[str, str]:
    """Return the question for a recovery's approval, and its key. Raises Refused for bad input."""
    block: Workload = load_block(Workload, workload)
    incident = _incident(block, workload, incident_id)
    verdict = last_verdict(find_home(block, incident.id)) or "not judged yet"
    question = (
        f"**{workload} will be recovered from {incident.id} ({verdict})**: the cordon is lifted, training may start "
        "again, the API is restarted, and the model that it serves is compared with the manifest. 復旧の承認。\n\n"
        "Without an answer it stays contained."
    )
    return question, f"recover-{incident.id}"


def postmortem_before(workload: str, incident_id: str | None) -> tuple[str, PostmortemFields]:
    """Return the incident that a postmortem is about, and what was written before. Raises Refused for bad input."""
    block: Workload = load_block(Workload, workload)
    require_here(block)
    incident = _incident(block, workload, incident_id)
    return incident.id, written_before(find_home(block, incident.id))


def _incident(block: Workload, workload: str, given: str | None) -> Incident:
    incident_id = parse_id(given) if given is not None else last_incident(block)
    incident = read_incident(find_home(block, incident_id)) if incident_id else None
    if incident is None:
        got = f"{incident_id or 'none'} in {evidence_of(block)}"
        remedy = "Give the id of an incident, or run the evacuation first."
        raise Refused(f"an incident of {workload} on this host", got, remedy)
    require_same_workload(incident, workload)
    return incident


def _require_recoverable(workload: Workload, incident: Incident, despite: str) -> None:
    """Raise Refused unless the verdict allows a recovery. Call with the workload's lock, so that no run changes it."""
    unfinished, home = unfinished_incident(workload), find_home(workload, incident.id)
    why_not = why_not_recover(last_verdict(home), despite)
    if unfinished not in {None, incident.id}:
        why_not = f"{unfinished} of this workload is not finished"
    if not why_not and not manifests(home):
        why_not = "it has no manifest to compare a model with"
    if why_not:
        line = run_line("evacuate", incident.workload, unfinished or incident.id)
        remedy = (
            f"Carry on what is not finished: {line}; where it is UNVERIFIED or UNANSWERED and the API is needed all "
            "the same, say why in despite (by hand --despite 'WHY')."
        )
        if not unfinished and last_verdict(home) is Word.THAWED:
            remedy = f"There is nothing to bring back. To evacuate now: {run_line('evacuate', incident.workload)}"
        raise Refused(f"{incident.id} to be an incident that may be recovered", why_not, remedy)


def _require_recorded(workload: Workload, incident: Incident, _: str) -> None:
    """Raise Refused unless a run has closed a record, with which a postmortem goes."""
    if not closings(find_home(workload, incident.id)):
        remedy = f"Carry it on first: {run_line('evacuate', incident.workload, incident.id)}"
        raise Refused(f"{incident.id} to have a closed record", "none", remedy)


def _require_stored(incident: str, saved: SavedStore) -> None:
    """Raise Refused unless the store answers, and has the incident."""
    place, is_stored = look_up(incident, saved)
    if not is_stored:
        got = f"nothing of it in {place}" if place else "no answer in time"
        remedy = "Nothing was written. Mend the store, or carry the incident on, and run this again."
        raise Refused(f"a store that has {incident}", got, remedy)


def _require_thawable(workload: Workload, incident: Incident, _: str) -> None:
    """Raise Refused unless the incident can be thawed. Call with the workload's lock, so that no run stops anything."""
    home = find_home(workload, incident.id)
    if (unfinished := unfinished_incident(workload)) != incident.id:
        open_one = f"{unfinished} is open" if unfinished else "none is open"
        remedy = "Nothing of it can be thawed any more."
        if (base_of(workload) / EARLY).exists():  # which the thaw by hand lets go, without an incident
            on_host = f"evacuation thaw evacuation.toml:{incident.workload}"
            remedy = f"What a run has frozen that died before it opened an incident is let go on its host: {on_host}"
        raise Refused("the incident that is open", f"{incident.id}; {open_one}", remedy)
    require_believable(home, bases(workload))
    if why_not := why_not_thaw(home):
        remedy = f"Carry it on, then recover: {run_line('evacuate', incident.workload, incident.id)}"
        raise Refused(f"{incident.id} to be frozen and not yet stopped", why_not, remedy)


_REQUIRE: Final[Mapping[Purpose, Callable[[Workload, Incident, str], None]]] = {
    "recovery": _require_recoverable,
    "thaw": _require_thawable,
    "postmortem": _require_recorded,
}
