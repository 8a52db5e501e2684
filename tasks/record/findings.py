"""§8: collect and judge what the steps of an evacuation returned, and build the content of the record."""

from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from prefect.client.schemas.objects import State

from tasks.collectors import discover
from tasks.containment.containment_check import find_endable, find_standing, find_stopped, stance
from tasks.containment.cordon import IncidentCordon
from tasks.containment.earlier_boots import with_earlier_boots
from tasks.containment.members import Membership
from tasks.containment.silence import Writers, with_silence
from tasks.custody.containment.cordon import Challenge, Cordon
from tasks.custody.containment.pause import Pause
from tasks.custody.containment.receipt import Containment, Freeze, Recovery, Stop, Watch
from tasks.custody.evidence.acquisition import Evidence, Outcome, Seal
from tasks.custody.evidence.keys import NOT_TAKEN, volume_folder
from tasks.custody.evidence.secrets_in_files import notes_of as secrets_told
from tasks.custody.incident.commands import run_line
from tasks.custody.incident.incident import Incident
from tasks.custody.incident.log import CustodyLog
from tasks.custody.incident.question import answers
from tasks.custody.incident.stance import ALL_FROZEN, ALL_STOPPED, REST_FROZEN
from tasks.custody.incident.steps import StepId
from tasks.custody.incident.timeline import describe_ran_on, seconds_taken
from tasks.custody.incident.verdict import Verdict, Word, judge, ways_in
from tasks.custody.models.inspection import Inspection
from tasks.custody.step_result import StepResult
from tasks.custody.store.latest import Promotion
from tasks.custody.store.receipts import Receipts
from tasks.evidence.collect import is_needed
from tasks.evidence.deleted_in_stop import find_deleted
from tasks.evidence.signing import find_signer, note_unsigned
from tasks.evidence.uncollected_model import find_uncollected
from tasks.evidence.written_since import describe_written, note_written
from tasks.incident.thaw_refusal import why_not_thaw
from tasks.record.content import Findings, RecordContent
from tasks.runtime.context import RunContext
from tasks.runtime.step import StepRunner, end_of, result_of, result_or_reason, words
from tasks.system.cancellation import RunCancelled

_SPEAK_FOR_THEMSELVES: Final = frozenset[StepId]({"collect", "judge_models", "claim_store", "recover"})


def findings_of(steps: StepRunner, evidence: tuple[Evidence, ...]) -> Findings:
    """Wait for all submitted steps, and return their results. `evidence` is what was sealed."""
    context, recovers = steps.context, bool(steps.futures("recover"))
    freeze, stop = with_earlier_boots(context.state, steps.result(Freeze, "freeze"), steps.result(Stop, "stop"))
    containment = steps.result(Containment, "prove_contained_again", "prove_still_contained")
    if containment and (writers := steps.result(Writers, "rehearse_silence")):
        containment = replace(containment, alive=(*containment.alive, *writers.contradictions))
    return Findings(
        freeze=freeze,
        stop=stop,
        containment=containment,
        pause=steps.result(Pause, "pause"),
        challenge=steps.result(Challenge, "challenge"),
        watch=steps.result(Watch, "watch"),
        evidence=evidence,
        seals=tuple(seal for future in steps.futures("seal") if (seal := result_of(future, Seal))),
        proven=steps.result(Receipts, "verify"),
        trouble=troubles(steps),
        promoted=steps.result(Promotion, "promote"),
        recovery=result_or_reason(Recovery, *steps.futures("recover", "check_seal")) if recovers else None,
        inspection=steps.result(Inspection, "judge_models"),
        warnings=(
            *context.losses,
            *filter(None, [describe_written(context.written_since)]),
            *steps.warnings(),
            *answers(context.log.entries()),
            *(each.summary for each in context.state.answers.read()),
        ),
        cordon=steps.result(Cordon, "cordon"),
    )


def last_findings(steps: StepRunner, evidence: tuple[Evidence, ...]) -> Findings:
    """Return the findings once all steps have ended, with what was changed below the root since the last check."""
    note_written(steps.context, evidence)
    findings = findings_of(steps, evidence)
    if findings.containment and findings.containment.is_contained:
        return replace(findings, containment=with_silence(steps.context, findings.containment))
    return findings


