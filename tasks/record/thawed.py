"""§8: judge what a thaw has done, and build the content of its record."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from tasks.custody.containment.receipt import Freeze
from tasks.custody.containment.thaw import Thawed
from tasks.custody.evidence.acquisition import Evidence
from tasks.custody.incident.steps import step_of
from tasks.custody.incident.verdict import judge_thaw
from tasks.evidence.seal import read_seals
from tasks.incident.layout import closings
from tasks.record.findings import content_of, findings_of
from tasks.record.last_record import coverage_of, freeze_of, last_record
from tasks.record.write import RecordContent
from tasks.runtime.context import RunContext
from tasks.runtime.frozen import frozen_containers, load_frozen
from tasks.runtime.step import StepRunner


def thawed_content(steps: StepRunner, thawed: Thawed | str, looked: tuple[Evidence, ...] = ()) -> RecordContent:
    """Build the content of the record of a thaw: this run's facts, over those of an earlier record.

    `thawed` is the reason if the step failed. `looked` is what was collected while frozen; it stays on this host,
    unsealed.
    """
    context, last = steps.context, dict[str, Any]()
    if closings(context.directory.path):
        earlier = last_record(context.directory.path)
        last = {"carried_from": f"record/{earlier.number:03d}", **earlier.facts}
    found = findings_of(steps, tuple({each.collector: each for each in (*coverage_of(last), *looked)}.values()))
    made = content_of(context, replace(found, freeze=found.freeze or _frozen(context, last)))
    told = {name: fact for name, fact in made.facts.items() if fact}
    receipt, trouble = (None, (thawed,)) if isinstance(thawed, str) else (thawed, found.trouble)
    unsealed = f"what was looked at lies unsealed in {context.directory.evidence_dir(context.run.volume)}"
    own = receipt.warnings if receipt else ()  # on the command line the thaw is no submitted step
    notes = tuple(dict.fromkeys((*found.warnings, *own, *([unsealed] * bool(looked)))))
    return replace(
        made,
        verdict=judge_thaw(context.incident.id, receipt, notes, trouble, workload=context.incident.workload),
        facts={**made.facts, **last, **told, "thaw": receipt and asdict(receipt)},
        seals=read_seals(context),
    )


def _frozen(context: RunContext, last: Mapping[str, Any]) -> Freeze | None:
    """Return what earlier runs have frozen: as the last record tells it, else by the journals and the custody log."""
    frozen, paused = load_frozen(context.state), frozen_containers(context.state)
    if (
        (told := freeze_of(last))
        and frozen.keys() <= {each.identity for each in told.processes}
        and paused.keys() <= {each.identity for each in told.containers}
    ):
        return told
    times = [each.frozen_at or each.seen_at for each in frozen.values()]
    times += [each.paused_at or each.seen_at for each in paused.values()]
    ends = [entry["action"] for entry in context.log.entries() if step_of(entry)[0] == "freeze"]
    settled = ends[-1:] == ["step done"]
    return Freeze(max(times), (*frozen.values(),), settled, (*paused.values(),)) if times else None
