"""Which way an API is brought back, and what a new container of the block's image lacks, on an engine in memory."""

import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from pydantic import ValidationError

from blocks.workload_fields import WorkloadFields
from tasks.containment.containers.pause import WorkloadContainers
from tasks.custody.containment.identity import ContainerIdentity, Identity
from tasks.custody.containment.receipt import FrozenContainer
from tasks.custody.errors import EvacuationError
from tasks.host.container.membership import Container
from tasks.incident.layout import MADE_CONTAINERS, of_boot
from tasks.recovery.api_client import NotRecovered
from tasks.recovery.container_api import ContainerApi, find_named, restore_restart_policies
from tasks.recovery.image_api import ImageApi, new_container
from tasks.recovery.process_api import ProcessApi
from tasks.recovery.recover import StartAs, _require_quiet, _way_back, as_it_ran
from tasks.recovery.rehearsal import starts_of
from tasks.recovery.served_model import find_served
from tasks.runtime.context import RunContext
from tasks.system import declarations
from tests.support.memory_engine import MemoryEngine, container
from tests.support.run_context import INCIDENT, case_of
from tests.support.workloads import SmallWorkload

if TYPE_CHECKING:
    from tasks.host.container.docker_engine import Engine

NOW = datetime.now(UTC)
ID = f"sha256:{'1' * 64}"
SECRET = "hunter2-of-the-api"


def image(id_: str = ID, **config: Any) -> dict[str, Any]:
    """What the engine says of one."""
    return {"Id": id_, "Config": {"Cmd": ["serve"], "Entrypoint": None, "Env": [], "Labels": None} | config}


class ImageEngine(MemoryEngine):
    """It has images, and makes containers of them; `files` are those in each of its containers."""

    def __init__(self, images: Mapping[str, dict[str, Any]], *there: Container) -> None:
        """Hold these."""
        super().__init__(*there)
        self.images, self.made, self.files = images, dict[str, Mapping[str, Any]](), set[str]()

    def image(self, name: str) -> dict[str, Any] | None:
        """One of this host."""
        return self.images.get(name)

    def create(self, name: str, about: Mapping[str, Any]) -> str:
        """Made, not started."""
        made = replace(container(len(self.made) + 1), name=name, state="created", pid=0)
        self.there[made.id], self.made[made.id] = made, about
        return made.id

    def start(self, id_: str) -> None:
        """Running."""
        self.change(id_, state="running")

    def remove(self, id_: str) -> None:
        """Gone."""
        del self.there[id_]

    def inspect(self, id_: str) -> dict[str, Any]:
        """As it was made, with the working folder of its image."""
        about = self.made[id_]
        rows = [
            {"Source": each["Source"], "Destination": each["Target"], "RW": not each["ReadOnly"]}
            for each in about["HostConfig"]["Mounts"]
        ]
        return {**about, "Mounts": rows}

    def archive(self, id_: str, path: str) -> object:
        """Whether it is there is all that is asked."""
        return path in self.files if id_ in self.there else None


@pytest.fixture
def case(small: SmallWorkload) -> Iterator[tuple[RunContext, ImageEngine]]:
    """An incident of a workload whose block can have a container made, on a host with its image."""
    fields: dict[str, Any] = {
        "api_image": "served:1",
        "api_ports": [f"{small.port}:8000"],
        "api_mounts": ["./models:/app/models", "logs:/app/logs"],
        "api_environment": {"API_TOKEN": SECRET},
        "containers": ["image=served:1"],
    }
    with case_of(small.block(**fields)) as context:
        engine = ImageEngine({"served:1": image()})
        context.adapters.engine = cast("Engine", engine)
        yield context, engine


def ran_as_container(context: RunContext, monkeypatch: pytest.MonkeyPatch, id_: str = ID) -> FrozenContainer:
    """The API ran in a container of this image when it was frozen."""
    was = FrozenContainer(ContainerIdentity("f" * 64, "then"), "api", "served:1", "always", False, "", NOW, None)
    port = {"8000/tcp": [{"HostPort": context.workload.api_address.rpartition(":")[2]}]}
    about = {"Image": id_, "HostConfig": {"PortBindings": port, "RestartPolicy": {"Name": "always"}}}
    for module in ("containment.containers.pause", "recovery.container_api", "recovery.image_api"):
        monkeypatch.setattr(f"tasks.{module}.kept_config", lambda *_: about)
    context.state.frozen_containers.write([was])
    return was


@pytest.mark.parametrize("container_ran", [True, False])
@pytest.mark.parametrize(("start_as", "way"), [("process", ProcessApi), ("container", ImageApi), (None, None)], ids=str)
def test_the_api_comes_back_as_is_asked_else_as_it_ran(
    case: tuple[RunContext, ImageEngine],
    monkeypatch: pytest.MonkeyPatch,
    start_as: StartAs | None,
    way: type[Any] | None,
    *,
    container_ran: bool,
) -> None:
    context, _ = case
    if container_ran:
        ran_as_container(context, monkeypatch)
    expected = way or (ContainerApi if container_ran else ProcessApi)
    assert type(_way_back(context, start_as)) is expected


