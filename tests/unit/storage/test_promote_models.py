"""latest/ over several volumes of one incident: what a supplement repairs is promoted, and what went there stays."""

from pathlib import Path

import pytest

from tasks.custody.evidence.acquisition import Seal, StoredFile
from tasks.custody.incident.verdict import Verdict, Word
from tasks.custody.store.latest import Promotion
from tasks.evidence.collect import collect
from tasks.evidence.seal import seal
from tasks.latest.promote import promote
from tasks.models.findings import latest_place
from tasks.models.inspect import judge_models
from tasks.runtime.context import RunContext
from tasks.storage import offload as offloading
from tasks.storage.offload import offload
from tests.support.memory_store import MemoryStore
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

VERIFIED = Verdict(Word.VERIFIED, (), (), (), "")
MODEL = "latest/models/model_builtin.joblib"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """Cases of tests know no folder to keep a claim in between runs."""
    monkeypatch.setattr(offloading, "claim", lambda *_: None)
    return MemoryStore()


def promoted(context: RunContext, *before: Seal) -> tuple[tuple[Seal, ...], Promotion]:
    """A run of an incident that has sealed these volumes."""
    evidence = tuple(made(collect.fn(context, name)) for name in ("logs", "models"))
    judge_models.fn(context, evidence)
    seals = (*before, made(seal.fn(context, context.run.volume, evidence)))
    offload.fn(context, seals, seals[-1])
    receipts = made(promote.fn(context, seals, VERIFIED, "guarded"))
    assert isinstance(receipts, Promotion)
    return seals, receipts


@pytest.mark.slow
def test_each_volume_decides_for_itself(small: SmallWorkload, store: MemoryStore) -> None:
    model = small.root / "models/model_builtin.joblib"
    whole = model.read_bytes()
    log = Path(small.root / "logs/new.log")
    model.write_bytes(whole[:-20])
    with case_of(small.block(), store) as context:
        seals, receipts = promoted(context)
        context.state.let_in.write(True)
    assert "model_builtin.joblib (torn" in receipts.summary
    assert not store.head(MODEL)
    model.write_bytes(whole)
    with case_of(small.block(), store) as context:
        seals, receipts = promoted(context, *seals)
    assert "not promoted" not in receipts.summary
    good = store.head(MODEL)
    assert good
    model.write_bytes(whole[:-20])
    log.write_text("x\n")
    with case_of(small.block(), store) as context:
        seals, receipts = promoted(context, *seals)
    assert len(seals) == 3
    assert "later" not in receipts.summary
    assert "model_builtin.joblib (torn" in receipts.summary
    assert store.head("latest/logs/new.log")
    assert store.head(MODEL) == good


@pytest.mark.slow
def test_a_model_that_changed_while_everything_stood_stays_out(small: SmallWorkload, store: MemoryStore) -> None:
    model = small.root / "models/model_builtin.joblib"
    first = model.read_bytes()
    with case_of(small.block(), store) as context:
        seals, _ = promoted(context)
    good = store.head(MODEL)
    assert good
    model.write_bytes(first[:-20])
    with case_of(small.block(), store) as context:
        _, receipts = promoted(context, *seals)
    assert "model_builtin.joblib (it was changed after everything was stopped, by nobody known" in receipts.summary
    assert store.head(MODEL) == good


@pytest.mark.parametrize("stored", ["models/%s", "models/deep/%s", "weights/%s"])
def test_the_canary_of_a_store_that_lay_in_the_root_stays_out(small: SmallWorkload, stored: str) -> None:
    """A doctor had left it in a folder of models, and latest/ got it."""
    block = small.block(folders=["weights"], models=["weights/**"])
    canary, model = stored % ".evacuation-canary/ready-vm", stored % "model.joblib"
    assert latest_place(StoredFile(canary, canary, 1, "0" * 64), block) == ""
    assert latest_place(StoredFile(model, model, 1, "0" * 64), block) == model
