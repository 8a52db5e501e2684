"""What the doctor sees in a container of the block's is the workload's; in another it is a suspect."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from tasks.adapters.host import LinuxHost
from tasks.custody.containment.process import Process
from tasks.readiness.patient import Patient
from tests.support.workloads import SmallWorkload

ID = "c" * 64


@pytest.mark.parametrize("named", [True, False])
def test_what_runs_in_a_container_of_the_block_is_no_suspect(small: SmallWorkload, *, named: bool) -> None:
    pid = small.start(WORKERS="0").pid

    class Host(LinuxHost):
        def snapshot(self) -> dict[int, Process]:
            return {each: replace(at, container=ID if each == pid else "") for each, at in super().snapshot().items()}

    patient = Patient("small", small.block(containers=["name=api"]), "store", {})
    vars(patient).update(host=Host(root=small.root), containers=[SimpleNamespace(id=ID)] if named else [])
    assert (pid in {who.pid for who in patient.roster.suspects}) is not named
