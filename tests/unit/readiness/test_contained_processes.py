"""What the doctor sees in a container of the block's is the workload's; in another it is a suspect."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from tasks.host.host import LinuxHost
from tasks.host.process.process import Process
from tasks.readiness.check_target import CheckTarget
from tests.support.workloads import SmallWorkload, wait_until, words_of

ID = "c" * 64


@pytest.mark.parametrize("named", [True, False])
def test_what_runs_in_a_container_of_the_block_is_no_suspect(small: SmallWorkload, *, named: bool) -> None:
    small.start(["setsid", "--fork", *small.training_command], WORKERS="0")  # it is no child of ours
    wait_until(lambda: any("src/train.py" in words_of(each)[:3] for each in small.living()), what="the training")
    (pid,) = (each.pid for each in small.living() if "src/train.py" in words_of(each)[:3])

    class Host(LinuxHost):
        def snapshot(self) -> dict[int, Process]:
            return {each: replace(at, container=ID if each == pid else "") for each, at in super().snapshot().items()}

    patient = CheckTarget("small", small.block(containers=["name=api"]), "store", {})
    vars(patient).update(
        host=Host(root=small.root), containers=[SimpleNamespace(id=ID, folder="/", mounts=())] if named else []
    )
    assert (pid in {who.pid for who in patient.roster.suspects}) is not named