def test_what_an_earlier_recovery_has_made_is_proven_again_and_a_stopped_one_is_not_taken_up(
    case: tuple[RunContext, ImageEngine], small: SmallWorkload
) -> None:
    context, engine = case
    context.workload = context.workload.model_copy(update={"api_mounts": []})  # nothing runs: nothing is mounted
    first = ImageApi(context)
    first.prepare()
    first.start()
    first.keep()
    again = _way_back(context, None)
    assert (type(again), again.container) == (ImageApi, f"{INCIDENT}-api-1")
    assert again.again()
    assert list(filter(None, again.words)) == ["serve", f"API_TOKEN={SECRET}"]
    with socket.create_server(("127.0.0.1", small.port)), pytest.raises(NotRecovered, match=f"{again.container} of an"):
        _require_quiet(context, "")
    engine.end(next(iter(engine.there)), 1)
    assert type(_way_back(context, None)) is ProcessApi
    second = ImageApi(context)
    second.prepare()
    assert second.container == f"{INCIDENT}-api-2"
    second.end()
    assert [each.name for each in engine.there.values()] == [f"{INCIDENT}-api-1"]
    made = context.state.made_containers.path
    made.rename(made.with_name(of_boot(MADE_CONTAINERS, "0badb007")))
    assert ImageApi(context).container == f"{INCIDENT}-api-3", "names of earlier boots are taken too"


