"""A recovery starts no training itself; what the API's own start starts besides is named."""

import os
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from blocks.workload import Workload
from tasks.custody.containment.identity import ContainerIdentity, Identity
from tasks.recovery.container_api import ContainerApi
from tasks.recovery.process_api import ProcessApi
from tests.support.paper_host import process
from tests.support.run_context import case_of
from tests.support.workloads import wait_until

ID = "c" * 64


def test_a_training_that_the_blocks_own_start_starts_is_named(tmp_path: Path) -> None:
    (root := tmp_path / "root").mkdir()
    (root / "up.sh").write_text("sleep 611.5 & sleep 612.5 & exec sleep 610.5")
    patterns = {"api_pattern": r"sleep 610\.5", "training_pattern": r"sleep 61[01]\.5"}
    block = Workload(root=root, lock=tmp_path / "lock", api_command=["sh", "up.sh"], **patterns)
    with case_of(block) as context:
        way = ProcessApi(context)
        way.start()
        try:
            wait_until(lambda: len(way.find_brought()) == 1, what="the training")
            (told,) = way.find_brought()
            assert told.endswith(": sleep 611.5")
        finally:
            way.end()
            os.waitpid(way.identity.pid, 0)


API, TRAINING, WORKER = ("python", "app/serve.py"), ("python", "app/train.py"), ("python", "app/serve.py", "--fork")


@pytest.mark.parametrize(
    ("rows", "pattern", "told"),
    [
        ([(1, 0, API), (2, 1, WORKER)], "", []),
        ([(1, 0, API), (2, 1, TRAINING), (3, 2, TRAINING)], "", ["python app/train.py"]),
        ([(1, 0, API), (2, 1, (*API, "--fit")), (3, 1, WORKER)], "--fit", ["python app/serve.py --fit"]),
        ([(5, 0, ("sh", "up.sh")), (1, 5, API), (6, 5, TRAINING)], r"app/train\.py", ["python app/train.py"]),
        ([(5, 0, ("sh", "up.sh")), (1, 5, API), (6, 5, TRAINING)], "", ["python app/train.py"]),
    ],
)
def test_what_an_entry_of_a_container_starts_beside_the_api_is_named(
    tmp_path: Path, rows: list[tuple[int, int, tuple[str, ...]]], pattern: str, told: list[str]
) -> None:
    """A recovered container trained, and nothing said so. Number 1 listens."""
    there = [process(number, command, process(above).pid, container=ID) for number, above, command in rows]
    others = [process(8, TRAINING, container="d" * 64), process(9, TRAINING)]
    snapshot = {each.pid: each for each in (*there, *others)}

    def ports(identities: Iterable[Identity]) -> frozenset[int]:
        return frozenset({8000} if process(1).identity in [*identities] else ())

    host = SimpleNamespace(snapshot=lambda: snapshot, ports=ports)
    block = Workload(root=tmp_path, lock=tmp_path / "lock", training_pattern=pattern or "nothing like it")
    context = SimpleNamespace(adapters=SimpleNamespace(host=host, engine=None), workload=block)
    way = ContainerApi(cast("Any", context), "it", "image", ContainerIdentity(ID, "then"))
    assert [each.partition(": ")[2] for each in way.find_brought()] == told
