"""A run of an incident from its seal on, without a Prefect server: what is sent, and what is then proven."""

from collections.abc import Iterator
from contextlib import contextmanager

from blocks.port import Store
from blocks.workload import Workload
from tasks.custody.evidence.acquisition import Seal
from tasks.custody.store.receipts import ObjectReceipt, Receipts
from tasks.custody.store.sent import Sent
from tasks.evidence.collect import collect
from tasks.evidence.seal import check_seal, read_seals, seal
from tasks.incident.current import read_incident
from tasks.runtime.context import RunContext
from tasks.storage.offload import offload
from tasks.storage.verify import verify
from tests.support.run_context import INCIDENT, case_of, made
from tests.support.workloads import SmallWorkload


@contextmanager
def run_of(
    small: SmallWorkload, store: Store, incident: str = INCIDENT, **changes: object
) -> Iterator[tuple[RunContext, list[Seal]]]:
    """A run of an incident up to the seal."""
    with run_on(small.block(**changes), store, incident) as run:
        yield run


@contextmanager
def run_on(block: Workload, store: Store, incident: str = INCIDENT) -> Iterator[tuple[RunContext, list[Seal]]]:
    """The same of any block."""
    with case_of(block, store, incident=incident) as context:
        context.incident = read_incident(context.directory.path) or context.incident
        if not (seals := list(read_seals(context.directory, context.run.volume))):
            evidence = [made(collect.fn(context, name)) for name in ("logs", "artifacts", "models")]
            seals = [made(seal.fn(context, 1, evidence))]
        yield context, seals


def sent(context: RunContext, seals: list[Seal]) -> Sent:
    """Check the seal, and send."""
    done = made(offload.fn(context, seals, made(check_seal.fn(context, seals))))
    assert isinstance(done, Sent)
    return done


def proven(context: RunContext, seals: list[Seal], *, read_back: bool = False) -> Receipts:
    """Ask the store of every object."""
    done = made(verify.fn(context, seals, Sent(0, 0, context.store.label), read_back))
    assert isinstance(done, Receipts)
    return done


def bad(receipts: Receipts) -> list[ObjectReceipt]:
    """Those that are not proven."""
    return [each for each in receipts.objects if not each.proven]
