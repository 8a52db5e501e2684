"""§8: judge what a thaw has done, and build the content of its record."""

from dataclasses import asdict, replace
from typing import Any

from tasks.custody.containment.receipt import Freeze
from tasks.custody.containment.thaw import Thawed
from tasks.custody.evidence.acquisition import Evidence
from tasks.custody.incident.log import CustodyLog
from tasks.custody.incident.steps import step_of
from tasks.custody.incident.verdict import judge_thaw
from tasks.evidence.seal import read_seals
from tasks.incident.layout import closings
from tasks.record.content import RecordContent
from tasks.record.findings import content_of, findings_of, verdict_of
from tasks.record.last_record import findings_in, last_record
from tasks.runtime.frozen import frozen_containers, load_frozen
from tasks.runtime.state import IncidentState
from tasks.runtime.step import StepRunner


def build_thaw_content(steps: StepRunner, thaw: Thawed | str, coverage: tuple[Evidence, ...] = ()) -> RecordContent:
    """Build the content of the record of a thaw: this run's facts, over those of an earlier record.

    `thawed` is the reason if the step failed. `looked` is what was collected while frozen; it stays on this host,
    unsealed.
    """
    context, last = steps.context, dict[str, Any]()
    if closings(context.directory.path):
        earlier = last_record(context.directory.path)
        last = {"carried_from": f"record/{earlier.number:03d}", **earlier.facts}
    before = findings_in(last)
    findings = findings_of(steps, tuple({each.collector: each for each in (*before.evidence, *coverage)}.values()))
    freeze = findings.freeze or _find_frozen(context.state, context.log, before.freeze)
    known = replace(findings, freeze=freeze)
    content = content_of(context.log, verdict_of(context, known), known)
    facts = {name: fact for name, fact in content.facts.items() if fact}
    receipt, trouble = (None, (thaw,)) if isinstance(thaw, str) else (thaw, findings.trouble)
    remark = f"what was looked at lies unsealed in {context.directory.evidence_dir(context.run.volume)}"
    own = receipt.warnings if receipt else ()  # on the command line the thaw is no submitted step
    notes = tuple(dict.fromkeys((*findings.warnings, *own, *([remark] * bool(coverage)))))
    seals, recovery = read_seals(context.directory, context.run.volume), last.get("not_recovered") or None
    return RecordContent(
        verdict=judge_thaw(context.incident.id, receipt, notes, trouble, workload=context.incident.workload),
        facts={**content.facts, **last, **facts, "thaw": receipt and asdict(receipt)},
        findings=replace(content.findings, seals=seals, recovery=recovery),
    )


def _find_frozen(state: IncidentState, log: CustodyLog, last: Freeze | None) -> Freeze | None:
    """Return what earlier runs have frozen: as the last record tells it, else by the journals and the custody log."""
    processes, containers = load_frozen(state), frozen_containers(state)
    if (
        last
        and processes.keys() <= {each.identity for each in last.processes}
        and containers.keys() <= {each.identity for each in last.containers}
    ):
        return last
    times = [each.frozen_at or each.seen_at for each in processes.values()]
    times += [each.paused_at or each.seen_at for each in containers.values()]
    ends = [entry["action"] for entry in log.entries() if step_of(entry)[0] == "freeze"]
    is_settled = ends[-1:] == ["step done"]
    return Freeze(max(times), (*processes.values(),), is_settled, (*containers.values(),)) if times else None
