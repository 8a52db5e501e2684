"""`make fleet-drill`, as a person runs it: three hosts, of which two die, and a record that an audit proves."""

import re
import subprocess
import sys

import pytest

from tests.e2e.drill.test_drill import PROJECT, family, folder_of
from tests.support.workloads import wait_until

pytestmark = pytest.mark.soak  # three minutes; tests/e2e/plant has its scenes


def test_a_fleets_drill_ends_verified_proven_and_leaves_no_process() -> None:
    command = [sys.executable, "-m", "flows.cli", "drill", "--fleet"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "proven: the fleet's record, from the store alone: PROVEN" in done.stdout
    last = re.fullmatch(
        r"Verified hosts=3 frozen_s=([\d.]+) total_s=[\d.]+ incident=FL-.*", done.stdout.splitlines()[-1]
    )
    assert last, done.stdout
    assert float(last[1]) < 10, "by the frame, not by a run that waited for silent hosts"
    folder = folder_of(done.stdout.removeprefix("fleet "))
    wait_until(lambda: not family(folder), seconds=60, what="the end of the drill's processes")
