"""Which containers of the engine's list are inspected: those that the block may mean, and no bystander."""

from collections.abc import Mapping
from typing import Any

import pytest

from tasks.custody.errors import EngineError
from tasks.host.container.docker_engine import DockerEngine
from tasks.host.container.membership import workload_containers

IMAGE_ID = f"sha256:{'be' * 32}"
OURS: dict[str, Any] = {
    "Id": "a" * 64,
    "Names": ["/api"],
    "Image": "served:1",
    "ImageID": IMAGE_ID,
    "Labels": {"team": "ml"},
}
BYSTANDER: dict[str, Any] = {
    "Id": "b" * 64,
    "Names": ["/db"],
    "Image": "db:1",
    "ImageID": f"sha256:{'0' * 64}",
    "Labels": None,
}


class Client:
    """Lists rows, and cannot describe those that are `broken`; `children` descend from any image that is asked for."""

    def __init__(self, *rows: Mapping[str, Any], broken: str = "", children: str = "", image: str = "served:1") -> None:
        """Take the rows; `image` is the name that each inspection tells."""
        self.rows, self.broken, self.children, self.image = rows, broken, children, image
        self.described: list[str] = []

    def containers(self, *, all: bool, filters: Mapping[str, Any]) -> list[Mapping[str, Any]]:  # noqa: A002
        """All rows, or the children of an image."""
        assert all
        return [row for row in self.rows if "status" in filters or row["Id"] == self.children]

    def inspect_container(self, id_: str) -> dict[str, Any]:
        """As `docker inspect`, of what is read alone."""
        self.described.append(id_)
        if id_ == self.broken:
            from docker.errors import APIError

            raise APIError("500 Server Error: layer does not exist")
        (row,) = (row for row in self.rows if row["Id"] == id_)
        return {
            "Id": id_,
            "Name": row["Names"][0] if row["Names"] else "/api",
            "Image": row["ImageID"],
            "State": {"StartedAt": "then", "Status": "running", "Pid": 1},
            "Config": {"Image": self.image, "Labels": row["Labels"], "WorkingDir": ""},
            "HostConfig": {"RestartPolicy": {"Name": "no"}, "AutoRemove": False},
        }


def found(client: Client, *asked: str) -> list[str]:
    engine = DockerEngine()
    engine.__dict__["_client"] = client
    return [each.id for each in workload_containers(engine.containers(asked), asked, None)]


ASKED = [
    "image=served:1",
    "image=docker.io/library/served:1",
    f"image={IMAGE_ID}",
    "image=bebebebebebe",
    "label=team",
    "label=team=ml",
    "name=api",
    "name=/api",
]


@pytest.mark.parametrize("asked", ASKED)
def test_a_bystander_that_the_engine_cannot_describe_hinders_nothing(asked: str) -> None:
    """Its HTTP 500 kept the workload unfrozen and blinded the guard."""
    client = Client(BYSTANDER, OURS, broken=BYSTANDER["Id"])
    assert found(client, "label=absent", asked) == [OURS["Id"]]
    assert client.described == [OURS["Id"]]


@pytest.mark.parametrize("asked", ASKED)
def test_one_that_belongs_and_cannot_be_described_is_an_error(asked: str) -> None:
    with pytest.raises(EngineError, match="layer does not exist"):
        found(Client(BYSTANDER, OURS, broken=OURS["Id"]), asked)


@pytest.mark.parametrize(
    "listed", [{"Image": IMAGE_ID}, {"Image": f"sha256:{'7' * 64}"}, {"Image": ""}, {"Names": None}, {"Names": []}]
)
def test_one_whose_row_does_not_tell_is_inspected(listed: Mapping[str, Any]) -> None:
    """The list has the image's id where a newer image has its name, while the inspection still has the name."""
    assert found(Client({**OURS, **listed}), "image=served:1") == [OURS["Id"]]


def test_a_child_of_the_image_and_one_with_a_second_name_are_inspected() -> None:
    child = {**OURS, "Image": "patched:1"}
    assert found(Client(child, children=child["Id"], image="patched:1"), "image=served:1") == [child["Id"]]
    linked = {**OURS, "Names": ["/api", "/web/backend"]}
    client = Client(linked)
    assert found(client, "name=web/backend") == []
    assert client.described == [linked["Id"]]
