"""What `evacuation deploy` makes of prefect.yaml is what `prefect deploy --all` makes of it."""

import json
import sys
from typing import Any

import pytest

from tasks.custody.errors import Refused
from tasks.deployment import prefect_file
from tasks.deployment.register import DeploymentTarget
from tasks.drill.deployment import POOL
from tasks.system.shared_files import SHARED
from tests.e2e.triggers.conftest import NAME, Stage

OWN = {"id", "created", "updated", "created_by", "updated_by", "global_concurrency_limit", "last_polled", "status"}
"""What the server gives to each, and what changes by itself."""
VERSION = "version"
"""In a clean checkout `prefect deploy` takes the commit."""


def there(stage: Stage) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Deployments and alarms, without what is the server's own."""
    found = []
    for kind in ("deployments", "automations"):
        plain = [
            {name: value for name, value in each.items() if name not in {*OWN, VERSION}}
            for each in stage.post(f"/{kind}/filter")
        ]
        for each in plain:
            each.get("trigger", {}).pop("id", None)
            for schedule in each.get("schedules", ()):
                for own in (*OWN, "deployment_id"):
                    schedule.pop(own, None)
            for several in ("expect", "for_each"):
                each.get("trigger", {}).get(several, []).sort()
        found.append(sorted(plain, key=lambda each: json.dumps(each, sort_keys=True)))
    return found[0], found[1]


@pytest.mark.soak
def test_one_process_deploys_what_prefect_deploys(stage: Stage) -> None:
    stage.deploy()
    ours = there(stage)
    host = next(each for each in ours[0] if each["entrypoint"].startswith("flows.evacuate"))["work_queue_name"]
    variables = DeploymentTarget(NAME, NAME, host).variables(POOL, sys.executable)
    command = ["sh", "-c", 'cd "$0" && exec "$@"', str(SHARED), sys.executable, "-m", "prefect", "--no-prompt"]
    stage.run([*command, "deploy", "--all"], **variables)
    theirs = there(stage)
    assert [each["entrypoint"] for each in ours[0]] == [each["entrypoint"] for each in theirs[0]]
    assert ours == theirs
    assert sum(not each["name"].startswith("evacuation: ") for each in ours[1]) == 3
    stage.deploy()
    assert there(stage) == ours


def test_what_only_prefect_deploys_is_refused_and_not_left_out(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "build: [{x: {}}]\ndeployments: [{name: a, entrypoint: flows.train.train, version: 1}]"
    (tmp_path / "prefect.yaml").write_text(text)
    monkeypatch.setattr(prefect_file, "SHARED", tmp_path)
    with pytest.raises(Refused, match=r"got build, version.*prefect deploy --all"):
        prefect_file.templates(None)  # type: ignore[arg-type]  # nothing is asked of the server


def test_an_events_placeholder_stays_and_a_variable_is_put_in_its_place() -> None:
    template = {"a": ["{{ $X }}-{{ event.id }}"], "b": {"limit": 1}}
    assert prefect_file.render(template, {"X": "{{ $Y }}"}) == {"a": ["{{ $Y }}-{{ event.id }}"], "b": {"limit": 1}}
