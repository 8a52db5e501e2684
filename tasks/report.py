"""§8: the record of a run: verdict, postmortem, custody segment, closing.json last; on disk first, then stored."""

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture

from tasks.case import CLOSING, Case, write_whole
from tasks.collect import needed
from tasks.collectors import discover
from tasks.custody.evidence import Evidence, Outcome, Seal
from tasks.custody.keys import MANIFEST, SEGMENT, record_key, volume_folder
from tasks.custody.manifest import canonical, digest
from tasks.custody.noun import Noun
from tasks.custody.pause import Pause
from tasks.custody.receipt import Challenge, Containment, Freeze, ObjectReceipt, Receipts, Recovery, Stop, Watch
from tasks.custody.verdict import Verdict, judge
from tasks.postmortem import Story, postmortem
from tasks.step import noun, step

logger = logging.getLogger(__name__)

POSTMORTEM: Final = "postmortem.md"
VERDICT: Final = "verdict.json"
_SPEAK_FOR_THEMSELVES: Final = ("§4 collect", "§5 claim", "§7 recover")
_SUMMARY_LIMIT: Final = 1 << 20


@dataclass(frozen=True)
class Findings:
    """What the run's steps made, None for what they did not make."""

    freeze: Freeze | None
    stop: Stop | None
    containment: Containment | None
    pause: Pause | None
    challenge: Challenge | None
    watch: Watch | None
    evidence: tuple[Evidence, ...]
    seals: tuple[Seal, ...]
    proven: Receipts | None
    trouble: tuple[str, ...]
    promoted: Receipts | None = None
    recovery: Recovery | None = None


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


def gather(  # noqa: PLR0913  one for each thing that the steps make
    case: Case,
    *,
    frozen: PrefectFuture[Any],
    stopped: PrefectFuture[Any],
    contained: PrefectFuture[Any],
    paused: PrefectFuture[Any],
    challenged: PrefectFuture[Any],
    watched: PrefectFuture[Any],
    evidence: tuple[Evidence, ...],
    seals: Iterable[PrefectFuture[Any]],
    proven: PrefectFuture[Any],
) -> Findings:
    """Wait for the steps and take what they made."""
    return Findings(
        freeze=noun(frozen, Freeze),
        stop=noun(stopped, Stop),
        containment=noun(contained, Containment),
        pause=noun(paused, Pause),
        challenge=noun(challenged, Challenge),
        watch=noun(watched, Watch),
        evidence=evidence,
        seals=tuple(made for future in seals if (made := noun(future, Seal))),
        proven=noun(proven, Receipts),
        trouble=troubles(case),
    )


def note_cached(case: Case) -> None:
    """Tell in the custody log which steps an earlier run of the incident had already done."""
    for title, future in case.steps:
        if future.state.name == "Cached":
            case.log.write("step cached", title)


def troubles(case: Case) -> tuple[str, ...]:
    """Steps that ended without making anything, in plain words; steps that only waited for those are not named."""
    ended = [(title, future.state) for title, future in case.steps if not title.startswith(_SPEAK_FOR_THEMSELVES)]
    bad = [(title, state) for title, state in ended if not state.is_completed() and not _left_a_noun(state)]
    first = [(title, state) for title, state in bad if state.is_final()]
    return tuple(f"{title}: {_words(state)}" for title, state in first or bad)


def _left_a_noun(state: State[Any]) -> bool:
    return state.is_final() and isinstance(state.result(raise_on_failure=False), Noun)


def _words(state: State[Any]) -> str:
    reason = state.result(raise_on_failure=False) if state.is_final() else None
    return str(reason) if isinstance(reason, BaseException) else state.message or state.name or "it did not run"


def every_collector(case: Case, evidence: Iterable[Evidence | None]) -> tuple[Evidence, ...]:
    """One Evidence a collector: a step that crashed before it could leave one is a failed attempt, not a gap."""
    left = {item.collector: item for item in evidence if item}
    return tuple(left.get(name) or _crashed(case, name) for name in discover())


def _crashed(case: Case, name: str) -> Evidence:
    now = datetime.now(UTC)
    return Evidence(
        collector=name,
        needed=needed(case, discover()[name]),
        may_be_missing=name in case.workload.may_be_missing,
        outcome=Outcome.FAILED,
        reason="the step itself failed",
        started_at=now,
        ended_at=now,
        volume=case.volume,
    )


