"""§8: choose and order the chapters of the postmortem. Fields for people to fill in are marked as open."""

from typing import Final

from tasks.record.report_data import ReportData
from tasks.record.sections import (
    ACTIONS,
    CAUSE,
    DETECTED,
    EVIDENCE,
    FIX,
    MISSING,
    MODELS,
    MOMENTS,
    PREVENTION,
    PROOF,
    RECEIPTS,
    SCOPE,
    SCORES,
    SUMMARY,
    TIMELINE,
    document,
)
from tasks.rendering.document import Both, Document

_OF_THE_RUNBOOK: Final = (SUMMARY, SCOPE, DETECTED, CAUSE, TIMELINE, ACTIONS, FIX, PREVENTION)
_OF_THE_EVIDENCE: Final = (MISSING, MODELS, SCORES, PROOF)
_LONG_TABLES: Final = (MOMENTS, RECEIPTS, EVIDENCE)


def postmortem(data: ReportData) -> Document:
    """Build the postmortem: the runbook's eight fields in its order, the evidence, and last the long tables."""
    chapters = (*_OF_THE_RUNBOOK, *_OF_THE_EVIDENCE, *_LONG_TABLES)
    return document(Both("ポストモーテム", "Postmortem"), data, chapters)
