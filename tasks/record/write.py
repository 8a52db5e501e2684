"""§8: the record of a run: verdict, postmortem, custody segment, closing.json last; on disk first, then stored."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tasks.collectors import discover
from tasks.custody.containment.receipt import Containment, Freeze, ObjectReceipt, Recovery, Stop, Watch
from tasks.custody.errors import Tampered
from tasks.custody.evidence.acquisition import Evidence, Seal
from tasks.custody.evidence.keys import CLOSING, MANIFEST, SEGMENT, VERDICT, record_key, volume_folder
from tasks.custody.incident.verdict import Verdict, not_contained
from tasks.custody.models.inspection import Inspection, ModelFinding
from tasks.custody.noun import Noun
from tasks.custody.store.latest import Promotion
from tasks.custody.store.manifest import canonical, digest, digest_bytes
from tasks.evidence.signing import Signer, sign, who_signs
from tasks.incident.layout import RECORD, closings
from tasks.record.artifacts import leaves
from tasks.record.excerpts import quotes
from tasks.record.postmortem import postmortem
from tasks.record.render import MARKDOWN, pages
from tasks.record.report_data import Places, Story
from tasks.rendering.document import Document
from tasks.runtime.context import Case
from tasks.runtime.joined_triggers import take_over_triggers
from tasks.runtime.step import step
from tasks.system.atomic_files import write_whole

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, repr=False)
class Account(Noun):
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
    def told(self) -> str:
        """In a word."""
        return self.verdict.word


@dataclass(frozen=True, repr=False)
class Record(Noun):
    """The record of one run, in its folder on disk; `stored` once the store vouches for every file of it."""

    folder: str
    verdict: Verdict
    stored: bool
    reason: str

    @property
    def complete(self) -> bool:
        """False while the store lacks it."""
        return self.stored

    @property
    def told(self) -> str:
        """In a few words."""
        return f"{self.verdict.word}; record in {self.folder}" + (f"; {self.reason}" if self.reason else "")


@dataclass(frozen=True)
class LastRecord:
    """The incident's last closed record, read back: its number, its verdict, and the facts beneath it."""

    number: int
    verdict: Verdict
    facts: Mapping[str, Any]


@step("§8 write the record", "記録", last=True)
def record(case: Case, account: Account) -> Record:
    """Write record/NNN/, closing.json last, then send it: on disk before the flow returns, whatever the store does."""
    verdict = account.verdict
    take_over_triggers(case)
    case.log.write("verdict", case.incident.id, word=verdict.word, missing=list(verdict.missing))
    case.record.mkdir(mode=0o700, parents=True)
    story = _story(case, account)
    trouble = _write_pages(case, story)
    about = {"incident": asdict(case.incident), "run": case.run, "verdict": asdict(verdict)}
    case.write(case.record / VERDICT, canonical({**account.facts, **about}))
    case.write(case.record / SEGMENT, b"".join(case.log.lines(case.segments_end())))
    closing = canonical(_closing(case, account))
    if signature := sign(case, f"record/{case.record.name}/{CLOSING}", closing, digest_bytes(closing)):
        case.write(case.record / f"{CLOSING}.sig", signature)
    case.write(case.record / CLOSING, closing)
    case.log.sync()
    if case.cancelled:
        return Record(str(case.record), verdict, stored=False, reason="not sent: the run was cancelled")
    try:
        _send(case)
    except Exception as error:  # noqa: BLE001  the record must end on disk whatever the store does
        logger.error("The record is on disk only: %s", error)  # noqa: TRY400  the message says it all
        untold = replace(story, stored=False)
        _bring_to_the_ui(case, untold, postmortem(untold))
        return Record(str(case.record), verdict, stored=False, reason=f"not in the store: {error}")
    return Record(str(case.record), verdict, stored=True, reason="; ".join(trouble))


