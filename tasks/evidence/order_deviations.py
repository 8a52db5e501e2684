"""§4: log what was taken out of the order of volatility."""

from collections import Counter
from collections.abc import Sequence

from tasks.collectors import discover
from tasks.custody.evidence.acquisition import Evidence
from tasks.custody.evidence.volatility import deviations
from tasks.custody.incident.log import CustodyLog
from tasks.custody.incident.steps import step_of


def tell_deviations(log: CustodyLog, evidence: Sequence[Evidence]) -> None:
    """An entry for each, with its reason (RFC 3227 §4.1: every step that was taken, and how)."""
    order = {name: collector.order for name, collector in discover().items()}
    begun = (step_of(entry) for entry in log.entries() if entry["action"] == "step started")
    tries = Counter(collector for step_id, collector in begun if step_id == "collect")
    for each in deviations(evidence, order, tries):
        log.write("deviation", each.collector, kind="order of volatility", reason=each.reason, after=list(each.after))
