"""Which containers are the workload's, which is ours, and how each is to be ended."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import PurePath
from signal import SIGINT, SIGKILL, SIGQUIT, SIGTERM, Signals

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.containment.identity import ContainerIdentity
from tasks.host.cgroup.standpoint import Standpoint, container_of, own_container
from tasks.host.container.membership import (
    Container,
    Mount,
    belongs,
    find_mounts,
    find_published_ports,
    gentle_signal_of,
    reference,
    workload_containers,
)
from tasks.host.process.process import Masks

ID, OTHER = "3f" * 32, "a0" * 32
API = Container(
    ContainerIdentity(ID, "2026-01-02T03:04:05Z"),
    "portfolio-api",
    "mlops-sklearn-portfolio:local",
    f"sha256:{'be' * 32}",
    "running",
    labels={"com.example.team": "ml", "bare": ""},
)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("image=mlops-sklearn-portfolio:local", True),
        ("image=docker.io/library/mlops-sklearn-portfolio:local", True),
        ("image=mlops-sklearn-portfolio", False),
        ("image=mlops-sklearn", False),
        (f"image=sha256:{'be' * 32}", True),
        (f"image={'be' * 6}", True),
        ("image=be", False),
        ("label=com.example.team", True),
        ("label=com.example.team=ml", True),
        ("label=com.example.team=web", False),
        ("label=bare", True),
        ("label=bare=", True),
        ("label=absent", False),
        ("name=portfolio-api", True),
        ("name=/portfolio-api", True),
        ("name=portfolio", False),
    ],
)
def test_a_container_is_asked_for_by_image_label_or_name(asked: str, *, expected: bool) -> None:
    assert belongs(API, asked) is expected


def test_a_container_of_an_image_made_from_the_named_one_belongs() -> None:
    child = replace(API, image="patched:1", descends_from=("mlops-sklearn-portfolio:local",))
    assert belongs(child, "image=mlops-sklearn-portfolio:local")


@pytest.mark.parametrize("name", ["registry.local:5000/team/api", "api", "docker.io/library/api"])
def test_a_name_without_a_tag_means_latest(name: str) -> None:
    assert reference(name) == reference(f"{name}:latest")


@pytest.mark.parametrize(
    ("started_at", "before"),
    [
        ("2026-01-02T03:04:04.999999999Z", True),
        ("2026-01-02T03:04:05Z", False),
        ("2026-01-02T03:04:05.000000001Z", False),
        ("2026-01-02T12:04:04+09:00", True),
        ("2026-01-02T02:04:06-01:00", False),
        ("0001-01-01T00:00:00Z", True),
        ("then", True),
        ("2026-01-02T03:04:06", True),
        ("", True),
    ],
)
def test_a_start_is_compared_as_a_time_and_one_that_cannot_be_read_is_an_early_one(
    started_at: str, *, before: bool
) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert ContainerIdentity(ID, started_at).started_before(moment) is before


def test_the_living_are_picked_and_our_own_is_spared() -> None:
    paused = replace(API, identity=ContainerIdentity(OTHER, ""), state="paused")
    exited = replace(API, identity=ContainerIdentity("cd" * 32, ""), state="exited")
    asked = ["label=bare"]
    assert workload_containers([API, paused, exited], asked, None) == [API, paused]
    assert workload_containers([API, paused, exited], asked, ID) == [paused]
    assert workload_containers([API, paused], [], None) == []


@pytest.mark.parametrize(
    "line",
    [
        f"0::/system.slice/docker-{ID}.scope",
        f"0::/system.slice/docker-{ID}.scope/app.slice",
        f"12:freezer:/docker/{ID}\n0::/\n",
        f"4:memory:/process_api/cdd4ba901de64d8e1977b12f0b4c07cb\n3:cpuset:/docker/{ID}",
        f"0::/../{ID}",
        f"0::/../../system.slice/docker-{ID}.scope",
        f"0::/kubepods/burstable/pod5b1c/{ID}",
        f"0::/kubepods.slice/kubepods-pod5b1c.slice/cri-containerd-{ID}.scope",
        f"0::/kubepods.slice/kubepods-pod5b1c.slice/crio-{ID}.scope",
        f"0::/machine.slice/libpod-{ID}.scope/container",
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope",
        f"0::/docker/{OTHER}/docker/{ID}",
    ],
)
def test_the_cgroup_tells_the_innermost_container(line: str) -> None:
    assert container_of(line) == ID


@pytest.mark.parametrize(
    "line",
    [
        "0::/",
        "",
        "0::/user.slice/user-1000.slice/session-1.scope",
        "4:memory:/process_api/cdd4ba901de64d8e1977b12f0b4c07cb",
        f"0::/machine.slice/libpod-conmon-{ID}.scope",
        f"0::/system.slice/{ID}0.service",
    ],
)
def test_a_process_of_the_host_is_in_no_container(line: str) -> None:
    assert container_of(line) is None


@given(st.text(alphabet="/-.:\n0123456789abcdef", max_size=300))
def test_what_is_told_is_always_a_full_id(text: str) -> None:
    told = container_of(text)
    assert told is None or len(told) == len(ID)


def test_our_own_container_is_known_even_where_a_namespace_hides_it() -> None:
    mounts = (
        f"712 690 254:1 /var/lib/docker/containers/{ID}/resolv.conf /etc/resolv.conf rw,relatime - ext4 /dev/vda rw\n"
        f"713 690 254:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw,relatime - ext4 /dev/vda rw\n"
    )
    on_the_host = f"90 25 0:50 / /var/lib/docker/containers/{OTHER}/mounts/shm rw - tmpfs shm rw\n"
    assert own_container("0::/", mounts) == ID
    assert own_container(f"0::/docker/{ID}", "") == ID
    assert own_container("0::/", on_the_host) is None


HOST = "0::/init.scope"


@pytest.mark.parametrize(
    ("ours", "inits", "mounted", "cgroup", "expected"),
    [
        ("0::/user.slice/s", HOST, "", f"0::/system.slice/docker-{ID}.scope", ID),
        ("0::/user.slice/s", HOST, "", "0::/user.slice/other", None),
        # We are in a container with the pids of the host: what is in ours is told apart from what is on the host.
        (f"0::/docker/{OTHER}", HOST, OTHER, f"0::/docker/{OTHER}/sub", OTHER),
        (f"0::/docker/{OTHER}", HOST, OTHER, f"0::/docker/{ID}", ID),
        (f"0::/docker/{OTHER}", HOST, OTHER, "0::/user.slice/s", None),
        # The same behind a cgroup namespace, which shows our own at the top.
        ("0::/", "0::/../../init.scope", OTHER, "0::/", OTHER),
        ("0::/", "0::/../../init.scope", OTHER, f"0::/../docker-{ID}.scope", ID),
        ("0::/", "0::/../../init.scope", OTHER, "0::/../../user.slice/s", None),
        # We are in a container that is all the world that we see, as on many a CI.
        ("0::/", "0::/", OTHER, "0::/", None),
        ("0::/", "0::/", OTHER, f"0::/docker/{ID}", ID),
        (f"0::/docker/{OTHER}", f"0::/docker/{OTHER}", OTHER, f"0::/docker/{OTHER}", None),
        (f"0::/docker/{OTHER}", f"0::/docker/{OTHER}", OTHER, f"0::/docker/{OTHER}/docker/{ID}", ID),
    ],
)
def test_what_is_in_a_container_depends_on_where_we_stand(
    ours: str, inits: str, mounted: str, cgroup: str, expected: str | None
) -> None:
    mounts = f"1 1 8:1 /containers/{mounted}/hosts /etc/hosts rw - ext4 /dev/a rw\n" if mounted else ""
    here = Standpoint.of(ours, inits, mounts)
    assert here.container(cgroup) == expected
    assert here.own == (mounted or None)


def mask(*numbers: Signals) -> int:
    return sum(1 << (number - 1) for number in numbers)


@pytest.mark.parametrize(
    ("stop_signal", "masks", "expected"),
    [
        ("", None, SIGTERM),
        ("SIGQUIT", None, SIGQUIT),
        ("QUIT", Masks(caught=mask(SIGQUIT)), SIGQUIT),
        ("3", Masks(caught=mask(SIGQUIT)), SIGQUIT),
        ("SIGNONSENSE", None, SIGTERM),
        ("", Masks(caught=mask(SIGTERM, SIGINT)), SIGTERM),
        ("", Masks(caught=mask(SIGINT)), SIGINT),
        ("SIGQUIT", Masks(caught=mask(SIGTERM)), SIGTERM),
        ("", Masks(blocked=mask(SIGTERM)), SIGTERM),
        ("", Masks(), None),
        ("", Masks(ignored=mask(SIGTERM)), None),
        ("", Masks(caught=mask(SIGKILL)), None),
    ],
)
def test_the_signal_is_one_that_the_first_process_hears(
    stop_signal: str, masks: Masks | None, expected: Signals | None
) -> None:
    assert gentle_signal_of(replace(API, stop_signal=stop_signal), masks) is expected


@pytest.mark.parametrize(
    ("bindings", "answer"),
    [
        ({"8000/tcp": [{"HostPort": "9000"}, {"HostPort": "8000"}]}, True),
        ({"8000/tcp": [{"HostPort": "80"}]}, False),
        ({"8000/tcp": None, "1/udp": [{}]}, False),
        ({}, False),
        (None, False),
    ],
)
def test_what_a_container_publishes_is_told_by_the_engine(bindings: object, *, answer: bool) -> None:
    assert (8000 in find_published_ports({"HostConfig": {"PortBindings": bindings}})) is answer


def test_a_port_that_the_engine_chose_is_published_and_a_range_to_choose_from_is_not() -> None:
    about = {
        "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8000-8010"}], "81/tcp": None}},
        "NetworkSettings": {"Ports": {"80/tcp": [{"HostPort": "8007"}], "9/tcp": None}},
    }
    assert find_published_ports(about) == {8007}


def test_a_mount_has_a_source_on_the_host() -> None:
    rows = [
        {"Type": "bind", "Source": "/srv/app", "Destination": "/app", "RW": True},
        {"Type": "tmpfs", "Source": "", "Destination": "/tmp", "RW": True},  # noqa: S108  a tmpfs of no host
    ]
    assert find_mounts({"Mounts": rows}) == (Mount("/srv/app", PurePath("/app"), writable=True),)
    assert find_mounts({}) == ()