def verdict_of(case: Case, findings: Findings) -> Verdict:
    """Judge from receipts."""
    receipts: list[ObjectReceipt] = [
        *(findings.proven.objects if findings.proven else ()),
        *(findings.promoted.objects if findings.promoted else ()),
    ]
    ways_in = findings.pause.open if findings.pause else ("whether Prefect's side is paused was not established",)
    verdict = judge(
        case.incident.id, findings.containment, findings.evidence, receipts, findings.trouble, ways_in=ways_in
    )
    return verdict.after_recovery(findings.recovery.told) if findings.recovery else verdict


def ways_in(findings: Findings) -> tuple[str, ...]:
    """What may still start the workload although the cordon should have closed it."""
    found = list(findings.pause.open) if findings.pause else ["whether Prefect's side is paused was not established"]
    if findings.challenge and not findings.challenge.complete:
        found.append(findings.challenge.told)
    return tuple(found)


@step("§8 write the record")
def record(case: Case, findings: Findings) -> Record:
    """Write record/NNN/, closing.json last, then send it: on disk before the flow returns, whatever the store does."""
    verdict = verdict_of(case, findings)
    case.log.write("verdict", case.incident.id, word=verdict.word, missing=list(verdict.missing))
    case.record.mkdir(mode=0o700, parents=True)
    write_whole(case.record / POSTMORTEM, postmortem(_story(case, findings, verdict)).encode())
    write_whole(case.record / VERDICT, canonical(_verdict(case, findings, verdict)))
    write_whole(case.record / SEGMENT, b"".join(case.log.lines(case.segments_end())))
    write_whole(case.record / CLOSING, canonical(_closing(case, findings, verdict)))
    case.log.sync()
    try:
        _send(case)
    except Exception as error:  # noqa: BLE001  the record must end on disk whatever the store does
        logger.error("The record is on disk only: %s", error)  # noqa: TRY400  the message says it all
        return Record(str(case.record), verdict, stored=False, reason=f"not in the store: {error}")
    return Record(str(case.record), verdict, stored=True, reason="")


def _send(case: Case) -> None:
    """Send this record and any earlier one that did not get there; each closing last."""
    for folder in sorted((case.home / "record").iterdir()):
        whole = (path.name for path in folder.iterdir() if not path.name.startswith("."))
        names = sorted(whole, key=lambda name: (name == CLOSING, name))
        for name in names:
            path = folder / name
            case.store.create(record_key(case.incident.id, int(folder.name), name), path, digest(path))


def _verdict(case: Case, findings: Findings, verdict: Verdict) -> dict[str, Any]:
    return {
        "incident": asdict(case.incident),
        "run": case.run,
        "verdict": asdict(verdict),
        "containment": findings.containment and asdict(findings.containment),
        "pause": findings.pause and asdict(findings.pause),
        "challenge": findings.challenge and asdict(findings.challenge),
        "watch": findings.watch and asdict(findings.watch),
        "freeze": findings.freeze and asdict(findings.freeze),
        "stop": findings.stop and asdict(findings.stop),
        "coverage": [asdict(item) for item in findings.evidence],
        "recovery": findings.recovery and asdict(findings.recovery),
        "objects": [asdict(receipt) for receipt in (findings.proven.objects if findings.proven else ())],
        "latest": [asdict(receipt) for receipt in (findings.promoted.objects if findings.promoted else ())],
    }


def _closing(case: Case, findings: Findings, verdict: Verdict) -> dict[str, Any]:
    files = {path.name: digest(path) for path in sorted(case.record.iterdir()) if path.name != CLOSING}
    return {
        "incident": case.incident.id,
        "record": case.number,
        "run": case.run,
        "verdict": verdict.word,
        "closed_utc": datetime.now(UTC).isoformat(),
        "files": files,
        "manifests": {
            f"{volume_folder(sealed.volume)}/{MANIFEST}": sealed.manifest_sha256 for sealed in findings.seals
        },
    }


def _story(case: Case, findings: Findings, verdict: Verdict) -> Story:
    return Story(
        incident=case.incident,
        place=case.place,
        evidence=str(case.folder(1)),
        verdict=verdict,
        freeze=findings.freeze,
        stop=findings.stop,
        coverage=findings.evidence,
        promoted=findings.promoted,
        recovery=findings.recovery,
        summaries=_summaries(case),
        entries=case.log.entries(),
    )


def _summaries(case: Case) -> dict[str, dict[str, Any]]:
    """The workload's own summaries, as data: scores, versions, commit (runbook §8)."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(case.folder(1).glob("artifacts/summary_*.json")):
        if path.stat().st_size > _SUMMARY_LIMIT:
            continue
        try:
            content = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            continue
        if isinstance(content, dict):
            found[path.name] = content
    return found
