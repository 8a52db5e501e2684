"""A story in which every free text is the same one: whatever stands there, the pages keep their shape."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tasks.custody.containment.identity import ContainerIdentity, Identity
from tasks.custody.containment.receipt import (
    End,
    Freeze,
    Frozen,
    FrozenContainer,
    Recovery,
    Returned,
    Stop,
    Stopped,
    StoppedContainer,
    Watch,
)
from tasks.custody.evidence.acquisition import Evidence, Loss, Outcome, Seal, StoredFile
from tasks.custody.incident.incident import Incident
from tasks.custody.incident.verdict import Verdict, Word
from tasks.custody.models.inspection import Inspection, ModelFinding, Soundness
from tasks.custody.store.latest import Promotion
from tasks.record.content import Findings, Quote, Quotes, ReportData, ReportPlaces

NOW = datetime(2026, 1, 2, 15, 4, 5, 678_000, tzinfo=UTC)
WHO = Identity(7, 70)


def at(seconds: float) -> datetime:
    """So long after the beginning."""
    return NOW + timedelta(seconds=seconds)


def entry(after: float, action: str, subject: str = "", /, **facts: Any) -> dict[str, Any]:
    """An entry of the custody log."""
    return {"utc": at(after).isoformat(), "action": action, "object": subject, **facts}


def log_of(text: str) -> list[dict[str, Any]]:
    """Two runs: in the first a step is done again, one fails and one is cut off; the second finds one cached."""
    return [
        entry(0, "run opened", "IR-20260102T150405Z", reason=text, number=1),
        entry(0.1, "step started", "§2 freeze the workload"),
        entry(0.3, "step done", "§2 freeze the workload", step_id="freeze", seconds=0.2, result=text),
        entry(0.4, "step started", f"§4 collect {text}"),
        entry(0.6, "step incomplete", f"§4 collect {text}", seconds=0.2, result=text),
        entry(0.7, "step started", f"§4 collect {text}"),
        entry(0.9, "step failed", f"§4 collect {text}", seconds=0.2, result=text, error=text),
        entry(1.0, "deviation", "thaw", reason=text),
        entry(1.1, "step started", "§3 check: nothing of the workload is left"),
        entry(1.2, "step done", "§3 check: nothing of the workload is left", step_id="prove_contained", result=text),
        entry(1.3, "step started", "§5 offload"),
        entry(90, "run opened", "IR-20260102T150405Z", reason=text, number=2),
        entry(91, "step cached", f"§4 collect {text}"),
        entry(92, "step started", "§8 write the record"),
        entry(92, "would", "not of the timeline"),
    ]


def story(text: str = "a reason", **changes: Any) -> ReportData:
    """A story in which every free text is this one."""
    container = ContainerIdentity("c" * 64, text)
    files = (StoredFile("a", "a", 3, "0" * 64),)
    findings = Findings(
        freeze=Freeze(
            NOW,
            (Frozen(WHO, text, text, 0, NOW, at(0.1), text), Frozen(Identity(8, 80), text, text, 0, NOW, None, text)),
            settled=True,
            containers=(
                FrozenContainer(container, text, text, text, auto_remove=False, why=text, seen_at=NOW, paused_at=NOW),
            ),
        ),
        stop=Stop(
            NOW,
            (Stopped(WHO, text, text, (("SIGINT", NOW),), End.STOPPED, at(1), text),),
            (
                StoppedContainer(
                    container, text, text, (("SIGTERM", NOW),), End.KILLED, 137, at(1), removed=True, reason=text
                ),
            ),
        ),
        watch=Watch(NOW, (Returned(WHO, text, text, text, End.HELD),), (text,), (text,)),
        evidence=(
            Evidence(
                "whole",
                needed=False,
                may_be_missing=False,
                outcome=Outcome.COLLECTED,
                reason=text,
                started_at=NOW,
                ended_at=NOW,
                volume=1,
                files=files,
            ),
            Evidence(
                text,
                needed=True,
                may_be_missing=False,
                outcome=Outcome.FAILED,
                reason=text,
                started_at=NOW,
                ended_at=NOW,
                volume=1,
                files=files,
                losses=(Loss(text, Outcome.DENIED, text), Loss(text, Outcome.WITHHELD, text)),
            ),
        ),
        inspection=Inspection(
            (ModelFinding(text, "0" * 64, Soundness.SUSPECT, text, (text,), text, text, 3, (text,)),)
        ),
        seals=(Seal(1, "1" * 64, "2" * 64, 3, 4),),
        promoted=Promotion(reason=text),
        recovery=Recovery(NOW, WHO, text, "0" * 64),
    )
    data = ReportData(
        incident=Incident("IR-20260102T150405Z", text, text, "boot", NOW, NOW, text, text),
        number=2,
        dry_run=False,
        places=ReportPlaces("/srv/evidence/IR-20260102T150405Z", "s3://bucket/prefix", text),
        verdict=Verdict(Word.PARTIAL, (text,), (text,), (text,), text),
        findings=replace(findings, **{name: value for name, value in changes.items() if name in vars(findings)}),
        quotes=Quotes(
            summaries=(Quote(text, {"git_commit": text, "score": 0.9, "nested": {"of": text}, text: 1}),),
            scores=(
                Quote(
                    "scores.json",
                    [{"file": text, "read": text, "best": [{"params": {text: text}}], "last_step": {text: 1}}],
                ),
            ),
            tracebacks=(Quote(text, f"Traceback\n{text}"),),
        ),
        entries=log_of(text),
    )
    return replace(data, **{name: value for name, value in changes.items() if name not in vars(findings)})
