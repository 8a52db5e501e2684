"""A fleet is described in a file and deployed by one command, as its workloads are."""

import subprocess
import sys
from pathlib import Path
from shlex import quote

import pytest

from tasks.custody.incident.deployment_names import full_name
from tests.e2e.fleet.conftest import Lab


@pytest.mark.whole
def test_a_fleet_of_a_file_is_saved_and_deployed(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text('[fleet.other]\nworkloads = ["gpu1"]\nstore = "fleet"\nask_above = 20\n')
    command = [sys.executable, "-m", "flows.cli", "deploy", str(tmp_path / "fleet.toml")]
    done = subprocess.run(command, env=lab.server.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    program = quote(str(Path(sys.executable).with_name("evacuation")))
    assert f"{program} worker --pool evacuation --work-queue fleet" in done.stdout
    assert lab.ask("/block_types/slug/fleet/block_documents/name/other").json()["data"]["ask_above"] == 20
    silent = lab.ask("/automations/filter", {"automations": {"name": {"any_": ["evacuation: a run has gone silent"]}}})
    assert len(silent.json()) == 1
    for flow, entrypoint in (("fleet", "flows.fleet.fleet"), ("fleet-thaw", "flows.fleet.fleet_thaw")):
        made = lab.ask(f"/deployments/name/{full_name(flow, 'other')}").json()
        assert (made["entrypoint"], made["work_queue_name"]) == (entrypoint, "fleet")
        assert made["parameters"] == {"fleet": "other"}
        assert "evacuation" in made["tags"], "a run of it that has gone silent is found"
        assert "reason" in made["parameter_openapi_schema"]["properties"]
        assert made["job_variables"]["command"] == f"'{sys.executable}' -P -m prefect.engine"
