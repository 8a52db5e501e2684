"""§8: choose and order the chapters of the postmortem. Facts are filled in, people's fields are visibly open."""

from typing import Final

from tasks.record.chapter import document
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
)
from tasks.rendering.document import Both, Document

_OF_THE_RUNBOOK: Final = (SUMMARY, SCOPE, DETECTED, CAUSE, TIMELINE, ACTIONS, FIX, PREVENTION)
_OF_THE_EVIDENCE: Final = (MISSING, MODELS, SCORES, PROOF)
_LONG_TABLES: Final = (MOMENTS, RECEIPTS, EVIDENCE)


def postmortem(data: ReportData) -> Document:
    """The runbook's eight fields in its order, then the evidence, and last the tables that may be long."""
    chapters = (*_OF_THE_RUNBOOK, *_OF_THE_EVIDENCE, *_LONG_TABLES)
    return document(Both("ポストモーテム", "Postmortem"), data, chapters)
