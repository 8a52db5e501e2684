"""§8: write the record of a run: verdict, postmortem, custody segment, closing.json last; on disk, then stored."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tasks.collectors import discover
from tasks.custody.containment.receipt import Containment, Freeze, Recovery, Stop, Watch
from tasks.custody.errors import Tampered
from tasks.custody.evidence.acquisition import Evidence, Seal
from tasks.custody.evidence.keys import CLOSING, MANIFEST, SEGMENT, VERDICT, record_key, volume_folder
from tasks.custody.incident.verdict import Verdict, not_contained
from tasks.custody.models.inspection import Inspection, ModelFinding
from tasks.custody.step_result import StepResult
from tasks.custody.store.latest import Promotion
from tasks.custody.store.manifest import canonical, digest, digest_bytes
from tasks.custody.store.receipts import ObjectReceipt
from tasks.evidence.signing import Signer, sign, who_signs
from tasks.incident.layout import RECORD, closings
from tasks.record.artifacts import build_artifacts
from tasks.record.dry_run_plan import PLAN_FILE, as_text, plan
from tasks.record.excerpts import quotes
from tasks.record.postmortem import postmortem
from tasks.record.render import MARKDOWN, pages
from tasks.record.report_data import Places, ReportData
from tasks.rendering.document import Document
from tasks.runtime.context import RunContext
from tasks.runtime.joined_triggers import take_over_triggers
from tasks.runtime.step import step
from tasks.system.atomic_files import write_whole

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, repr=False)
class RecordContent(StepResult):
    """What a record tells: the verdict, the facts beneath it, the seals, and what the postmortem is made of."""

    verdict: Verdict
    facts: Mapping[str, Any]
    seals: tuple[Seal, ...]
    freeze: Freeze | None
    stop: Stop | None
    coverage: tuple[Evidence, ...]
    promoted: Promotion | None
    recovery: Recovery | None
    inspection: Inspection | None = None
    objects: tuple[ObjectReceipt, ...] = ()

    @property
    def summary(self) -> str:
        """In a word."""
        return self.verdict.word


@dataclass(frozen=True, repr=False)
class Record(StepResult):
    """The record of one run, in its folder on disk; `stored` once the store vouches for every file of it."""

    folder: str
    verdict: Verdict
    stored: bool
    reason: str

    @property
    def is_complete(self) -> bool:
        """False while the store lacks it."""
        return self.stored

    @property
    def summary(self) -> str:
        """In a few words."""
        return f"{self.verdict.word}; record in {self.folder}" + (f"; {self.reason}" if self.reason else "")


@dataclass(frozen=True)
class LastRecord:
    """The incident's last closed record, read back: its number, its verdict, and the facts beneath it."""

    number: int
    verdict: Verdict
    facts: Mapping[str, Any]


@step("§8", "record", "write the record", "記録", last=True)
def record(context: RunContext, content: RecordContent) -> Record:
    """Write record/NNN/, closing.json last, then send it: on disk before the flow returns, whatever the store does."""
    verdict = content.verdict
    take_over_triggers(context)
    context.log.write("verdict", context.incident.id, word=verdict.word, missing=list(verdict.missing))
    context.record.mkdir(mode=0o700, parents=True)
    data = _report_data(context, content)
    trouble = _write_pages(context, data)
    about = {"incident": asdict(context.incident), "run": context.run, "verdict": asdict(verdict)}
    context.write(context.record / VERDICT, canonical({**content.facts, **about}))
    context.write(context.record / SEGMENT, b"".join(context.log.lines(context.segments_end())))
    closing = canonical(_closing(context, content))
    if signature := sign(context, f"record/{context.record.name}/{CLOSING}", closing, digest_bytes(closing)):
        context.write(context.record / f"{CLOSING}.sig", signature)
    context.write(context.record / CLOSING, closing)
    context.log.sync()
    if context.cancelled:
        return Record(str(context.record), verdict, stored=False, reason="not sent: the run was cancelled")
    try:
        _send(context)
    except Exception as error:  # noqa: BLE001  the record must end on disk whatever the store does
        logger.error("The record is on disk only: %s", error)  # noqa: TRY400  the message says it all
        untold = replace(data, stored=False)
        _bring_to_the_ui(context, untold, postmortem(untold))
        return Record(str(context.record), verdict, stored=False, reason=f"not in the store: {error}")
    return Record(str(context.record), verdict, stored=True, reason="; ".join(trouble))


def _write_pages(context: RunContext, data: ReportData) -> tuple[str, ...]:
    """What people read. One that cannot be made or kept is told in the custody log; the record closes without it.

    The context has it for the UI, whatever the disk takes. The reserve is for the record itself: of the pages only the
    one in Markdown may draw on it.
    """
    made = pages(data)
    trouble = [*made.trouble, *_bring_to_the_ui(context, data, made.document)]
    planned = {PLAN_FILE: as_text(plan(data.entries)).encode()} if data.dry_run else {}
    for name, page in {**made.files, **planned}.items():
        try:
            write = context.write if name == MARKDOWN else write_whole
            write(context.record / name, page)
        except OSError as error:
            trouble.append(f"{name} could not be written: {error}")
    for words in trouble:
        logger.error("%s", words)
        context.log.write("page missing", context.incident.id, reason=words)
    return tuple(trouble)


