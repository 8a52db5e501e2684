"""A real incident in a store, made by the real steps: sealed, offloaded, verified, promoted, recorded, twice."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from blocks.port import Store
from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore
from blocks.workload import Workload
from tasks.custody.containment.pause import Pause
from tasks.custody.containment.receipt import Containment
from tasks.custody.errors import StoreError
from tasks.custody.evidence.acquisition import Evidence, Outcome, Seal
from tasks.evidence.collect import collect
from tasks.evidence.seal import check_seal, seal, volumes_to_seal
from tasks.incident.current import read_incident
from tasks.latest.promote import promote
from tasks.record.content import Findings
from tasks.record.findings import content_of, verdict_of
from tasks.record.write import Record, record
from tasks.runtime.context import RunContext
from tasks.storage.offload import claim_store, offload
from tasks.storage.verify import verify
from tests.support.run_context import INCIDENT, case_of, made
from tests.support.workloads import SmallWorkload

NAMES = ("packages", "environment", "logs", "artifacts", "models")


def evacuated(  # noqa: PLR0913, PLR0917  what an incident is made with
    folder: Path,
    store: Store,
    key: SigningKey | None,
    place: EvidenceStore | None = None,
    then: Sequence[SigningKey | None] = (),
    last: Callable[[Workload], object] = lambda _: None,
) -> str:
    """Two runs: the second finds a longer log, so that there is a supplement. Gives the incident's id.

    `place` is the store's block, where more of it counts than its key; `then` is the second run's key, if another,
    and those of further runs, which find nothing new to seal. `last` is called with the workload's block at the end.
    """
    with SmallWorkload(folder) as small:
        block = small.block(needed=["logs", "models"], containers=[])
        signing = place or EvidenceStore(folder=folder, signing=key)
        with case_of(block, store) as context:
            context.store.block = signing
            one_run(context, [made(collect.fn(context, name)) for name in NAMES])
        (small.root / "logs/train-20260101_000000.log").write_text("iteration 1\niteration 2\n")
        with case_of(block, store) as context:
            context.incident, context.store.block = read_incident(context.directory.path) or context.incident, signing
            if then:
                context.store.block = EvidenceStore(folder=folder, signing=then[0])
            evidence = [made(collect.fn(context, name)) for name in NAMES]
            one_run(context, evidence)
        for each in then[1:]:
            with case_of(block, store) as context:
                context.incident = read_incident(context.directory.path) or context.incident
                context.store.block = EvidenceStore(folder=folder, signing=each)
                one_run(context, evidence)
        last(block)
    return INCIDENT


def lossy(folder: Path, store: Store, key: SigningKey) -> str:
    """One run that was denied something needed, and says so: PARTIAL. Gives the incident's id."""
    with SmallWorkload(folder) as small, case_of(small.block(needed=["logs"]), store) as context:
        context.store.block = EvidenceStore(folder=folder, signing=key)
        evidence = [made(collect.fn(context, name)) for name in NAMES]
        denied = [replace(each, outcome=Outcome.DENIED, reason="not permitted", needed=True) for each in evidence[:1]]
        one_run(context, [*denied, *evidence[1:]])
    return INCIDENT


def one_run(context: RunContext, evidence: Sequence[Evidence], **changes: object) -> None:
    """What a run does after the stop, whose record the store then has."""
    assert recorded_run(context, evidence, **changes).stored


def contained_findings(at: datetime, **found: Any) -> Findings:
    """What the steps of a run found whose workload was contained, and this."""
    standing = Findings(containment=Containment(at, (), cordoned=True, reason="held"), pause=Pause(()))
    return replace(standing, **found)


def seal_volumes(context: RunContext, evidence: Sequence[Evidence]) -> list[Seal]:
    """Seal each volume of which a run found something to seal."""
    volumes = volumes_to_seal(context.directory, context.run.volume, evidence)
    return [made(seal.fn(context, each, evidence)) for each in volumes]


def recorded_run(context: RunContext, evidence: Sequence[Evidence], **changes: object) -> Record:
    """What a run does after the stop, step by step."""
    with suppress(StoreError):  # as in a flow: the offload then tells it
        claim_store.fn(context)
    seals = seal_volumes(context, evidence)
    intact = made(check_seal.fn(context, seals))
    try:
        proven = made(verify.fn(context, seals, made(offload.fn(context, seals, intact))))
    except StoreError as error:  # as in a flow: the step is trouble of the run, and the rest goes on
        proven, changes = None, {"trouble": (str(error),), **changes}
    stored = {"evidence": tuple(evidence), "seals": tuple(seals), "proven": proven}
    findings = contained_findings(datetime.now(UTC), **{**stored, **changes})
    promoted = made(promote.fn(context, seals, verdict_of(context, findings), "guarded"))
    found = replace(findings, promoted=promoted)
    written = made(record.fn(context, content_of(context.log, verdict_of(context, found), found)))
    assert isinstance(written, Record)
    return written
