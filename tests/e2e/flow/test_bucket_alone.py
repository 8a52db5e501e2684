"""A repository of the runbook's kind and an exported bucket: nothing else is needed, from the freeze to the pull."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.custody.incident.exit_codes import EXIT_CODES
from tasks.drill.store_and_worker import SeaweedFS
from tasks.host.host import LinuxHost
from tests.support.workloads import SmallWorkload

NOBODY = "http://127.0.0.1:9/api"
LOCK = Path("/tmp/ml-train.lock")  # noqa: S108  the runbook's own name for it
OWN_LOCK = f'touch {LOCK} && mount --bind "$0" {LOCK} && exec "$@"'
"""The runbook's lock is one for the whole host, where another run of the tests may hold it."""


@pytest.fixture
def root(small: SmallWorkload) -> Iterator[Path]:
    """A workload at work, without a file; the cordon is released at the end."""
    small.start_all()
    had_lock = LOCK.exists()
    yield small.root
    if not had_lock:
        LOCK.unlink(missing_ok=True)
    LinuxHost().release(small.root / "evidence/cordon.json")


def typed(root: Path, seaweed: SeaweedFS, *words: str, there: str = "") -> subprocess.CompletedProcess[str]:
    """As an operator types it there, who has what the runbook presupposes."""
    exported = {
        "S3_BUCKET": f"s3://{seaweed.bucket}/{root.parent.name}",
        "AWS_ENDPOINT_URL": seaweed.endpoint,
        "AWS_ACCESS_KEY_ID": seaweed.access_key,
        "AWS_SECRET_ACCESS_KEY": seaweed.secret_key,
        "PREFECT_API_URL": NOBODY,
    }
    (lock := root.parent / "lock").touch()
    within = ["unshare", "--mount", "sh", "-c", OWN_LOCK, str(lock)] if os.geteuid() == 0 else []
    command = [*within, sys.executable, "-m", "flows.cli", *words]
    environment = {**os.environ, **exported}
    return subprocess.run(command, cwd=there or root, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.s3
def test_a_folder_and_a_bucket_are_enough(root: Path, small: SmallWorkload, seaweed: SeaweedFS) -> None:
    (planted := root / "evacuation.toml").write_text('[workload.other]\nroot = "/"\n')
    planted.chmod(0o666)  # another account may have put it there, so it is named and not read
    alive = {process.pid for process in small.living()}
    done = typed(root, seaweed, "run", "--reason", "disk alarm")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("Verified: IR-")
    assert small.living() == []
    shown, frozen = done.stderr.split("to be frozen 凍結対象: ")
    assert f"{root}, to s3://{seaweed.bucket}/{root.parent.name} at {seaweed.endpoint}" in shown
    assert {int(line.split()[0]) for line in frozen.splitlines()[1 : len(alive) + 1]} == alive
    (incident,) = (path.name for path in (root / "evidence").glob("IR-*"))
    assert (
        f"{root / 'evidence' / incident} 証跡, and s3://{seaweed.bucket}/{root.parent.name}/incidents/" in done.stdout
    )
    told, page = done.stdout.splitlines()[0], root / "evidence" / incident / "record/001/postmortem.md"
    (audit,) = re.findall(r"^evacuation (audit .*) --signers", page.read_text(), re.MULTILINE)
    for line in (re.findall(r"evacuation (postmortem .*?);", told)[0], audit):
        again = typed(root, seaweed, *shlex.split(line), there="/")
        assert again.returncode in {0, EXIT_CODES["Indeterminate"]}, (line, again.stdout + again.stderr)
        assert incident in again.stdout
    assert f"evacuation recover '{root}' --incident {incident}" in told, "the folder's name has a space"
    (model,) = (root / "models").iterdir()
    before = model.read_bytes()
    model.unlink()
    assert typed(root, seaweed, "pull").returncode == 0
    assert model.read_bytes() == before
