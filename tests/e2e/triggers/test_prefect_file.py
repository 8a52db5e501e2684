"""What `evacuation deploy` makes of prefect.yaml is what a bare `prefect deploy --all` makes of it."""

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.utilities.importtools import import_object

from tasks.custody.errors import Refused
from tasks.custody.incident.exit_codes import REFUSED
from tasks.deployment import build, deployments
from tasks.deployment.register import DeploymentTarget
from tasks.drill.deployment import POOL
from tasks.prefect_side.own_server import PrefectServer
from tasks.system.files.shared_files import SHARED
from tests.support.prefect_http import http_to
from tests.support.workloads import wait_until

pytestmark = pytest.mark.whole

FILE: Final = """
[workload.{name}]
root = "{root}"
api_pattern = "serve"
training_pattern = "train"
[store.{name}]
folder = "{root}/store"
"""
OWN: Final = {"id", "created", "updated", "created_by", "updated_by", "global_concurrency_limit", "status"}
OTHERS: Final = {"flow_id", "deployment_id", "work_queue_id", "work_pool_id", "version_id", "last_polled"}
"""Ids that the server gives to each and to what it belongs to, and what changes by itself."""
KINDS: Final = ("deployments", "automations", "work_queues")


class Office:
    """An empty server with a pool, and a folder with prefect.yaml, in which a person stands."""

    def __init__(self, server: PrefectServer, http: httpx.Client, folder: Path) -> None:
        """Copy the file: nothing else is beside it."""
        self.server, self.http, self.folder = server, http, folder
        folder.mkdir()
        shutil.copy(SHARED / "prefect.yaml", folder)

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Type a command there, with nothing exported but the server."""
        command = [sys.executable, "-P", "-m", *words]
        return subprocess.run(
            command, cwd=self.folder, env=self.server.env, capture_output=True, text=True, check=False
        )

    def done(self, *words: str) -> str:
        """Type a command that succeeds."""
        done = self.run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def named(self, *names: str) -> None:
        """Write evacuation.toml with these workloads."""
        text = "".join(FILE.format(name=name, root=self.folder) for name in names)
        (self.folder / "evacuation.toml").write_text(text)

    def there(self) -> dict[str, list[Any]]:
        """What the server has, in full, without what is the server's own."""
        queues = {each["id"]: each["name"] for each in self.all("work_queues")}
        found = {kind: [plain(each) for each in self.all(kind)] for kind in KINDS}
        assert queues.keys() >= {each["work_queue_id"] for each in self.all("deployments")}
        return {kind: sorted(each, key=lambda one: json.dumps(one, sort_keys=True)) for kind, each in found.items()}

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Everything of a kind."""
        return list(self.answer("POST", f"/{kind}/filter").json())

    def answer(self, how: str, path: str) -> httpx.Response:
        """Ask a server that may be busy."""
        answers = list[httpx.Response]()

        def answered() -> bool:
            answers.append(self.http.request(how, path, json={}))
            return answers[-1].status_code != httpx.codes.SERVICE_UNAVAILABLE

        wait_until(answered, what=f"an answer to {path}")
        return answers[-1].raise_for_status()

    def empty(self) -> None:
        """Take everything away again."""
        (self.folder / "evacuation.toml").unlink(missing_ok=True)
        for kind in (*KINDS, "block_documents"):
            for each in self.all(kind):
                if each["name"] != "default":
                    self.answer("DELETE", f"/{kind}/{each['id']}")


def plain(thing: Any) -> Any:
    """Without ids and times, and with sets in order."""
    if isinstance(thing, dict):
        return {
            name: sorted(value) if name in {"expect", "for_each", "tags"} else plain(value)
            for name, value in thing.items()
            if name not in OWN | OTHERS
        }
    return [plain(each) for each in thing] if isinstance(thing, list) else thing


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """An empty server, whose pool was made as Prefect says."""
    folder = tmp_path_factory.mktemp("bare")
    with PrefectServer(folder / "prefect") as server, http_to(server.api) as http:
        made = Office(server, http, folder / "an office")
        made.done("prefect", "work-pool", "create", "--type", "process", POOL)
        yield made


@pytest.mark.parametrize("file", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_a_bare_prefect_deploy_makes_what_evacuation_deploy_makes(
    office: Office,
    file: bool,  # noqa: FBT001  whether it lies in the folder
) -> None:
    office.empty()
    if file:
        office.named(build.NAME)
    told = office.done("prefect", "--no-prompt", "deploy", "--all")
    assert (f"workload/{build.NAME} and evidence-store/{build.NAME} are not saved yet" in told) is not file
    theirs = office.there()

    office.empty()
    office.named(build.NAME)
    office.done("flows.cli", "deploy", "evacuation.toml")
    assert theirs == office.there()
    assert [len(theirs[kind]) for kind in KINDS] == [10, 4, 4]
    assert not re.search(r"\{\{(?! *(event|flow_run)\b)", json.dumps(theirs))


def test_which_workload_is_deployed_where_none_is_given(
    office: Office, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusal(**given: str) -> str:
        with pytest.raises(SystemExit) as ended:
            build.workload.__wrapped__(POOL, **given)
        assert ended.value.code == REFUSED
        return capsys.readouterr().err

    monkeypatch.chdir(office.folder)
    office.empty()
    office.named("gpu1", "gpu2")
    with temporary_settings({PREFECT_API_URL: office.server.api}):
        assert "got '' of gpu1, gpu2" in refusal()
        assert office.all("work_queues")[1:] == []
        assert "got 'gpu3' of gpu1, gpu2" in (told := refusal(name="evacuation.toml:gpu3"))
        assert "export EVACUATION_WORKLOAD=NAME" in told
        assert build.workload.__wrapped__(POOL, "evacuation.toml:gpu2", python="/p")["store"] == "gpu2"
        (office.folder / "evacuation.toml").unlink()
        assert "got gpu1, gpu2" in refusal()
        assert build.workload.__wrapped__(POOL, "gpu1", "gpu2") == DeploymentTarget(
            "gpu1", "gpu2", socket.gethostname()
        ).variables(POOL, sys.executable)
        assert "got 'gpu3'" in refusal(name="gpu3")
        assert "got 'gpu3'" in refusal(name="gpu1", store="gpu3")
        assert "No such file" in refusal(name="other.toml")
    with temporary_settings({PREFECT_API_URL: None}):
        assert "PREFECT_API_URL is not set" in refusal(name="gpu1")


def test_what_only_prefect_deploys_is_refused_and_not_left_out(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = f"build: [{{{deployments.BUILD}: {{}}}}, {{x: {{}}}}]"
    text = f"{steps}\ndeployments: [{{name: a, entrypoint: flows.train.train, version: 1}}]"
    (tmp_path / "prefect.yaml").write_text(text)
    monkeypatch.setattr(deployments, "SHARED", tmp_path)
    with pytest.raises(Refused, match=r"got build: x, version.*prefect deploy --all"):
        deployments.templates(None)  # type: ignore[arg-type]  # nothing is asked of the server


def test_nothing_is_asked_at_a_terminal_and_the_build_step_yields_every_value() -> None:
    file = yaml.safe_load((SHARED / "prefect.yaml").read_text())
    assert file["pull"] == []
    assert all("schedules" in each for each in file["deployments"])
    assert import_object(deployments.BUILD) is build.workload
    needed = set(re.findall(r"\{\{ *evacuation\.(\w+) *\}\}", (SHARED / "prefect.yaml").read_text()))
    assert needed <= DeploymentTarget("a", "b", "c").variables("d", "e").keys()


def test_an_events_placeholder_stays_and_a_variable_is_put_in_its_place() -> None:
    template = {"a": ["{{ $EVACUATION_X }}-{{ event.id }}-{{evacuation.x}}"], "b": {"limit": 1}}
    assert deployments.render(template, {"x": "{{ $Y }}"}) == {
        "a": ["{{ $Y }}-{{ event.id }}-{{ $Y }}"],
        "b": {"limit": 1},
    }
