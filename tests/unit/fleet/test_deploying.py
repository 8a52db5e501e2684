"""What a deployment of a fleet's hosts keeps and refuses."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from tasks.custody.errors import Refused
from tasks.deployment import register
from tasks.deployment.deployments import Template, deploy


class Server:
    """A server that has one deployment."""

    def __init__(self) -> None:
        """Nothing is updated yet."""
        self.tags = list[str]()

    def update_deployment(self, _: object, update: Any) -> None:
        """Another one."""
        self.tags = update.tags

    def delete_resource_owned_automations(self, _: str) -> None:
        """Gone."""


def test_a_tag_that_a_person_has_given_stays() -> None:
    server, flow = Server(), uuid4()
    entry = {"name": "gpu1", "tags": ["evacuation"], "work_pool": {"name": "p"}}
    there = {(flow, "gpu1"): SimpleNamespace(id=uuid4(), tags=["cluster", "evacuation"])}
    deploy(server, [Template(entry, flow, {})], {}, there)  # type: ignore[arg-type]
    assert server.tags == ["evacuation", "cluster"]


@pytest.mark.parametrize(
    ("stores", "suffixes", "fine"),
    [
        (["all"], ["", ""], False),
        (["all"], ["a", "a"], False),
        (["all"], ["a", "b"], True),
        (["gpu1", "gpu2"], ["", ""], True),
    ],
)
def test_incidents_of_one_second_must_not_have_one_id_and_who_shares_latest_is_told(  # noqa: PLR0913, PLR0917
    stores: list[str],
    suffixes: list[str],
    fine: bool,  # noqa: FBT001  a column of the table
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    saved = list[object]()
    monkeypatch.setattr(register, "save_blocks", saved.append)
    about = 'root = "/srv"\napi_pattern = "serve"\ntraining_pattern = "train"\n'
    parts = [f'[workload.gpu{at}]\n{about}incident_suffix = "{suffix}"\n' for at, suffix in enumerate(suffixes, 1)]
    parts += [f'[store.{name}]\nfolder = "/srv/{name}"\n' for name in stores]
    parts.append(f'[fleet.lab]\nworkloads = ["gpu1", "gpu2"]\nstore = "{stores[0]}"\n')
    file = tmp_path / "fleet.toml"
    file.write_text("".join(parts))
    if fine:
        assert [target.workload for target in register.save(file)[0]] == ["gpu1", "gpu2"]
        assert ("gpu1, gpu2 share /srv/all/latest/, " in capsys.readouterr().out) is (stores == ["all"])
    else:
        with pytest.raises(Refused, match="incident_suffix of their own"):
            register.save(file)
    assert bool(saved) is fine