def test_no_value_of_a_variable_goes_on_record(case: tuple[RunContext, ImageEngine]) -> None:
    context, engine = case
    context.workload = context.workload.model_copy(update={"api_mounts": []})
    api = ImageApi(context)
    api.prepare()
    api.start()
    (about,) = engine.made.values()
    assert f"API_TOKEN={SECRET}" in about["Config"]["Env"]
    assert about["Image"] == ID
    told = [*context.log.entries(), starts_of(context, as_it_ran(context))]
    assert ID in str(told)
    assert SECRET not in str(told)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"api_image": ""}, "the image api_image = '' on this host"),
        ({"api_image": "gone:1"}, "the image api_image = 'gone:1' on this host: nothing is pulled"),
        ({"api_ports": ["1:8000", "2:8000"]}, r"api_ports to publish port \d+, where api_url is; got .*1:8000"),
        ({"api_mounts": ["./none:/app"]}, "none in api_mounts to be a folder, and no link"),
        ({"api_mounts": ["./link:/app"]}, "link in api_mounts to be a folder, and no link"),
        ({"api_mounts": ["./file:/app"]}, "file in api_mounts to be a folder, and no link"),
        ({"containers": []}, 'containers to have "image=served:1"'),
        ({"containers": ["name=api", "image=other"]}, "so that it is contained"),
        ({}, ""),
        ({"api_ports": []}, ""),
        ({"api_mounts": []}, ""),
        ({"containers": [f"image={ID}"]}, ""),
    ],
)
def test_what_it_lacks_is_said_by_recovery_and_rehearsal_and_nothing_is_made(
    case: tuple[RunContext, ImageEngine], small: SmallWorkload, fields: dict[str, Any], why: str
) -> None:
    (small.root / "link").symlink_to(small.root)
    (small.root / "file").touch()
    context, engine = case
    context.workload = context.workload.model_copy(update=fields)
    good, told = starts_of(context, as_it_ran(context)).get("the start as a new container", (False, ""))
    assert good is not bool(why)
    if not why:
        assert ID in told
        return
    with pytest.raises(NotRecovered, match=why):
        ImageApi(context).prepare()
    assert engine.there == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_it_runs_as_the_account_that_a_process_would_run_as(
    case: tuple[RunContext, ImageEngine], small: SmallWorkload
) -> None:
    context, engine = case
    made = new_container(context.workload, cast("Engine", engine), 0)  # declared by root: the image's own user
    assert "User" not in made["Config"]
    assert "CapDrop" not in made["HostConfig"]
    os.chown(small.root, 4242, 4242)
    api = ImageApi(context)
    api.prepare()
    (about,) = engine.made.values()
    assert about["Config"]["User"] == "4242:65534"
    assert about["HostConfig"]["CapDrop"] == ["ALL"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_roots_declarations_hold_for_it(
    case: tuple[RunContext, ImageEngine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, engine = case
    monkeypatch.setattr(declarations, "FOLDER", tmp_path)
    monkeypatch.delenv(declarations.VARIABLE)
    with pytest.raises(NotRecovered, match="an account other than root"):
        ImageApi(context).prepare()
    block = context.workload.model_copy(update={"user": "root"})
    for fields, good in (
        ({}, True),
        ({"api_image": "other:1"}, False),
        ({"api_image": ""}, False),
        ({"api_ports": []}, False),
        ({"api_mounts": []}, False),
        ({"api_environment": {"API_TOKEN": "another"}}, False),
    ):
        text = declarations.declaration(block.model_copy(update=fields))
        (tmp_path / "own.toml").write_text(text)
        (tmp_path / "own.toml").chmod(0o644)
        if good:
            ImageApi(context).prepare()
            engine.there.clear()
            continue
        with pytest.raises(NotRecovered, match="as root has declared") as caught:
            ImageApi(context).prepare()
        assert SECRET not in str(caught.value)
        assert engine.there == {}


@pytest.mark.parametrize("before", [ID, f"sha256:{'2' * 64}", ""])
@pytest.mark.parametrize("pinned", [ID, f"served@{ID}", "", "mysha256:1"])
def test_another_image_than_the_one_that_ran_is_refused_unless_the_block_pins_its_own(
    case: tuple[RunContext, ImageEngine], monkeypatch: pytest.MonkeyPatch, before: str, pinned: str
) -> None:
    context, engine = case
    if before:
        ran_as_container(context, monkeypatch, before)
    if pinned:
        engine.images = {pinned: image()}
        names = {"api_image": pinned, "containers": [f"image={ID}"]}
        context.workload = context.workload.model_copy(update=names)
    if before in {"", ID} or ID in pinned:
        assert ImageApi(context).config["Image"] == ID
        return
    with pytest.raises(NotRecovered, match=f"to be the image that ran, {before}.*; got {ID}"):
        ImageApi(context).prepare()
    assert engine.there == {}


def test_the_container_whose_place_is_taken_is_not_started_by_the_engine_again(
    case: tuple[RunContext, ImageEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, engine = case
    was = ran_as_container(context, monkeypatch)
    worker = replace(was, identity=ContainerIdentity("e" * 64, "then"), name="worker")
    context.state.frozen_containers.write([was, worker])
    for each in (was, worker):
        engine.there[each.identity.id] = replace(container(0, "exited"), identity=each.identity, name=each.name)
    restore_restart_policies(WorkloadContainers(context), "api")
    assert {each.name: each.restart for each in engine.there.values()} == {"api": "no", "worker": "always"}
    restore_restart_policies(WorkloadContainers(context))
    assert {each.restart for each in engine.there.values()} == {"always"}


MODELS = ["models/model_a.joblib", "/app/models/model_a.joblib", "/app/models/model_b.joblib"]
SEALED = [*MODELS, "logs/a.log", "/app/logs/x"]


@pytest.mark.parametrize(
    ("mounts", "listed"),
    [
        (["./models:/app/models", "./logs:/app/logs"], {"models/model_a.joblib", "/app/models/model_b.joblib"}),
        (["models:/app/models"], {"/app/models/model_a.joblib", "/app/models/model_b.joblib"}),
        ([], {"/app/models/model_a.joblib", "/app/models/model_b.joblib"}),
    ],
)
def test_a_mounted_model_goes_by_its_name_in_the_root_and_another_by_that_in_the_container_that_ran(
    case: tuple[RunContext, ImageEngine], mounts: list[str], listed: set[str]
) -> None:
    context, engine = case
    context.workload = context.workload.model_copy(update={"api_mounts": mounts})
    api = ImageApi(context)
    api.prepare()
    engine.change(next(iter(engine.there)), folder="/app")
    engine.files = {"/app/models/model_a.joblib", "/app/models/model_b.joblib", "/app/logs/a.log", "/app/logs/x"}
    assert {*api.list_names(SEALED)} == listed
    assert api.path_in_api("models/model_a.joblib") == "/app/models/model_a.joblib"
    assert api.path_in_api("/app/models/model_a.joblib") == "/app/models/model_a.joblib"
    assert api.path_in_api("models/../../etc/passwd") == ""
    assert api.path_in_api("/etc/passwd") == ""


@pytest.mark.parametrize("pattern", ["nets/*.pkl", "/app/nets/*.pkl", "nets"])
def test_a_model_of_the_image_is_known_where_a_pattern_names_it(
    case: tuple[RunContext, ImageEngine], pattern: str
) -> None:
    """A plan said that it would be proven, and the recovery found no known model."""
    context, engine = case
    context.workload = context.workload.model_copy(update={"api_mounts": [], "models": [pattern]})
    api = ImageApi(context)
    api.prepare()
    engine.change(next(iter(engine.there)), folder="/app")
    engine.files = {"/app/nets/leaf.pkl", "/app/other/leaf.pkl", "/nets/leaf.pkl"}
    assert api.list_names([*engine.files]) == ["/app/nets/leaf.pkl"]
    assert api.path_in_api("nets/leaf.pkl") == api.path_in_api("/app/nets/leaf.pkl") == "/app/nets/leaf.pkl"
    assert find_served("nets/leaf.pkl", ["/app/nets/leaf.pkl"], api) == "/app/nets/leaf.pkl"
    assert {api.path_in_api(name) for name in ("/nets/leaf.pkl", "../nets/leaf.pkl", "other/leaf.pkl")} == {""}


def test_a_model_in_a_mounted_folder_of_another_name_is_known(case: tuple[RunContext, ImageEngine]) -> None:
    context, engine = case
    context.workload = context.workload.model_copy(update={"api_mounts": ["./models:/data/in"]})
    api = ImageApi(context)
    api.prepare()
    engine.change(next(iter(engine.there)), folder="/app")
    engine.files = {"/data/in/model_a.joblib"}
    assert api.list_names(["models/model_a.joblib"]) == ["models/model_a.joblib"]
    assert (
        api.path_in_api("models/model_a.joblib")
        == api.path_in_api("/data/in/model_a.joblib")
        == "/data/in/model_a.joblib"
    )
    assert PurePath(api.root) == PurePath("/app")
    for word, named in (
        ("M=/data/in/model_a.joblib", True),
        ("--dir=/data/in", True),
        ("models/model_a.joblib", False),
    ):
        assert bool(find_named(api, [word], ["models/model_a.joblib"])) is named


@pytest.mark.parametrize(
    ("about", "process"),
    [
        ({"container": None, "cgroup": "0::/user.slice/x.scope"}, True),
        ({"container": "1" * 64, "cgroup": "0::/docker/1"}, False),
        ({"container": None, "cgroup": "0::/system.slice/api.service"}, False),
    ],
)
def test_what_a_container_or_a_service_runs_did_not_come_back_as_a_process(
    case: tuple[RunContext, ImageEngine], monkeypatch: pytest.MonkeyPatch, about: dict[str, Any], *, process: bool
) -> None:
    context, _ = case
    context.workload = context.workload.model_copy(update={"units": ["api.service"]})
    one = Identity(1 << 22, 1)
    context.state.recovered.write([one])
    host = SimpleNamespace(get_process=lambda who: SimpleNamespace(identity=who, alive=True, **about))
    api = ProcessApi(context)
    monkeypatch.setattr(api, "host", host)
    assert api.again() is process
    assert (api.identity == one) is process


@pytest.mark.slow
def test_a_port_that_is_taken_is_said(case: tuple[RunContext, ImageEngine]) -> None:
    context, _ = case
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        context.workload = context.workload.model_copy(update={"api_url": f"http://127.0.0.1:{port}"})
        with pytest.raises(EvacuationError, match=f"nothing of the workload to run .*{os.getpid()}"):
            _require_quiet(context, "")
        context.state.recovered.write([Identity(1 << 22, 1)])  # an earlier one: what runs may be the workload's
        with pytest.raises(EvacuationError, match=f"nobody to listen on .*{port} .*somebody who does"):
            _require_quiet(context, "")


@pytest.mark.parametrize(
    ("field", "text", "good"),
    [
        *(("api_ports", text, True) for text in ("8000:8000", "0.0.0.0:80:8000", "10.0.0.1:1:65535")),
        *(("api_ports", text, False) for text in ("", "8000", "0:1", "1:0", "1:2/udp", "host:1:2", "1:2\n", "٣:٤")),
        *(("api_mounts", text, True) for text in ("models:/app/models", "models:/app/models:ro", "./models:/m")),
        *(
            ("api_mounts", text, False)
            for text in (
                *("", "models", "/:/host", "/etc:/app/models", "/var/run/docker.sock:/var/run/docker.sock"),
                *(
                    "../other:/app",
                    "./../other:/app",
                    "./:/app",
                    ".:/app",
                    "./a/../..:/app",
                    "./a/b:/app",
                    ".//etc:/app",
                ),
                *("models:/", "models:app", "models:/app/../etc", "models:/app:z", "models:/app:ro:ro", "-v:/app"),
            )
        ),
        *(("api_image", text, True) for text in ("served", "r:5000/a/served:1", ID, f"served@{ID}")),
        *(("api_image", text, False) for text in ("-v", "served 1", "/served", "served\n")),
    ],
)
def test_nothing_of_the_host_but_volumes_ports_and_folders_in_the_root(field: str, text: str, *, good: bool) -> None:
    fields: dict[str, Any] = {"root": "/srv/api", field: text if field == "api_image" else [text]}
    if good:
        WorkloadFields(**fields)
        return
    with pytest.raises(ValidationError) as caught:
        WorkloadFields(**fields)
    if field != "api_image":
        assert f"got {text!r}. Nothing was saved." in str(caught.value)
