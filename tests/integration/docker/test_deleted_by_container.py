"""What a container deletes of the root as it ends was there when it was paused: it is in the evidence, or named."""

import pytest

from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.evidence.collect import collect
from tasks.evidence.deleted_in_stop import find_deleted
from tests.support.containers import Containers
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

pytestmark = pytest.mark.whole

TRAINING = "trap '{last}; exit 0' TERM; echo up; while :; do sleep 0.1; done"


@pytest.mark.parametrize("last", ["rm /app/artifacts/fold_1.csv", ":"])
@pytest.mark.parametrize("with_a_process", [True, False])
def test_what_a_pattern_names_and_a_container_deletes_is_lost(
    small: SmallWorkload, containers: Containers, last: str, *, with_a_process: bool
) -> None:
    (small.root / "artifacts/fold_1.csv").write_text("1")
    if with_a_process:
        small.start()
    containers.run(["sh", "-c", TRAINING.format(last=last)], binds=[f"{small.root}/artifacts:/app/artifacts"])
    with case_of(containers.block(small)) as context:
        for step in (cordon, freeze, stop):
            step.fn(context)
        lost, others = find_deleted(context, [made(collect.fn(context, "artifacts"))])
    assert (": artifacts/fold_1.csv; policy kill" in lost) == (last != ":")
    assert (lost == "") == (last == ":")
    assert others == ""
