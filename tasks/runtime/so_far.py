"""Say in a few words what a run already knows, while it waits for its store."""

from collections.abc import Iterator
from typing import Final

from tasks.custody.containment.receipt import KNOWN_STOPPED
from tasks.custody.evidence.keys import MANIFEST
from tasks.custody.incident.log import CustodyLog
from tasks.custody.incident.steps import StepId, step_of
from tasks.custody.visible import visible
from tasks.incident.paths import IncidentDirectory
from tasks.runtime.context import RunContext

_CHECKS: Final = frozenset({"prove_contained", "prove_still_contained", "prove_contained_again"})
_FAILED: Final = frozenset({"step failed", "step incomplete"})
_SHOWN: Final = 150
_NAMES: Final = "`evacuation status` names what"
_SEALED: Final = "the evidence is sealed here 証跡はこのホストに封印済み"
_LEAVE: Final = "Ctrl-C ends this run safely, and the incident can be carried on 中断しても後で続行可"


def describe_so_far(context: RunContext, step_id: StepId) -> str:
    """Return whether the workload is contained and the evidence sealed, as far as is known, and how to end the run."""
    if context.run.dry_run or context.cancelled:
        return ""
    return "; ".join((*_describe_findings(context.log, context.directory, context.run.volume, step_id), _LEAVE))


def _describe_findings(log: CustodyLog, directory: IncidentDirectory, volume: int, step_id: StepId) -> Iterator[str]:
    entries = log.entries()[log.began :]
    ends = [(step_of(each)[0], each) for each in entries if each["action"] in {"step done", *_FAILED}]
    last = next(((step, each) for step, each in reversed(ends) if step in {*_CHECKS, "recover"}), None)
    if last and last[0] in _CHECKS:
        yield _describe_check(last[1]["action"] == "step done", str(last[1].get("result", "")))
    is_sealed = (directory.evidence_dir(volume) / MANIFEST).exists()
    if step_id != "claim_store" and not any(step == "seal" and each["action"] in _FAILED for step, each in ends):
        is_sealed = is_sealed or (directory.evidence_dir(1) / MANIFEST).exists()
    if is_sealed:
        yield _SEALED


def _describe_check(is_contained: bool, result: str) -> str:  # noqa: FBT001
    if is_contained:
        return "contained 封じ込め済み"
    if result.startswith(KNOWN_STOPPED):
        return f"what is known is stopped, {_NAMES} is not known 不明なものは status が示す"
    return f"{visible(result, _SHOWN) or 'not contained'} 未封じ込め; {_NAMES} lives 稼働中のものは status が示す"
