"""A hostile tree is evacuated: nothing lost without a reason, nothing read from outside, nothing run, no hang."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from tasks.collectors import discover
from tasks.custody.evidence.keys import unquote
from tasks.evidence.collect import collect
from tasks.evidence.seal import check_seal, read_manifest, seal
from tasks.storage.offload import offload
from tasks.storage.verify import verify
from tests.support.hostile_trees import CANARY, CANARY_NAME, KINDS, Hostile, make_hostile
from tests.support.memory_store import MemoryStore
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

SECONDS = 120
PATTERNS = {kind: [f"{kind}/**"] for kind in KINDS}


def require_accounted(tree: Hostile, stored: dict[bytes, str], lost: Iterable[bytes]) -> None:
    """Every name is in the manifest with its true digest, or a loss of it or of a folder that it lies in says why not.

    A link to a folder is there by what lies in it.
    """
    lost, pending, accounted = set(lost), list(tree.expected()), set[bytes]()
    assert len(pending) > 100
    while pending:
        name = pending.pop()
        accounted.add(name)
        if name in stored:
            assert stored[name] == tree.digest(name), name
        elif lost.isdisjoint({name, *map(os.fsencode, Path(os.fsdecode(name)).parents)}):
            assert tree.linked_folder(name), name
            pending += tree.below(name)
    assert set(stored) <= accounted


def evacuated(small: SmallWorkload, tree: Hostile) -> None:
    began = time.monotonic()
    store = MemoryStore()
    with case_of(small.block(**PATTERNS), store) as context:
        evidence = [made(collect.fn(context, name)) for name in discover()]
        seals = [made(seal.fn(context, 1, evidence))]
        sent = made(offload.fn(context, seals, made(check_seal.fn(context, seals))))
        receipts = made(verify.fn(context, seals, sent))
        assert all(receipt.proven for receipt in receipts.objects)
        manifest = read_manifest(context.directory, 1)
        on_disk = [path for path in context.directory.path.rglob("*") if path.is_file()]
        assert not any(path.is_symlink() for path in context.directory.path.rglob("*"))
        for path in on_disk:
            data = path.read_bytes()
            assert CANARY not in data, path
            assert CANARY_NAME.encode() not in data, path
    for each in store.list(""):
        assert CANARY not in store.read(each.key), each.key
    of_tree = [item for item in evidence if item.collector in KINDS]
    own = {file.stored: file for item in of_tree for file in item.files}
    stored = {unquote(file.source): file.sha256 for file in manifest.files if file.stored in own}
    require_accounted(tree, stored, (unquote(loss.source) for item in of_tree for loss in item.losses))
    assert tree.ran == []
    assert time.monotonic() - began < SECONDS


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in (2, 3))])
def test_a_hostile_tree_is_evacuated(small: SmallWorkload, tmp_path: Path, seed: int) -> None:
    evacuated(small, make_hostile(small.root, tmp_path / "outside", seed))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 140))
def test_many_hostile_trees_are_evacuated(small: SmallWorkload, tmp_path: Path, seed: int) -> None:
    evacuated(small, make_hostile(small.root, tmp_path / "outside", seed, count=1000))
