"""§4: log what was taken out of the order of volatility."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from tasks.collectors import discover
from tasks.custody.evidence.acquisition import Evidence
from tasks.custody.evidence.volatility import deviations
from tasks.runtime.context import RunContext

_COLLECT: Final = "§4 collect "


def tell_deviations(context: RunContext, evidence: Sequence[Evidence]) -> None:
    """An entry for each, with its reason (RFC 3227 §4.1: every step that was taken, and how)."""
    order = {name: collector.order for name, collector in discover().items()}
    begun = (entry["object"] for entry in context.log.entries() if entry["action"] == "step started")
    tries = Counter(title.removeprefix(_COLLECT) for title in begun if title.startswith(_COLLECT))
    for each in deviations(evidence, order, tries):
        context.log.write(
            "deviation", each.collector, kind="order of volatility", reason=each.reason, after=list(each.after)
        )
