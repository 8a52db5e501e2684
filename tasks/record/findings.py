"""§8: what the steps of an evacuation have made, judged, and put into an account for the record."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture

from tasks.collectors import discover
from tasks.containment.members import CONTAINED, stance
from tasks.custody.containment.pause import Pause
from tasks.custody.containment.receipt import (
    Challenge,
    Containment,
    Freeze,
    ObjectReceipt,
    Receipts,
    Recovery,
    Stop,
    Watch,
)
from tasks.custody.evidence.acquisition import Evidence, Outcome, Seal
from tasks.custody.evidence.secrets import notes_of as secrets_told
from tasks.custody.incident.verdict import Verdict, judge, ways_in
from tasks.custody.models.inspection import Inspection
from tasks.custody.noun import Noun
from tasks.custody.store.latest import Promotion
from tasks.evidence.collect import needed
from tasks.evidence.signing import unsigned, who_signs
from tasks.record.write import Account
from tasks.runtime.context import Case
from tasks.runtime.step import end_of, noun, words
from tasks.system.cancellation import RunCancelled

_SPEAK_FOR_THEMSELVES: Final = ("§4 collect", "§4 judge", "§5 claim", "§7 recover")


@dataclass(frozen=True)
class Findings:
    """What the run's steps made, None for what they did not make; of a recovery that failed the reason."""

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
    promoted: Promotion | None = None
    recovery: Recovery | str | None = None
    inspection: Inspection | None = None


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
    judged: PrefectFuture[Any],
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
        inspection=noun(judged, Inspection),
        trouble=troubles(case),
    )


def note_cached(case: Case) -> None:
    """Tell in the custody log which steps an earlier run of the incident had already done."""
    for title, future in case.steps:
        if end_of(future).name == "Cached":
            case.log.write("step cached", title)


def troubles(case: Case) -> tuple[str, ...]:
    """Steps that ended without making anything, in plain words; steps that only waited for those are not named."""
    told = [(title, end_of(future)) for title, future in case.steps if not title.startswith(_SPEAK_FOR_THEMSELVES)]
    bad = [(title, state) for title, state in told if not state.is_completed() and not _left_a_noun(state)]
    first = [(title, state) for title, state in bad if state.is_final()]
    own = [
        (title, state) for title, state in first if not isinstance(state.result(raise_on_failure=False), RunCancelled)
    ]
    return tuple(f"{title}: {words(state)}" for title, state in (own if own != first else first or bad))


def note_cancelled(case: Case, containment: Containment | None, *more: str) -> None:
    """Tell in the custody log that the run was cancelled, and how things stand: "contained, not stored"."""
    if not case.cancelled:
        return
    stands = stance(case, containment)
    case.cancelled.told = ", ".join([stands, *more]) if stands == CONTAINED else stands
    about = {"by": case.cancelled.by, "at": str(case.cancelled.at), "result": case.cancelled.told}
    case.log.write("cancelled", case.incident.id, **about)


def stored(receipts: Receipts | None) -> str:
    """Whether everything is proven to be in the store, in a word or two."""
    return "stored" if receipts and receipts.objects and receipts.complete else "not stored"


def reached(recovery: Recovery | str | None) -> str:
    """Whether the API is back, in a word or two."""
    return "recovered" if isinstance(recovery, Recovery) else "not recovered"


def _left_a_noun(state: State[Any]) -> bool:
    return state.is_final() and isinstance(state.result(raise_on_failure=False), Noun)


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
        reason="the run was cancelled" if case.cancelled else "the step itself failed",
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
    verdict = judge(
        case.incident.id,
        findings.containment,
        findings.evidence,
        receipts,
        (*([f"the run was cancelled: {case.cancelled.told}"] if case.cancelled else []), *findings.trouble),
        ways_in=ways_in(findings.pause, findings.challenge),
        notes=(*notes_of(findings), *case.notes, *unsigned(findings.seals, who_signs(case))),
    )
    return verdict.after_recovery(back.told) if (back := _recovered(findings)) else verdict


def _recovered(findings: Findings) -> Recovery | None:
    return findings.recovery if isinstance(findings.recovery, Recovery) else None


def notes_of(findings: Findings) -> tuple[str, ...]:
    """What is no loss, and yet must be known: models that nobody may trust, secrets, what was withheld for them."""
    judged = findings.inspection.notes if findings.inspection else ("no model was judged, so none was promoted",)
    found = secrets_told(search for item in findings.evidence for search in item.searches)
    withheld = [
        f"{loss.source} was {loss.reason}"
        for item in findings.evidence
        for loss in item.losses
        if loss.outcome is Outcome.WITHHELD
    ]
    return (*judged, *found, *withheld)


def account_of(case: Case, findings: Findings) -> Account:
    """What the record of an evacuation tells."""
    return Account(
        verdict=verdict_of(case, findings),
        facts=_facts(findings),
        seals=findings.seals,
        freeze=findings.freeze,
        stop=findings.stop,
        coverage=findings.evidence,
        promoted=findings.promoted,
        recovery=_recovered(findings),
        inspection=findings.inspection,
        objects=findings.proven.objects if findings.proven else (),
    )


def _facts(findings: Findings) -> dict[str, Any]:
    return {
        "containment": findings.containment and asdict(findings.containment),
        "pause": findings.pause and asdict(findings.pause),
        "challenge": findings.challenge and asdict(findings.challenge),
        "watch": findings.watch and asdict(findings.watch),
        "freeze": findings.freeze and asdict(findings.freeze),
        "stop": findings.stop and asdict(findings.stop),
        "coverage": [asdict(item) for item in findings.evidence],
        "models": findings.inspection and [asdict(each) for each in findings.inspection.findings],
        "recovery": (back := _recovered(findings)) and asdict(back),
        "not_recovered": findings.recovery if isinstance(findings.recovery, str) else "",
        "objects": [asdict(receipt) for receipt in (findings.proven.objects if findings.proven else ())],
        "promotion": findings.promoted and asdict(findings.promoted),
    }
