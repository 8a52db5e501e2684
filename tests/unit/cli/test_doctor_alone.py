"""A doctor on a host that knows no Prefect server looks at the rest, starts no server, and lets go of its pipe."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.workloads import SmallWorkload


@pytest.mark.whole
@pytest.mark.slow
def test_in_a_pipe_without_a_server_it_starts_none_and_ends(small: SmallWorkload, tmp_path: Path) -> None:
    """Prefect would start one, which keeps its database in PREFECT_HOME and both ends of the pipe open."""
    (file := tmp_path / "evacuation.toml").write_text(
        f'[workload.small]\nroot = "{small.root}"\nevidence_dir = "{tmp_path / "evidence"}"\n'
        f'[store.small]\nfolder = "{tmp_path / "store"}"\nsigning = "signing-key/saved-elsewhere"\n'
    )
    (tmp_path / "store").mkdir()
    home = tmp_path / "prefect"
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment |= {"PREFECT_HOME": str(home), "PREFECT_PROFILES_PATH": str(home / "profiles.toml")}
    command = [sys.executable, "-m", "flows.cli", "doctor", str(file)]
    done = subprocess.run(
        command,
        env={**environment, "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "prefect/server       expected a Prefect server; got no Prefect server is known" in done.stdout, done.stderr
    assert "people/notification" in done.stdout
    assert [path.name for path in home.glob("*.db*")] == []