def _write_pages(case: Case, story: Story) -> tuple[str, ...]:
    """What people read. One that cannot be made or kept is told in the custody log; the record closes without it.

    The case has it for the UI, whatever the disk takes. The reserve is for the record itself: of the pages only the
    one in Markdown may draw on it.
    """
    made = pages(story)
    trouble = [*made.trouble, *_bring_to_the_ui(case, story, made.document)]
    for name, data in made.files.items():
        try:
            write = case.write if name == MARKDOWN else write_whole
            write(case.record / name, data)
        except OSError as error:
            trouble.append(f"{name} could not be written: {error}")
    for words in trouble:
        logger.error("%s", words)
        case.log.write("page missing", case.incident.id, reason=words)
    return tuple(trouble)


def _bring_to_the_ui(case: Case, story: Story, postmortem: Document) -> tuple[str, ...]:
    try:
        case.leaves = leaves(story, postmortem)
    except Exception as error:
        logger.exception("No pages for the UI")
        return (f"the pages of the UI could not be made: {type(error).__name__}: {error}",)
    return ()


def last_record(case: Case) -> LastRecord:
    """Read the last closed record back; Tampered unless its verdict is the one that its closing vouches for."""
    closing = closings(case.home)[-1]
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
    case: Case,
    last: LastRecord,
    seals: tuple[Seal, ...],
    *,
    recovery: Recovery | str,
    containment: Containment | str | None,
    despite: str,
) -> Account:
    """The account of a run that recovers and does nothing else: the facts are those of the last record, and say so.

    The verdict stays what it was, unless a failed recovery left something alive. `containment` is the look after it,
    why there was none, or None where nothing had to be contained again.
    """
    back = None if isinstance(recovery, str) else recovery
    if back:
        verdict = last.verdict.after_recovery(back.told)
    else:
        verdict = last.verdict.after_failed_recovery(case.incident.id, _left(containment))
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
    return Account(
        verdict=verdict,
        facts=facts,
        seals=seals,
        freeze=_read(Freeze, facts["freeze"]),
        stop=_read(Stop, facts["stop"]),
        coverage=_read(tuple[Evidence, ...], facts["coverage"]) or (),
        promoted=_read(Promotion, facts.get("promotion")),
        recovery=back,
        inspection=None if findings is None else Inspection(findings),
        objects=_read(tuple[ObjectReceipt, ...], facts.get("objects")) or (),
    )


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


def _send(case: Case) -> None:
    """Send this record and any earlier one that did not get there; each closing last."""
    for folder in sorted((case.home / RECORD).iterdir()):
        for path in sorted(_whole(folder), key=lambda path: (path.name == CLOSING, path.name)):
            case.store.create(record_key(case.incident.id, int(folder.name), path.name), path, digest(path))


def _whole(folder: Path) -> list[Path]:
    """The files of a record; what was cut short while it was written is none of them, nor the signature of nothing."""
    lone = set() if (folder / CLOSING).exists() else {f"{CLOSING}.sig"}
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in lone)


def _closing(case: Case, account: Account) -> dict[str, Any]:
    files = {path.name: digest(path) for path in _whole(case.record) if path.name != CLOSING}
    who = who_signs(case)
    return {
        "incident": case.incident.id,
        "record": case.number,
        "run": case.run,
        "verdict": account.verdict.word,
        "closed_utc": datetime.now(UTC).isoformat(),
        "files": files,
        "signer": asdict(who) if isinstance(who, Signer) else None,
        "retention": asdict(case.retention) if case.retention else None,
        **({"cancelled": case.cancelled.told} if case.cancelled else {}),
        "manifests": {f"{volume_folder(sealed.volume)}/{MANIFEST}": sealed.manifest_sha256 for sealed in account.seals},
    }


def _story(case: Case, account: Account) -> Story:
    return Story(
        incident=case.incident,
        number=case.number,
        dry_run=case.dry_run,
        places=Places(str(case.home), case.place, case.store_name, case.address),
        verdict=account.verdict,
        freeze=account.freeze,
        stop=account.stop,
        watch=_read(Watch, account.facts.get("watch")),
        coverage=account.coverage,
        inspection=account.inspection,
        seals=account.seals,
        promoted=account.promoted,
        recovery=account.recovery or account.facts.get("not_recovered") or None,
        quotes=quotes(case, account.coverage),
        entries=case.log.entries(),
        retention=case.retention,
        questions={name: collector.answers for name, collector in discover().items()},
        objects=account.objects,
        recovering="carried_from" in account.facts,
    )
