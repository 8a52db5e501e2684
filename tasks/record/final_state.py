"""§8: build the state in which a run ends, with the message that people get."""

import logging
from pathlib import Path
from typing import Any, Final

from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from blocks.workload import Workload
from tasks.acquisition.remainder import describe_not_taken
from tasks.custody.containment.cordon import Cordon
from tasks.custody.containment.receipt import Recovery
from tasks.custody.evidence.keys import POSTMORTEM
from tasks.custody.evidence.redact import redact
from tasks.custody.incident.ending import DRY_RUN, NOT_CONTAINED, NOT_RECOVERED, UNVERIFIED, WRITTEN, Ending, ending_of
from tasks.custody.incident.incident import Incident
from tasks.custody.incident.stance import cancelled_end
from tasks.custody.incident.verdict import Verdict, Word
from tasks.evidence.written_since import describe_written
from tasks.record.artifacts import PLAN
from tasks.record.content import RecordContent
from tasks.record.dry_run_plan import PLAN_FILE
from tasks.record.labels import JAPANESE, STANDS
from tasks.record.write import Record
from tasks.runtime.context import RunContext
from tasks.runtime.flow_run import make_state
from tasks.runtime.progress import artifact_key
from tasks.runtime.state import IncidentState

logger = logging.getLogger(__name__)

_BETTER: Final = frozenset({Word.VERIFIED, Word.PARTIAL, Word.UNANSWERED})
"""Words that say more than a run without a record may."""


def final_state(
    context: RunContext,
    verdict: Verdict,
    recorded: Record | str,
    recovery: Recovery | str | None,
    cordon: Cordon | None = None,
) -> State[Any]:
    """Return the state that the run ends in. It is Completed only if VERIFIED, with the record in the store.

    `recorded` is the reason if the record could not be written. `recovery` is None if none was wanted, the reason if it
    failed. `cordon` is the one that stands.
    """
    incident, is_kept = context.incident, context.directory.real
    why_lost = recorded if isinstance(recorded, str) else recorded.lost
    loss = _describe_loss(incident, why_lost, cordon, is_kept=is_kept) if why_lost else ""
    if context.cancelled:
        return _end_cancelled(context, verdict, loss)
    if isinstance(recorded, str) or loss:
        end = NOT_CONTAINED if verdict.word is Word.NOT_CONTAINED else UNVERIFIED
        return _end_run(context, end, _describe_unrecorded(incident, verdict, loss, is_kept=is_kept))
    whole = recorded.stored and not recorded.verdict.partly_thawed
    end = ending_of(recorded.verdict.word, recovery, dry_run=context.run.dry_run, stored=whole)
    if end is DRY_RUN:
        where = f"the artifact '{artifact_key(PLAN, incident.id)}', and {Path(recorded.folder) / PLAN_FILE}"
        return _end_run(context, end, _describe_rehearsal(recorded.verdict, where))
    rest = describe_not_taken(*context.directory.folders)
    rest = f"Not taken 未採取: {rest}" if rest else ""
    written = describe_written(context.written_since)
    message = _describe_record(incident, recorded, *filter(None, (written, context.unrest, rest)), is_kept=is_kept)
    failed = _not_back(context.workload, context.state, recovery) if isinstance(recovery, str) else ""
    message = f"{failed} The incident is {message}" if end is NOT_RECOVERED else f"{message} {failed}".rstrip()
    return _end_run(context, end, message, recovery)


def _describe_rehearsal(verdict: Verdict, where: str) -> str:
    """Return how the evacuation would end, what a dry run cannot know, and where its plan is."""
    word = f"{verdict.word} {JAPANESE[verdict.word]}"
    missing = f", for: {'; '.join(verdict.missing)}" if verdict.missing else ""
    first = f"first: {verdict.first}; " if verdict.first else ""
    unless = "unless the stop, the store's writes or the record go otherwise, none of which was tried 予行のみ"
    return f"{first}it would end {word}{missing}; {unless}. No evidence was sent. The plan: {where}"


def recovered_state(context: RunContext, recorded: Record | str, recovery: Recovery | str) -> State[Any]:
    """Return the state that a recovery ends in. Completed only if all is proven, with the record in the store."""
    failed = _not_back(context.workload, context.state, recovery) if isinstance(recovery, str) else ""
    summary = (recovery.summary if isinstance(recovery, Recovery) else failed).rstrip(". ")
    if isinstance(recorded, str) or recorded.lost:
        if isinstance(recorded, Record) and recorded.verdict.word is Word.NOT_CONTAINED:
            return _end_run(context, NOT_CONTAINED, _in_both(recorded.verdict, recorded.lost))
        return _end_run(context, UNVERIFIED, f"{summary}. But the record could not be written; see the log")
    if context.cancelled:
        return _end_cancelled(context, recorded.verdict)
    end = ending_of(recorded.verdict.word, recovery, recovering=True, stored=recorded.stored)
    stands = _describe_record(context.incident, recorded, is_kept=context.directory.real)
    return _end_run(context, end, f"{summary}. The incident is {stands}", recovery)