def _bring_to_the_ui(context: RunContext, data: ReportData, postmortem: Document) -> tuple[str, ...]:
    try:
        context.artifacts = build_artifacts(data, postmortem)
    except Exception as error:
        logger.exception("No pages for the UI")
        return (f"the pages of the UI could not be made: {type(error).__name__}: {error}",)
    return ()


def last_record(context: RunContext) -> LastRecord:
    """Read the last closed record back; Tampered unless its verdict is the one that its closing vouches for."""
    closing = closings(context.home)[-1]
    said = json.loads(closing.read_bytes())["files"][VERDICT]
    data = closing.with_name(VERDICT).read_bytes()
    if (sha256 := digest_bytes(data)) != said:
        raise Tampered(
            f"{closing.with_name(VERDICT)} with sha256 {said}, as its {CLOSING} says",
            sha256,
            "Nothing was touched.",
            "Compare the record with the one in the store.",
        )
    facts = json.loads(data)
    return LastRecord(int(closing.parent.name), TypeAdapter(Verdict).validate_python(facts["verdict"]), facts)


def carried(  # noqa: PLR0913  what a recovery adds to what is known
    context: RunContext,
    last: LastRecord,
    seals: tuple[Seal, ...],
    *,
    recovery: Recovery | str,
    containment: Containment | str | None,
    despite: str,
) -> RecordContent:
    """Make the content of a recovery's record: the facts are those of the last record, and say so.

    The verdict stays what it was, unless a failed recovery left something alive. `containment` is the look after it,
    why there was none, or None where nothing had to be contained again.
    """
    back = None if isinstance(recovery, str) else recovery
    if back:
        verdict = last.verdict.after_recovery(back.summary)
    else:
        verdict = last.verdict.after_failed_recovery(
            context.incident.id, _left(containment), workload=context.incident.workload
        )
    facts = {
        "carried_from": f"record/{last.number:03d}",
        **last.facts,
        "recovery": back and asdict(back),
        "not_recovered": "" if back else recovery,
        "despite": despite,
    }
    if isinstance(containment, Containment):
        facts["containment"] = asdict(containment)
    findings = _read(tuple[ModelFinding, ...], facts.get("models"))
    return RecordContent(
        verdict=verdict,
        facts=facts,
        seals=seals,
        freeze=_read(Freeze, facts["freeze"]),
        stop=_read(Stop, facts["stop"]),
        coverage=coverage_of(facts),
        promoted=_read(Promotion, facts.get("promotion")),
        recovery=back,
        inspection=None if findings is None else Inspection(findings),
        objects=_read(tuple[ObjectReceipt, ...], facts.get("objects")) or (),
    )


def coverage_of(facts: Mapping[str, Any]) -> tuple[Evidence, ...]:
    """Read back what an earlier record says of the collectors."""
    return _read(tuple[Evidence, ...], facts.get("coverage")) or ()


def _left(containment: Containment | str | None) -> tuple[str, ...]:
    if isinstance(containment, str):
        return (f"whether the workload runs was not established: {containment}",)
    return not_contained(containment) if containment else ()


def _read(kind: type[T], fact: Any) -> T | None:
    """What a record of another version of this program says may not be read; the facts themselves are carried on."""
    try:
        return TypeAdapter(kind).validate_python(fact) if fact is not None else None
    except ValidationError as error:
        logger.error("The postmortem goes without what an earlier record says: %s", error)  # noqa: TRY400
        return None


def _send(context: RunContext) -> None:
    """Send this record and any earlier one that did not get there; each closing last."""
    for folder in sorted((context.home / RECORD).iterdir()):
        for path in sorted(_whole(folder), key=lambda path: (path.name == CLOSING, path.name)):
            context.store.create(record_key(context.incident.id, int(folder.name), path.name), path, digest(path))


def _whole(folder: Path) -> list[Path]:
    """The files of a record; what was cut short while it was written is none of them, nor the signature of nothing."""
    lone = set() if (folder / CLOSING).exists() else {f"{CLOSING}.sig"}
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in lone)


def _closing(context: RunContext, content: RecordContent) -> dict[str, Any]:
    files = {path.name: digest(path) for path in _whole(context.record) if path.name != CLOSING}
    who = who_signs(context)
    return {
        "incident": context.incident.id,
        "record": context.number,
        "run": context.run,
        "verdict": content.verdict.word,
        "closed_utc": datetime.now(UTC).isoformat(),
        "files": files,
        "signer": asdict(who) if isinstance(who, Signer) else None,
        "retention": asdict(context.retention) if context.retention else None,
        **({"cancelled": context.cancelled.summary} if context.cancelled else {}),
        "manifests": {f"{volume_folder(sealed.volume)}/{MANIFEST}": sealed.manifest_sha256 for sealed in content.seals},
    }


def _report_data(context: RunContext, content: RecordContent) -> ReportData:
    return ReportData(
        incident=context.incident,
        number=context.number,
        dry_run=context.dry_run,
        places=Places(str(context.home), context.place, context.store_name, context.address),
        verdict=content.verdict,
        freeze=content.freeze,
        stop=content.stop,
        watch=_read(Watch, content.facts.get("watch")),
        coverage=content.coverage,
        inspection=content.inspection,
        seals=content.seals,
        promoted=content.promoted,
        recovery=content.recovery or content.facts.get("not_recovered") or None,
        quotes=quotes(context, content.coverage),
        entries=context.log.entries(),
        retention=context.retention,
        questions={name: collector.answers for name, collector in discover().items()},
        objects=content.objects,
        recovering="carried_from" in content.facts,
    )
