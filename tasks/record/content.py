"""Hold what a record is made of: what the steps of a run returned, and the verdict on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.custody.containment.cordon import Challenge, Cordon
from tasks.custody.containment.pause import Pause
from tasks.custody.containment.receipt import Containment, Freeze, Recovery, Stop, Watch
from tasks.custody.evidence.acquisition import Evidence, Seal
from tasks.custody.incident.postmortem_fields import PostmortemFields
from tasks.custody.incident.verdict import Verdict
from tasks.custody.models.inspection import Inspection
from tasks.custody.store.latest import Promotion
from tasks.custody.store.receipts import ObjectReceipt, Receipts


@dataclass(frozen=True)
class Findings:
    """Results of the run's steps; None for a step without a result, the reason as text for a failed recovery."""

    freeze: Freeze | None = None
    stop: Stop | None = None
    containment: Containment | None = None
    pause: Pause | None = None
    challenge: Challenge | None = None
    watch: Watch | None = None
    evidence: tuple[Evidence, ...] = ()
    seals: tuple[Seal, ...] = ()
    proven: Receipts | None = None
    trouble: tuple[str, ...] = ()
    promoted: Promotion | None = None
    recovery: Recovery | str | None = None
    inspection: Inspection | None = None
    warnings: tuple[str, ...] = ()
    cordon: Cordon | None = None

    @property
    def objects(self) -> tuple[ObjectReceipt, ...]:
        """Receipts of the objects that the store was asked for."""
        return self.proven.objects if self.proven else ()

    @property
    def recovered(self) -> Recovery | None:
        """The recovery, unless it failed or there was none."""
        return self.recovery if isinstance(self.recovery, Recovery) else None


@dataclass(frozen=True, repr=False)
class RecordContent:
    """Content of a record: the verdict, the facts that it rests on as they go on record, and the findings.

    `recovering` is true if the run, or the one whose facts it carries on, only recovers. `written` is what people have
    written, in the run that puts it on record.
    """

    verdict: Verdict
    facts: Mapping[str, Any]
    findings: Findings
    recovering: bool = False
    written: PostmortemFields | None = None
