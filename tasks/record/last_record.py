"""§7, §8: read the last record of an incident, and carry its facts into the next."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tasks.custody.containment.receipt import Containment, Freeze, Recovery, Stop, Watch
from tasks.custody.errors import Tampered
from tasks.custody.evidence.acquisition import Evidence, Seal
from tasks.custody.evidence.keys import CLOSING, POSTMORTEM, VERDICT
from tasks.custody.incident.incident import Incident
from tasks.custody.incident.log import CustodyLog
from tasks.custody.incident.postmortem_fields import PostmortemFields
from tasks.custody.incident.verdict import Verdict, Word, not_contained
from tasks.custody.models.inspection import Inspection, ModelFinding
from tasks.custody.store.latest import Promotion
from tasks.custody.store.manifest import digest_bytes
from tasks.custody.store.receipts import ObjectReceipt, Receipts
from tasks.incident.last_postmortem import written_before
from tasks.incident.layout import closings
from tasks.record.content import Findings, RecordContent
from tasks.record.findings import line_to_name

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class LastRecord:
    """The incident's last closed record: number, verdict, and the facts that the verdict rests on."""

    number: int
    verdict: Verdict
    facts: Mapping[str, Any]


def last_record(home: Path) -> LastRecord:
    """Read the last closed record. Raises Tampered if its verdict does not match the digest in its closing."""
    closing = closings(home)[-1]
    expected = json.loads(closing.read_bytes())["files"][VERDICT]
    data = closing.with_name(VERDICT).read_bytes()
    if (sha256 := digest_bytes(data)) != expected:
        sealed = f"{closing.with_name(VERDICT)} with sha256 {expected}, as its {CLOSING} says"
        raise Tampered(sealed, sha256, "Nothing was touched.", "Compare the record with the one in the store.")
    facts = json.loads(data)
    return LastRecord(int(closing.parent.name), TypeAdapter(Verdict).validate_python(facts["verdict"]), facts)


def build_recovery_content(  # noqa: PLR0913  what a recovery adds to what is known
    incident: Incident,
    last: LastRecord,
    seals: tuple[Seal, ...],
    *,
    recovery: Recovery | str,
    containment: Containment | str | None,
    despite: str,
) -> RecordContent:
    """Build the content of a recovery's record from the facts of the last record, which it names.

    The verdict stays, unless a failed recovery left something alive. `containment` is the check after it, the reason
    why there was none, or None if an earlier recovery has let in what runs.
    """
    facts = {"carried_from": f"record/{last.number:03d}", **last.facts, "despite": despite}
    if isinstance(recovery, Recovery):
        facts |= {"recovery": asdict(recovery), "not_recovered": ""}
        verdict = last.verdict.after_recovery(recovery.summary, line_to_name(incident, recovery))
    else:
        facts |= {"recovery": None, "not_recovered": recovery}
        remaining = not_contained(containment) if isinstance(containment, Containment) else None
        if isinstance(containment, str):
            remaining = (f"whether the workload runs was not established: {containment}",)
        unknown = containment.unknown if isinstance(containment, Containment) else ()
        verdict = last.verdict.after_failed_recovery(incident.id, remaining, unknown, workload=incident.workload)
    if verdict.word is Word.NOT_CONTAINED:
        facts["contained_s"] = None
        facts.pop("stopped_s", None)
    if isinstance(containment, Containment):
        facts["containment"] = asdict(containment)
    findings = replace(findings_in(facts), seals=seals, recovery=recovery)
    return RecordContent(verdict, facts, findings, recovering=True)


def note_written(log: CustodyLog, home: Path, incident: str, by: str, texts: Mapping[str, str]) -> PostmortemFields:
    """Log who has finished the postmortem, and return its fields: `texts` replace what was written before."""
    fields = written_before(home).with_texts(texts)
    log.write("postmortem", incident, by=by, fields=[*texts], open=list(fields.open))
    return fields


def build_postmortem_content(last: LastRecord, seals: tuple[Seal, ...], fields: PostmortemFields) -> RecordContent:
    """Build the content of the record that puts a finished postmortem beside what the last record says."""
    recovery = _read(Recovery, last.facts.get("recovery")) or last.facts.get("not_recovered") or None
    recovering = "carried_from" in last.facts and recovery is not None
    facts = {**last.facts, POSTMORTEM: asdict(fields)}
    findings = replace(findings_in(facts), seals=seals, recovery=recovery)
    return RecordContent(last.verdict, facts, findings, recovering, fields)


def findings_in(facts: Mapping[str, Any]) -> Findings:
    """Read from a record's facts what the steps returned, but the seals and the recovery."""
    models = _read(tuple[ModelFinding, ...], facts.get("models"))
    return Findings(
        freeze=_read(Freeze, facts.get("freeze")),
        stop=_read(Stop, facts.get("stop")),
        watch=_read(Watch, facts.get("watch")),
        evidence=_read(tuple[Evidence, ...], facts.get("coverage")) or (),
        proven=Receipts(_read(tuple[ObjectReceipt, ...], facts.get("objects")) or ()),
        promoted=_read(Promotion, facts.get("promotion")),
        inspection=None if models is None else Inspection(models),
    )


def _read(kind: type[T], fact: Any) -> T | None:
    """Parse a fact; None, with a log entry, if it has another form."""
    try:
        return TypeAdapter(kind).validate_python(fact) if fact is not None else None
    except ValidationError as error:
        logger.error("The postmortem goes without what an earlier record says: %s", error)  # noqa: TRY400
        return None