def written_state(context: RunContext, recorded: Record | str, content: RecordContent, before: int) -> State[Any]:
    """Return the state of a run that wrote the postmortem. How the incident stands does not change by it.

    `before` is the number of the record before it.
    """
    why = recorded if isinstance(recorded, str) else recorded.lost or ("" if recorded.stored else recorded.reason)
    page = f"record/{POSTMORTEM}/{context.run.number:03d}.md"
    open_fields = content.written.open if content.written else ()
    still = f"Still open 未記入: {', '.join(open_fields)}" if open_fields else "Nothing is open すべて記入済み"
    end = context.state.ended.read() or {}
    if end.get("record") == before and isinstance(recorded, Record) and not recorded.lost:
        context.state.ended.write({**end, "record": context.run.number})
    if why:
        return make_state(UNVERIFIED, f"{context.incident.id}: the postmortem is not proven to be in the store: {why}")
    return make_state(WRITTEN, f"{context.incident.id}: {page} is on record and stored 記録済み. {still}")


def _not_back(workload: Workload, state: IncidentState, why: str) -> str:
    api = f"The API at {redact(workload.api_address)}"
    if state.recovered.read():
        return f"{api} stays as an earlier recovery has brought it back 以前の復旧のまま; this one failed: {why}"
    return f"{api} did not come back API は復旧していません: {why}"


def _end_run(context: RunContext, end: Ending, message: str, recovery: Recovery | str | None = None) -> State[Any]:
    """Build the state, and note it for `status`, with the model that the next recovery may name."""
    model = recovery.model_to_name if isinstance(recovery, Recovery) else ""
    context.state.ended.write({"record": context.run.number, "end": end.name, **({"model": model} if model else {})})
    return make_state(end, f"{context.incident.id}: {message}")


def _describe_loss(incident: Incident, reason: str, cordon: Cordon | None, *, is_kept: bool) -> str:
    """Return what a run without a record leaves behind. Logs it too, because nothing else may report it."""
    message = f"the record could not be written, 記録を書けません: {reason}"
    if not is_kept:
        holder = cordon.guard if cordon else None
        guard = f"; the guard, process {holder.pid}, holds the lock without a marker" if holder else ""
        message += (
            f". No folder of this host takes a file, so nothing of this incident was kept: not its custody log, which "
            f"processes it has frozen and stopped, evidence, manifest, nor that it is open{guard}"
        )
    logger.error("%s: But %s", incident.id, message)
    return message


def _end_cancelled(context: RunContext, verdict: Verdict, loss: str = "") -> State[Any]:
    """Build the state of a cancelled run. A run that was cancelled during its record has done everything else."""
    summary = context.cancelled.summary or "its record is on this host only"
    stopped = context.cancelled.stopped
    count = [f"{stopped} 件停止済み"] if stopped else []
    ja = "・".join([*count, *(STANDS[each] for each in context.cancelled.results)])
    message = f"{context.incident.id}: {cancelled_end(summary)} 中止 {ja}."
    if not context.run.dry_run:  # a rehearsal has nothing to carry on
        message += f" {_in_both(verdict, f'But {loss}' if loss else '')}"
    context.state.ended.write({"record": context.run.number, "end": cancelled_end(summary)})
    return Cancelled(message=message)


def _in_both(verdict: Verdict, *more: str) -> str:
    """Return the verdict in one line, its word in both languages, with `more` sentences."""
    return verdict.line(*more).replace(verdict.word, f"{verdict.word} {JAPANESE[verdict.word]}", 1)


def _describe_unrecorded(incident: Incident, verdict: Verdict, why: str, *rest: str, is_kept: bool) -> str:
    """Return the verdict in one line if its record is lost, or not proven to be in the store: UNVERIFIED at best."""
    but = f"But {why}" if why else ""
    if verdict.word in _BETTER:
        verdict, but = verdict.without_record(why, incident.id, incident.workload), ""
    if not is_kept:
        verdict = verdict.of_what_was_not_kept()
    return _in_both(verdict, but, *rest)


def _describe_record(incident: Incident, recorded: Record, *rest: str, is_kept: bool) -> str:
    """Return the verdict in one line: no better than UNVERIFIED unless the store has the record."""
    if not recorded.stored:
        why = f"the record is {recorded.reason}"
        return _describe_unrecorded(incident, recorded.verdict, why, *rest, is_kept=is_kept)
    untimed = f"No time vouched for 時刻の証明なし: {recorded.untimed}" if recorded.untimed else ""
    return _in_both(recorded.verdict, untimed, *rest)
