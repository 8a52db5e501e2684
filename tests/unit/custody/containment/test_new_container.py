"""What the block says of a new container of the API, and what the engine is told."""

from pathlib import PurePath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from blocks.workload_fields import WorkloadFields
from tasks.custody.containment.container import Mount, published
from tasks.custody.containment.new_container import host_folder, is_pinned, mount_of, new_container, port_of

IMAGE = {
    "Id": f"sha256:{'a' * 64}",
    "Config": {"Entrypoint": ["serve"], "Cmd": ["--now"], "Env": ["PATH=/bin", "MODEL_PATH=theirs"], "Labels": None},
}
PORTS = st.integers(1, 65535)


def made(user: str = "1000:1000", **fields: Any) -> dict[str, Any]:
    """The description of a container with these ports, mounts and variables."""
    nothing: dict[str, Any] = {"ports": [], "mounts": [], "environment": {}}
    return new_container(IMAGE, "served:1", root="/srv/api", user=user, **(nothing | fields))


@given(st.sampled_from(["", "0.0.0.0:", "192.0.2.7:", "[::1]:"]), PORTS, PORTS)
def test_what_is_published_is_the_hosts_port(address: str, host: int, inside: int) -> None:
    about = made(ports=[f"{address}{host}:{inside}"])
    assert published(about) == {host}
    (binding,) = about["HostConfig"]["PortBindings"][f"{inside}/tcp"]
    assert binding["HostIp"] == ((address.strip("[]:") and address[:-1].strip("[]")) or "127.0.0.1")


@pytest.mark.parametrize(
    "text",
    ["", "8000", "0:8000", "8000:0", "65536:1", "1:65536", "8000:8000/udp", "host:1:2", "1.2.3:1:2", "::1:1:2", "a:b"],
)
def test_what_is_no_port_is_refused_in_plain_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected HOST:CONTAINER .*; got .*\. Nothing was saved\. Write it like"):
        port_of(text)
    with pytest.raises(ValidationError, match="8000:8000"):
        WorkloadFields(root="/srv/api", api_ports=[text])


@pytest.mark.parametrize(
    ("text", "mount", "folder"),
    [
        ("models:/app/models", Mount("models", PurePath("/app/models"), writable=True), ""),
        ("models:/app/models:ro", Mount("models", PurePath("/app/models"), writable=False), ""),
        ("./models:/app/models:rw", Mount("./models", PurePath("/app/models"), writable=True), "models"),
        ("./a b/モデル:/app/m", Mount("./a b/モデル", PurePath("/app/m"), writable=True), "a b/モデル"),
    ],
)
def test_a_volume_or_a_folder_of_the_root_is_mounted(text: str, mount: Mount, folder: str) -> None:
    assert mount_of(text) == mount
    assert host_folder(mount) == folder
    WorkloadFields(root="/srv/api", api_mounts=[text])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "models",
        "/:/host",
        "/etc:/app/models",
        "/var/run/docker.sock:/var/run/docker.sock",
        "../other:/app",
        "./../other:/app",
        "./:/app",
        ".:/app",
        "./a/../..:/app",
        "./a/./b:/app",
        "./a//b:/app",
        ".//etc:/app",
        "models:/",
        "models:app/models",
        "models:/app/../etc",
        "models:/app/models:z",
        "models:/app/models:ro:rw",
        "-v:/app",
        "mo\0dels:/app",
    ],
)
def test_nothing_else_of_the_host_is_mounted(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected VOLUME:TARGET .*; got .*nothing outside of the root is mounted"):
        mount_of(text)
    with pytest.raises(ValidationError, match="outside of the root"):
        WorkloadFields(root="/srv/api", api_mounts=[text])


@pytest.mark.parametrize("name", ["-v", "served 1", "--privileged", "served\n", "/served"])
def test_what_is_no_image_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        WorkloadFields(root="/srv/api", api_image=name)


def test_it_is_made_of_the_images_id_runs_its_command_and_has_the_blocks_variables_over_the_images() -> None:
    about = made(environment={"MODEL_PATH": "ours", "B": "x=y"})
    assert (about["Image"], about["Path"], about["Args"]) == (IMAGE["Id"], "serve", ["--now"])
    assert about["Config"]["Env"] == ["PATH=/bin", "MODEL_PATH=ours", "B=x=y"]
    bare = {"Id": IMAGE["Id"], "Config": {"Entrypoint": None, "Cmd": None, "Env": None, "Labels": None}}
    assert new_container(bare, "b", root="/", ports=[], mounts=[], environment={}, user="")["Args"] == []


@pytest.mark.parametrize("user", ["", "1000:1000"])
def test_it_gains_no_rights_and_an_account_of_the_host_has_none(user: str) -> None:
    about = made(user=user, mounts=["./models:/app/models:ro", "logs:/app/logs"])
    host = about["HostConfig"]
    assert about["Config"].get("User", "") == user
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host.get("CapDrop") == (["ALL"] if user else None)
    assert not {"Privileged", "CapAdd", "Devices", "PidMode", "NetworkMode", "Binds"} & host.keys()
    assert host["Mounts"] == [
        {"Type": "bind", "Source": "/srv/api/models", "Target": "/app/models", "ReadOnly": True},
        {"Type": "volume", "Source": "logs", "Target": "/app/logs", "ReadOnly": False},
    ]


@pytest.mark.parametrize(
    ("name", "pinned"),
    [
        (f"sha256:{'a' * 64}", True),
        (f"registry:5000/served@sha256:{'0' * 64}", True),
        ("sha256:aaaaaaaaaaaa", False),
        ("served:1", False),
        ("sha256", False),
        ("served", False),
    ],
)
def test_an_image_is_pinned_by_its_content_alone(name: str, *, pinned: bool) -> None:
    assert is_pinned(name) is pinned
    WorkloadFields(root="/srv/api", api_image=name)
