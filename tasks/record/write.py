"""§8: write a run's record (verdict, postmortem, custody segment, closing.json last) to disk, then to the store."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from tasks.collectors import discover
from tasks.custody.errors import EvacuationError
from tasks.custody.evidence.keys import (
    CLOSING,
    MANIFEST,
    POSTMORTEM,
    SEGMENT,
    STATEMENT,
    VERDICT,
    postmortem_key,
    record_key,
    volume_folder,
)
from tasks.custody.incident.timeline import requests, took
from tasks.custody.incident.verdict import Verdict
from tasks.custody.step_result import StepResult
from tasks.custody.store.manifest import canonical, digest, digest_bytes
from tasks.custody.store.objects import Expected, one_object
from tasks.custody.store.statement import statement
from tasks.custody.visible import LINE_LIMIT, visible
from tasks.evidence.beside import create_or_beside
from tasks.evidence.claim import claim
from tasks.evidence.signing import Signer, find_signer, sign
from tasks.evidence.time_stamp import stamp
from tasks.incident.joining import take_over_triggers
from tasks.incident.last_postmortem import written_before
from tasks.incident.layout import RECORD, is_of_record
from tasks.incident.paths import IncidentDirectory
from tasks.record.artifacts import build_artifacts
from tasks.record.content import RecordContent, ReportData, ReportPlaces
from tasks.record.dry_run_plan import PLAN_FILE, as_text, plan
from tasks.record.excerpts import quotes
from tasks.record.postmortem import postmortem
from tasks.record.render import HTML, MARKDOWN, pages
from tasks.rendering.document import Document
from tasks.runtime.artifact import PrefectArtifact
from tasks.runtime.context import RunContext
from tasks.runtime.retry import may_pass
from tasks.runtime.step import step
from tasks.runtime.store_access import StoreAccess
from tasks.runtime.wait_for_store import waits_for_store
from tasks.storage.verify_object import create_kept, require_kept
from tasks.system.cancellation import PATIENCE_SECONDS
from tasks.system.files.atomic_files import sync_folder, write_whole

logger = logging.getLogger(__name__)

_SAME: Final = "not in the store, for the same reason as the evidence 証跡と同じ理由"


@dataclass(frozen=True, repr=False)
class Record(StepResult):
    """The record of one run, in its folder on disk. `stored` is true once the store has every file of it.

    `lost` says why it could not be written to disk: only its `artifacts`, for the UI, are left then. `untimed` says why
    no authority vouches for its time, if the store's block names one. It `is_transient` if it may be taken yet.
    """

    folder: str
    verdict: Verdict
    stored: bool
    reason: str
    artifacts: tuple[PrefectArtifact, ...] = ()
    lost: str = ""
    untimed: str = ""
    is_transient: bool = False

    @property
    def is_complete(self) -> bool:
        """True once the store has the record."""
        return self.stored

    @property
    def summary(self) -> str:
        """Verdict, if the store has it, folder, and what is missing."""
        untimed = f"no time vouched for, because {self.untimed}" if self.untimed else ""
        word = str(self.verdict.word) if self.stored else ""
        return "; ".join(filter(None, (word, f"record in {self.folder}", self.reason, untimed)))


@step("record", "write the record", section="§8", ja="記録", retries=1, last=True)
def record(context: RunContext, content: RecordContent) -> Record:
    """Write record/NNN/ to disk, closing.json last, then send it. A failing store does not undo the record on disk.

    What is closed is not written again: a second try only sends it. A run that is cancelled meanwhile leaves it unsent.
    """
    verdict, folder = content.verdict, context.directory.record_dir(context.run.number)
    is_closed = (folder / CLOSING).exists()
    if not is_closed:
        take_over_triggers(context.directory.path, context.log)
        context.log.write("verdict", context.incident.id, word=verdict.word, missing=list(verdict.missing))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for above in (folder.parent, context.directory.path):  # the store must not have more of it than this host
            sync_folder(above)
    data = _report_data(context, content)
    rendered = pages(data)
    artifacts, untold = _artifacts(data, rendered.document)
    result = Record(str(folder), verdict, stored=False, reason="", artifacts=artifacts)
    trouble = list[str]()
    try:
        if not is_closed:
            trouble = [*rendered.trouble, *untold, *_write_pages(context.directory, folder, data, rendered.files)]
            for words in trouble:
                logger.error("%s", words)
                context.log.write("page missing", context.incident.id, reason=words)
            _close(context, folder, content)
    except OSError as error:
        why = str(error) or type(error).__name__
        return replace(result, reason=why, lost=why, is_transient=may_pass(error))
    if context.cancelled:
        return replace(result, reason="not sent: the run was cancelled")
    try:
        context.cancelled.run_bounded(partial(waits_for_store(_send), context), PATIENCE_SECONDS)
    except Exception as error:  # noqa: BLE001  the record must end on disk whatever the store does
        why = f"not in the store: {error}" if _is_new(error, verdict) else _SAME
        if context.first_try.not_sent != why:
            logger.error("The record is on disk only 記録はこのホストのみ: %s", why)  # noqa: TRY400  it says it all
        context.first_try.not_sent = why
        untold_data = replace(data, stored=False)
        artifacts, _ = _artifacts(untold_data, postmortem(untold_data))
        return replace(result, reason=why, artifacts=artifacts, is_transient=may_pass(error))
    untimed = ""
    if context.store.timestamp_url:
        untimed = _request_time_stamp(context.store, context.directory, context.incident.id, folder)
    return replace(result, stored=True, reason="; ".join(trouble), untimed=untimed)


def _is_new(error: Exception, verdict: Verdict) -> bool:
    """Return whether the verdict does not say already what the store gave in place of an answer."""
    got = visible(error.got if isinstance(error, EvacuationError) else str(error), LINE_LIMIT)
    return not any(got in each for each in verdict.missing)


def _close(context: RunContext, folder: Path, content: RecordContent) -> None:
    """Write verdict, its statement, custody segment and signature, and closing.json last."""
    incident, run, store, verdict = context.incident, context.run, context.store, content.verdict
    write, name, origin = context.directory.write, f"{RECORD}/{folder.name}", incident.origin(store.label)
    manifests = {f"{volume_folder(each.volume)}/{MANIFEST}": each.manifest_sha256 for each in content.findings.seals}
    fields = {"incident": asdict(incident), "run": run.id, "verdict": asdict(verdict), "place": store.label}
    for half_written in (SEGMENT, STATEMENT):  # of a try that ended before the closing: its lines are in this one
        (folder / half_written).unlink(missing_ok=True)
    write(folder / VERDICT, facts := canonical({**content.facts, **fields}))
    if store.signing_key and not run.dry_run:  # a rehearsal's word proves nothing to anybody
        text = statement(incident.id, origin, run.number, verdict, digest_bytes(facts), manifests)
        if envelope := sign(store, f"{name}/{STATEMENT}", digest_bytes(text), lambda key: key.envelop(text)):
            write(folder / STATEMENT, envelope)
    segment = context.log.lines(context.directory.segments_end())
    context.log.sync()  # a log that a power loss cuts behind a segment could not be continued
    write(folder / SEGMENT, b"".join(segment))
    finished = {f"{POSTMORTEM}/{path.name}": digest(path) for path in _finished_pages(folder)}
    signer = find_signer(store)
    closing_fields = {
        "incident": incident.id,
        **asdict(origin),
        "record": run.number,
        "run": run.id,
        "verdict": verdict.word,
        "closed_utc": datetime.now(UTC).isoformat(),
        "files": {path.name: digest(path) for path in _whole(folder) if path.name != CLOSING},
        "signer": asdict(signer) if isinstance(signer, Signer) else None,
        "retention": asdict(store.retention) if store.retention else None,
        **({"timestamp_url": url} if (url := store.timestamp_url) else {}),
        **({"cancelled": context.cancelled.summary} if context.cancelled else {}),
        **({POSTMORTEM: finished} if finished else {}),
        "manifests": manifests,
    }
    closing = canonical(closing_fields)
    if signature := sign(store, f"{name}/{CLOSING}", digest_bytes(closing), lambda key: key.sign(closing)):
        write(folder / f"{CLOSING}.sig", signature)
    write(folder / CLOSING, closing)


def _write_pages(
    directory: IncidentDirectory, folder: Path, data: ReportData, files: Mapping[str, bytes]
) -> Iterator[str]:
    """Write the pages, and yield why one could not be written; the record closes without it.

    Only the Markdown page may use the disk reserve, which is for the record itself.
    """
    plan_page = {PLAN_FILE: as_text(plan(data.entries)).encode()} if data.dry_run else {}
    for name, page in {**files, **plan_page}.items():
        try:
            write = directory.write if name == MARKDOWN else write_whole
            path = _finished_page(folder, name) if data.finished and name in {MARKDOWN, HTML} else folder / name
            path.parent.mkdir(mode=0o700, exist_ok=True)
            if path.parent != folder:
                sync_folder(folder.parent)
            write(path, page)
        except OSError as error:
            yield f"{name} could not be written: {error}"


def _finished_page(folder: Path, name: str) -> Path:
    """Return where a page of a finished postmortem lies: beside the records, named for the one that vouches for it."""
    return folder.parent / POSTMORTEM / f"{folder.name}{Path(name).suffix}"


def _finished_pages(folder: Path) -> list[Path]:
    """Return the pages of the finished postmortem that a record vouches for."""
    return [path for name in (MARKDOWN, HTML) if (path := _finished_page(folder, name)).exists()]


def _artifacts(data: ReportData, document: Document) -> tuple[tuple[PrefectArtifact, ...], tuple[str, ...]]:
    """Build the artifacts for the UI; if that fails, return none and the reason."""
    try:
        return tuple(build_artifacts(data, document)), ()
    except Exception as error:
        logger.exception("No pages for the UI")
        return (), (f"the pages of the UI could not be made: {type(error).__name__}: {error}",)


def _send(context: RunContext) -> None:
    """Send this record and earlier ones not proven by this run; closings once the store has what they vouch for.

    Raises TransientStoreError if it has not kept an object, Conflict if the id is another's. Other content at
    the key of an earlier record's file is answered beside it, as the verdict says; at one of this by the next run.
    """
    incident, records = context.incident.id, context.directory.path / RECORD
    claim_object = claim(context.store, context.incident, context.state)
    files = [each for each in _list_objects(records, incident) if each[0] not in context.proven_records]
    closings = [each for each in files if each[1].name == CLOSING]
    for some in ([each for each in files if each not in closings], closings):
        objects = list[Expected]()
        for key, path in some:
            item = one_object(key, path.stat().st_size, digest(path))
            stored = create_or_beside(context.store, incident, item, path)
            is_own = is_of_record(path, context.run.number)
            objects.append(item if is_own else one_object(stored, item.size, item.sha256))
        require_kept(context.store.evidence, objects)
    require_kept(context.store.evidence, [claim_object])


def _list_objects(records: Path, incident: str) -> Iterator[tuple[str, Path]]:
    """Yield key and file of each object of the records on disk."""
    for folder in sorted(path for path in records.iterdir() if path.name != POSTMORTEM):
        yield from ((record_key(incident, int(folder.name), path.name), path) for path in _whole(folder))
        if (folder / CLOSING).exists():
            yield from ((postmortem_key(incident, path.name), path) for path in _finished_pages(folder))


def _request_time_stamp(store: StoreAccess, directory: IncidentDirectory, incident: str, folder: Path) -> str:
    """Have an authority vouch for when the stored record was closed; return why it does not."""

    def put(name: str, content: bytes) -> None:
        directory.write(folder / name, content)
        create_kept(store.evidence, record_key(incident, int(folder.name), name), content)

    closing = (folder / CLOSING).read_bytes()
    reason = stamp(store.block, closing, put)
    fields = {"digest": digest_bytes(closing), "result": reason or store.timestamp_url}
    store.log.write("unstamped" if reason else "stamped", f"{RECORD}/{folder.name}/{CLOSING}", **fields)
    return reason


def _whole(folder: Path) -> list[Path]:
    """Return the complete files of a record. Omits temporary files, and a signature without its closing."""
    lone = set() if (folder / CLOSING).exists() else {f"{CLOSING}.sig"}
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in lone)


def _report_data(context: RunContext, content: RecordContent) -> ReportData:
    entries, store = context.log.entries(), context.store
    return ReportData(
        incident=context.incident,
        number=context.run.number,
        dry_run=context.run.dry_run,
        places=ReportPlaces(str(context.directory.path), store.label, store.saved.name, store.url),
        verdict=content.verdict,
        findings=content.findings,
        quotes=quotes(context.directory, content.findings.evidence),
        entries=entries,
        retention=store.retention,
        timestamp_url=store.timestamp_url,
        questions={name: collector.answers for name, collector in discover().items()},
        recovering=content.recovering,
        written=content.written or written_before(context.directory.path),
        finished=content.written is not None,
        took=took(content.facts, requests(entries)),
    )