def troubles(steps: StepRunner) -> tuple[str, ...]:
    """Return the steps that ended without a result, with the reason. Omits steps that only waited for a failed one."""
    ends = [(title, end_of(future)) for step, title, future in steps.submitted if step not in _SPEAK_FOR_THEMSELVES]
    bad = [(title, state) for title, state in ends if not state.is_completed() and not _has_result(state, StepResult)]
    first = [(title, state) for title, state in bad if state.is_final()]
    own = [(title, state) for title, state in first if not _has_result(state, RunCancelled)]
    return tuple(f"{title}: {words(state)}" for title, state in (own if own != first else first or bad))


def note_end(steps: StepRunner, findings: Findings) -> None:
    """Log which steps an earlier run of the incident had done, and whether this run was cancelled."""
    for step_id, title, future in steps.submitted:
        if end_of(future).name == "Cached":
            steps.context.log.write("step cached", title, step_id=step_id)
    states = [] if findings.recovery is None else [describe_recovery(findings.recovery)]
    note_cancelled(steps.context, findings.containment, "stored" if findings.is_stored else "not stored", *states)


def note_cancelled(context: RunContext, containment: Containment | None, *more: str) -> None:
    """Log that the run was cancelled, and the state that it leaves, such as "contained, not stored"."""
    if not context.cancelled:
        return
    stands = stance(context, containment)
    context.cancelled.stopped = find_stopped(context.state, context.adapters.host) if stands in REST_FROZEN else 0
    context.cancelled.results = (stands, *more) if stands in ALL_STOPPED else (stands,)
    fields = {"by": context.cancelled.by, "at": str(context.cancelled.at), "result": context.cancelled.summary}
    context.log.write("cancelled", context.incident.id, **fields)


def describe_recovery(recovery: Recovery | str | None) -> str:
    """Return whether the API is back, in a word or two."""
    return "recovered" if isinstance(recovery, Recovery) else "not recovered"


def _has_result(state: State[Any], kind: type[StepResult | RunCancelled]) -> bool:
    return state.is_final() and isinstance(state.result(raise_on_failure=False), kind)


def wait_for_collectors(steps: StepRunner) -> tuple[Evidence, ...]:
    """Wait for the submitted collectors and the pause of Prefect's side; return what the collectors returned."""
    steps.result(Pause, "pause")
    results = (result_of(future, Evidence) for future in steps.futures("collect"))
    return tuple(item for item in results if item)


def every_collector(steps: StepRunner) -> tuple[Evidence, ...]:
    """Wait for the collectors; return one Evidence each. A step that crashed counts as a failed attempt."""
    results, context = {item.collector: item for item in wait_for_collectors(steps)}, steps.context
    block, now = context.workload, datetime.now(UTC)
    failed = partial(
        Evidence,
        outcome=Outcome.FAILED,
        reason="the run was cancelled" if context.cancelled else "the step itself failed",
        started_at=now,
        ended_at=now,
        volume=context.run.volume,
    )
    return tuple(
        results.get(name)
        or failed(collector=name, needed=is_needed(block, each), may_be_missing=name in block.may_be_missing)
        for name, each in discover().items()
    )


