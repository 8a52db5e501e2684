"""The whole evacuation of strangers from the command line: its last word is what the kernel counts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from blocks.workload import Workload
from tasks.host.host import LinuxHost
from tasks.incident.layout import CORDON
from tests.e2e.flow.test_by_hand import NOBODY, toml
from tests.support.strangers import ENDED, STRANGERS, at_work

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a workload an account of its own"),
]
BY_HAND = ("fork chain", "renamed", "gunicorn", "celery")


@pytest.mark.parametrize("suspects", ["include", "name"])
@pytest.mark.parametrize("name", BY_HAND)
def test_a_stranger_is_evacuated_by_hand_without_a_false_word(name: str, suspects: str, tmp_path: Path) -> None:
    (stranger,) = (each for each in STRANGERS if each.name == name)
    (tmp_path / "store").mkdir()
    with at_work(stranger, tmp_path / "place") as (workload, account):
        told = json.loads(workload.model_dump_json(exclude_unset=True))
        fields = {field: value for field, value in told.items() if field in Workload.model_fields}
        file = tmp_path / "evacuation.toml"
        file.write_text(
            toml("workload", "stranger", fields) + toml("store", "here", {"folder": str(tmp_path / "store")})
        )
        command = [sys.executable, "-m", "flows.cli", "run", str(file), "--suspects", suspects]
        environment = {**os.environ, "PREFECT_API_URL": NOBODY}
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if suspects == "include" or stranger.by_default == ENDED:
                assert "nothing of it runs" in done.stdout, done.stdout + done.stderr
                assert not account.lives(), account.told()
            else:
                assert done.returncode, done.stdout
                assert stranger.by_default in done.stdout + done.stderr
                assert account.lives()
        finally:
            LinuxHost().release(workload.evidence / CORDON)
