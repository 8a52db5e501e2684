"""What ties a container that the block does not name to the workload: each fact alone, and nearly that fact."""

from pathlib import PurePath

import pytest

from tasks.custody.containment.identity import ContainerIdentity, Identity
from tasks.custody.containment.place import Place
from tasks.host.container.membership import Container, Mount
from tasks.host.container.mounts import Ground, Spot, paths_inside, place_outside, spot_of
from tasks.host.process.matcher import Matcher, WorkloadDescription
from tasks.host.process.process import Process

HOST = """
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 254:16 / /srv rw,relatime - ext4 /dev/vdb rw
31 30 254:16 /apps/one /mnt/alias rw,relatime - ext4 /dev/vdb rw
32 27 254:32 / /with\\040space rw,relatime - ext4 /dev/vdc rw
33 27 254:48 / /covered rw,relatime - ext4 /dev/vdd rw
34 27 254:16 /apps/one/data /covered rw,relatime - ext4 /dev/vdb rw
""".strip()
ROOT = spot_of(PurePath("/srv/apps/one"), HOST)
GROUND = Ground(
    ROOT,
    frozenset({spot_of(PurePath("/srv/apps/one/models"), HOST)}),
    8000,
    WorkloadDescription("/srv/apps/one", (Matcher("training", "train.py"),)),
)
NOBODYS = WorkloadDescription("/srv/apps/one", ())
TARGET = PurePath("/app")


def box(**about: object) -> Container:
    return Container(ContainerIdentity("c" * 64, "then"), "web", "served:1", "sha256:0", "running", **about)  # type: ignore[arg-type]  # a test's fields


def tied(source: str, *processes: Process, writable: bool = False, ground: Ground = GROUND) -> tuple[str, bool]:
    mount = Mount(source, TARGET, writable)
    return ground.tie(box(), [(mount, spot_of(PurePath(source), HOST))], processes)


def running(*command: str, places: frozenset[Place]) -> Process:
    return Process(Identity(41, 7), 1, "S", command, "/", "/usr/bin/python3", places=places)


@pytest.mark.parametrize(
    ("path", "device", "inner"),
    [
        ("/etc", "254:0", "/etc"),
        ("/srv", "254:16", "/"),
        ("/srv/apps/one/x", "254:16", "/apps/one/x"),
        ("/srvx", "254:0", "/srvx"),
        ("/mnt/alias/models", "254:16", "/apps/one/models"),
        ("/with space/x", "254:32", "/x"),
        ("/covered/x", "254:16", "/apps/one/data/x"),
    ],
)
def test_a_path_lies_in_the_innermost_mount_and_the_last_on_it(path: str, device: str, inner: str) -> None:
    assert spot_of(PurePath(path), HOST) == Spot(device, PurePath(inner))


@pytest.mark.parametrize(
    ("source", "suspect", "seen"),
    [
        ("/srv/apps/one", True, True),
        ("/srv/apps", True, True),
        ("/srv", True, True),
        ("/srv/apps/one/logs", True, True),
        ("/mnt/alias", True, True),
        ("/covered", True, True),
        ("/srv/apps/two", False, False),
        ("/srv/apps/one-two", False, False),
        ("/apps/one", False, False),
        ("/var/lib/docker/volumes/x/_data", False, False),
    ],
)
def test_a_mount_of_the_root_is_known_by_where_it_lies(source: str, *, suspect: bool, seen: bool) -> None:
    fact, found = tied(source, writable=True)
    assert found is suspect
    assert bool(fact) is seen
    assert (source in fact and "/app" in fact and "writable" in fact) is seen


@pytest.mark.parametrize(
    ("source", "suspect", "seen"),
    [
        ("/srv/apps/one/models", True, True),
        ("/srv/apps/one/models/m.joblib", True, True),
        ("/mnt/alias/models", True, True),
        ("/srv/apps/one", True, True),
        ("/srv/apps/one/logs", False, True),
        ("/srv", False, True),
        ("/", False, False),
        ("/etc", False, False),
    ],
)
def test_a_mount_to_read_counts_if_it_is_of_the_models(source: str, *, suspect: bool, seen: bool) -> None:
    fact, found = tied(source)
    assert (found, bool(fact)) == (suspect, seen)
    assert ("models" in fact.partition(":")[0]) is suspect


def test_models_that_lie_elsewhere_count_where_they_lie() -> None:
    elsewhere = Ground(ROOT, frozenset({spot_of(PurePath("/data/models"), HOST)}), None, NOBODYS)
    assert tied("/data/models/m", ground=elsewhere)[1]
    assert tied("/data", ground=elsewhere) == ("", False)
    assert tied("/srv/apps/one", ground=elsewhere)[1] is False


def test_models_in_the_root_itself_make_no_suspect_of_a_folder_beside_them() -> None:
    flat = Ground(ROOT, frozenset({ROOT}), None, NOBODYS)
    assert tied("/srv/apps/one", ground=flat)[1]
    assert tied("/srv/apps/one/logs", ground=flat)[1] is False


@pytest.mark.parametrize(
    ("ports", "port", "suspect"), [({8000}, 8000, True), ({8001}, 8000, False), ({8000}, None, False)]
)
def test_the_api_s_port(ports: set[int], port: int | None, *, suspect: bool) -> None:
    ground = Ground(ROOT, frozenset(), port, NOBODYS)
    assert ground.tie(box(ports=frozenset(ports)), [], ())[1] is suspect


@pytest.mark.parametrize(
    ("process", "suspect"),
    [
        (running("python3", "train.py", places=frozenset({Place.CWD})), True),
        (running("python3", "/app/train.py", places=frozenset({Place.SCRIPT})), True),
        (running("python3", "train.py", places=frozenset()), False),
        (running("tail", "x.log", places=frozenset({Place.CWD})), False),
    ],
)
def test_a_process_that_matches_and_is_in_the_root(process: Process, *, suspect: bool) -> None:
    fact, found = tied("/srv", process)
    assert found is suspect
    assert ("41" in fact) is suspect


@pytest.mark.parametrize(
    ("place", "inside"),
    [
        ("/srv/models/a.joblib", ["/app/models/a.joblib", "/copy/a.joblib"]),
        ("/srv/data/b.csv", ["/app/data/b.csv"]),
        ("/srv/models/old/c.joblib", ["/copy/old/c.joblib"]),  # /app/models/old has another folder
        ("/srv", ["/app"]),
        ("/srv-other/a.joblib", []),
    ],
)
def test_a_place_of_the_host_is_in_a_container_at_each_path_where_no_inner_mount_covers_it(
    place: str, inside: list[str]
) -> None:
    pairs = [("/srv", "/app"), ("/srv/models", "/copy"), ("/var/old", "/app/models/old")]
    mounts = [Mount(source, PurePath(target), writable=False) for source, target in pairs]
    assert paths_inside(PurePath(place), mounts) == inside
    assert [place_outside(PurePath(path), mounts) for path in inside] == [PurePath(place)] * len(inside)
