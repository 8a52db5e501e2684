"""latest/ over several volumes of one incident: what a supplement repairs is promoted, and what went there stays."""

from pathlib import Path

import pytest

from blocks.memory import MemoryStore
from tasks.custody.evidence.acquisition import Seal
from tasks.custody.incident.verdict import Verdict, Word
from tasks.custody.store.latest import Promotion
from tasks.evidence.collect import collect
from tasks.evidence.model_inspection import judge_models
from tasks.evidence.seal import seal
from tasks.runtime.context import Case
from tasks.storage import offload as offloading
from tasks.storage.offload import offload
from tasks.storage.promote import promote
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

VERIFIED = Verdict(Word.VERIFIED, (), (), (), "")
MODEL = "latest/models/model_builtin.joblib"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """Cases of tests know no folder to keep a claim in between runs."""
    monkeypatch.setattr(offloading, "_claim", lambda _: None)
    return MemoryStore()


def promoted(case: Case, *before: Seal) -> tuple[tuple[Seal, ...], Promotion]:
    """A run of an incident that has sealed these volumes."""
    evidence = tuple(made(collect.fn(case, name)) for name in ("logs", "models"))
    judge_models.fn(case, evidence)
    seals = (*before, made(seal.fn(case, case.volume, evidence)))
    offload.fn(case, seals, seals[-1])
    receipts = made(promote.fn(case, seals, VERIFIED, "guarded"))
    assert isinstance(receipts, Promotion)
    return seals, receipts


def test_each_volume_decides_for_itself(small: SmallWorkload, store: MemoryStore) -> None:
    model = small.root / "models/model_builtin.joblib"
    whole = model.read_bytes()
    log = Path(small.root / "logs/new.log")
    model.write_bytes(whole[:-20])
    with case_of(small.block(), store) as case:
        seals, receipts = promoted(case)
    assert "model_builtin.joblib (torn" in receipts.told
    assert not store.look(MODEL)
    model.write_bytes(whole)
    with case_of(small.block(), store) as case:
        seals, receipts = promoted(case, *seals)
    assert "not promoted" not in receipts.told
    good = store.look(MODEL)
    assert good
    model.write_bytes(whole[:-20])
    log.write_text("x\n")
    with case_of(small.block(), store) as case:
        seals, receipts = promoted(case, *seals)
    assert len(seals) == 3
    assert "later" not in receipts.told
    assert "model_builtin.joblib (torn" in receipts.told
    assert store.look("latest/logs/new.log")
    assert store.look(MODEL) == good