def verdict_of(context: RunContext, findings: Findings) -> Verdict:
    """Judge the incident from its receipts."""
    cancelled = f"the run was cancelled: {context.cancelled.summary}" if context.cancelled else ""
    silence = context.store.find_silence() if context.cancelled and not findings.is_stored else None
    silent = silence.tell_tried() if silence else ""
    untrusted, block = context.store.why_not_trusted(context.workload), context.workload
    deleted, others = find_deleted(context, findings.evidence)
    verdict = judge(
        context.incident.id,
        findings.containment,
        findings.evidence,
        (*findings.objects, *(findings.promoted.objects if findings.promoted else ())),
        (*filter(None, (cancelled, untrusted, silent)), *findings.trouble),
        workload=context.incident.workload,
        ways_in=ways_in(findings.pause, findings.challenge, findings.watch),
        notes=(
            *notes_of(findings),
            *findings.warnings,
            *filter(None, [others]),
            *note_unsigned(findings.seals, find_signer(context.store)),
        ),
        first=findings.inspection.none_sound(block.model_imports, block.model_formats) if findings.inspection else "",
        losses=[
            *filter(None, [context.directory.not_followed, deleted]),
            *find_uncollected(context, findings.evidence),
        ],
    )
    if findings.trouble and context.state.claimed.read():
        verdict = verdict.under_another_id(context.incident.workload)
    if not (ALL_FROZEN | REST_FROZEN).isdisjoint(context.cancelled.results):
        pids = [identity.pid for identity in find_standing(IncidentCordon(context), context.state)]
        may_thaw = not why_not_thaw(context.directory.path)
        stopped, workload = context.cancelled.part_stopped, context.incident.workload
        return verdict.while_frozen(pids, context.incident.id, workload, may_thaw=may_thaw, stopped=stopped)
    if context.cancelled and verdict.word is Word.NOT_CONTAINED and not context.run.dry_run:
        endable = find_endable(IncidentCordon(context), Membership(context))
        return verdict.when_cancelled(endable, context.incident.id, context.incident.workload)
    if cancelled and verdict.word is Word.UNVERIFIED and not (untrusted or silent or findings.trouble):
        return verdict.when_cut_short(context.incident.id, context.incident.workload)
    if recovery := findings.recovery_receipt:
        return verdict.after_recovery(recovery.summary, line_to_name(context.incident, recovery))
    return verdict


def line_to_name(incident: Incident, recovery: Recovery) -> str:
    """Return the command of a recovery that names the model which the API serves; empty if more is not proven."""
    model = recovery.model_to_name
    return run_line("recover", incident.workload, incident.id, model) if model else ""


def notes_of(findings: Findings) -> tuple[str, ...]:
    """Return facts that are no loss but must be known: untrusted models, secrets, and what was withheld."""
    model_notes = findings.inspection.notes if findings.inspection else ("no model was judged, so none was promoted",)
    secrets = secrets_told(search for item in findings.evidence for search in item.searches)
    withheld = list[str]()
    for item in findings.evidence:
        for loss in (loss for loss in item.losses if loss.outcome is Outcome.WITHHELD):
            rest = f"{loss.reason}; {volume_folder(item.volume)}/{NOT_TAKEN} lists all 一覧"
            withheld.append(rest if loss.source == NOT_TAKEN else f"{loss.source} was {loss.reason}")
    promotion = findings.promoted
    bare = promotion and promotion.turn and not promotion.objects
    latest = [f"latest/ holds no file of this incident: {promotion.reason}"] if promotion and bare else []
    return (*model_notes, *secrets, *dict.fromkeys(withheld), *latest)


def content_of(log: CustodyLog, verdict: Verdict, findings: Findings) -> RecordContent:
    """Build the content of an evacuation's record."""
    whole = findings.containment is not None and findings.containment.is_complete
    contained = whole and verdict.word is not Word.NOT_CONTAINED
    seconds = seconds_taken(log.entries(), datetime.now(UTC), contained=contained)
    if ran_on := describe_ran_on(seconds):
        verdict = replace(verdict, notes=(ran_on, *verdict.notes))
    checks = (findings.containment, findings.pause, findings.challenge, findings.watch, findings.freeze, findings.stop)
    names = ("containment", "pause", "challenge", "watch", "freeze", "stop")
    facts = {
        **{name: check and asdict(check) for name, check in zip(names, checks, strict=True)},
        "coverage": [asdict(item) for item in findings.evidence],
        "models": findings.inspection and [asdict(each) for each in findings.inspection.findings],
        "recovery": findings.recovery_receipt and asdict(findings.recovery_receipt),
        "not_recovered": findings.recovery if isinstance(findings.recovery, str) else "",
        "objects": [asdict(receipt) for receipt in findings.objects],
        "promotion": findings.promoted and asdict(findings.promoted),
    }
    return RecordContent(verdict, {**facts, **seconds}, findings)
